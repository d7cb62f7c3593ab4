"""One sensor for all jobs: each job with due messages gets its run, whatever waits for the others."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, select

from sync_defs import ConfigurationError, Database, TableSync
from sync_defs.inbox import DrainOptions, Inbox, Message, MessageItem, read_message
from sync_defs.inbox.attendance import ATTENDANCE_S, Attendance, is_attended
from sync_defs.inbox.guests import WAITED_S
from sync_defs.orchestration import build_sync_definitions
from sync_defs.orchestration.doorbell import INLINE_PATIENCE_S, Pulse, inbox_sensors
from sync_defs.orchestration.inbox_job import Pace, bursts
from sync_defs.orchestration.names import DATABASE_KEY
from sync_defs.store import SqlStore, presence
from sync_defs.store.schema import leases, runs
from tests.orchestration.conftest import Clock

NAMES = ["flooded", "prices", "stock"]


def nothing():
    return []


def job_named(name: str, **options) -> TableSync:
    table = Table(name, MetaData(), Column("id", String(20), primary_key=True), Column("n", Integer))
    return TableSync(nothing, name=name, target=table, key="id", fields={"n": "n"}, create_table=True, **options)


@pytest.fixture
def jobs():
    return {name: job_named(name) for name in NAMES}


@pytest.fixture
def clock(migrated_url):
    with Database(migrated_url) as database:
        return Clock(database.now())


@pytest.fixture
def database(migrated_url, clock) -> Iterator[Database]:
    with Database(migrated_url, clock=clock) as database:
        yield database


@pytest.fixture
def send(database, jobs):
    def enqueue(name, number=0):
        body = json.dumps({"id": f"i{number}", "n": number}).encode()
        message = read_message(jobs[name], message_id=f"{name}-{number}", body=body, now=database.now())
        Inbox(database).enqueue(message)

    return enqueue


@pytest.fixture
def flood(database):
    """Put thousands of items into the queue of one job."""
    items = tuple(MessageItem(external_id=f"f{number}", payload=b'{"id": "f", "n": 1}') for number in range(2_000))
    Inbox(database).enqueue(Message(job="flooded", message_id="flood", items=items))


@pytest.fixture
def defs(jobs):
    return build_sync_definitions(jobs, database_url="sqlite:///unused.db", sensors="shared")


@pytest.fixture
def tick(jobs, defs, database, instance):
    def evaluate(cursor=None, **options):
        [sensor] = inbox_sensors(list(jobs.values()), is_shared=True, pulse=Pulse(poll_s=0), **options)
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, resources={DATABASE_KEY: database}, definitions=defs
        )
        return sensor.evaluate_tick(context)

    return evaluate


def rung(result):
    return [request.job_name for request in result.run_requests]


def test_each_job_with_due_messages_gets_one_run(tick, send, clock):
    send("prices", 1)
    send("prices", 2)
    send("stock")
    result = tick()
    assert rung(result) == ["prices_inbox", "stock_inbox"]
    bucket = int(clock.now.timestamp()) // 30
    assert [request.run_key for request in result.run_requests] == [f"prices:{bucket}", f"stock:{bucket}"]


def test_a_flood_of_one_job_delays_no_other(tick, send, flood):
    """The flooded job is rung for once; a message of another job that comes then is seen by the next tick."""
    first = tick()
    assert rung(first) == ["flooded_inbox"]
    send("stock")
    assert rung(tick(first.cursor)) == ["stock_inbox"]


def test_a_job_that_is_drained_is_left_alone(tick, send, database):
    send("prices")
    send("stock")
    with Attendance(database, "stock", token="run-1"):
        assert rung(tick()) == ["prices_inbox"]


def test_messages_of_jobs_that_are_not_ours_ring_for_nobody(tick, database):
    item = MessageItem(external_id="A", payload=b"{}")
    Inbox(database).enqueue(Message(job="of_another_deployment", message_id="m", items=(item,)))
    assert rung(tick()) == []


def test_a_look_is_one_statement_whatever_the_number_of_jobs(database, send, flood):
    from tests.inbox.test_statements import sent_to, words

    inbox = Inbox(database)
    for name in ("prices", "stock"):
        send(name)
    with sent_to(database) as statements:
        assert inbox.unattended_jobs() == ["flooded", "prices", "stock"]
    assert len(words(statements)) == 1


@pytest.fixture
def stay(jobs, database, clock):
    """Return what drains `stock` like a run that stays for 30 s, with others beside it; gives the times of its sleeps.

    `at` says what happens before a sleep, by its number.
    """

    def drained(others, at):
        slept = []

        def sleep(seconds):
            at.get(len(slept), lambda: None)()
            slept.append(clock.monotonic())
            clock.sleep(seconds)

        pace = Pace(linger_s=30, burst=DrainOptions(linger_s=0), monotonic=clock.monotonic, sleep=sleep)
        results = list(bursts(jobs["stock"], SqlStore(database), others=others, run_id="r", pace=pace))
        assert [result.name for result in results] == ["stock"]
        return slept

    return drained


def applied(database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(runs.c.job).order_by(runs.c.started_at, runs.c.job)).scalars())


def test_a_run_that_stays_takes_in_a_job_whose_messages_wait(jobs, database, send, stay, tick):
    """All places of runs may be taken by drains that only wait for more."""
    send("stock")
    seen = []

    def look():
        seen.append((is_attended(database, "prices"), applied(database)))

    after = int(WAITED_S / 0.05)
    at = {
        0: lambda: send("prices", 1),
        after - 10: look,
        after + 40: look,
        after + 41: lambda: send("prices", 2),
        after + 43: look,
    }
    slept = stay([jobs["prices"], jobs["flooded"]], at)
    assert seen == [(False, ["stock"]), (True, ["stock", "prices"]), (True, ["stock", "prices", "prices"])]
    # It waits for more of either, and leaves both.
    assert 29 < slept[-1] - slept[after + 42] < 31
    assert not is_attended(database, "prices")
    assert not is_attended(database, "stock")
    assert {event.asset_key.to_user_string() for event in tick().asset_events} == {"prices", "stock"}


def test_a_run_that_stays_makes_room_for_a_job_that_asks_its_source(database, send, stay, jobs):
    """Its resources are not this run's."""
    jobs["prices"] = job_named("prices", refetch=True, fetch_items=lambda ids, source: source(ids))
    send("stock")
    slept = stay([jobs["prices"]], {0: lambda: send("prices")})
    assert WAITED_S <= slept[-1] - slept[0] < WAITED_S + 3
    assert applied(database) == ["stock"]


def test_a_guest_in_trouble_is_sent_off_and_gets_a_run(database, send, stay, jobs):
    """The target is not there, which is no item's fault."""
    jobs["prices"] = TableSync(
        nothing,
        name="prices",
        target=Table("absent", MetaData(), Column("id", String(20), primary_key=True), Column("n", Integer)),
        key="id",
        fields={"n": "n"},
    )
    send("stock")
    slept = stay([jobs["prices"]], {0: lambda: send("prices")})
    # Given back, the message is due anew.
    assert 2 * WAITED_S <= slept[-1] - slept[0] < 2 * WAITED_S + 3
    assert not is_attended(database, "prices")
    assert Inbox(database).counts("prices").ready == 1


def test_who_hangs_is_missed_in_time(database, clock, monkeypatch):
    """A guest whose code hangs must not keep the others from getting runs of their own."""
    monkeypatch.setattr(presence, "_RENEW_S", 0.01)
    is_stuck = threading.Event()
    with Attendance(database, "stock", token="r", is_stuck=is_stuck.is_set) as attendance:
        attendance.attend("prices")
        clock.sleep(ATTENDANCE_S - 1)
        deadline = time.monotonic() + 10
        while _ends(database) < clock.now + timedelta(seconds=ATTENDANCE_S) and time.monotonic() < deadline:
            time.sleep(0.01)
        is_stuck.set()
        time.sleep(0.1)
        clock.sleep(ATTENDANCE_S)
        assert [is_attended(database, name) for name in ("stock", "prices")] == [False, False]


def _ends(database):
    with database.read() as connection:
        return min(connection.execute(select(leases.c.expires_at).where(leases.c.token == "r")).scalars())


class Recorder:
    """Stands in for the process that applies at once, and does nothing."""

    def __init__(self):
        self.orders = []

    def order(self, names, seconds):
        self.orders.append((list(names), seconds))
        return False


def test_a_job_that_is_applied_at_once_gets_a_run_only_where_that_fails(tick, send, jobs, clock):
    jobs["stock"].delivery = "inline"
    worker = Recorder()
    send("stock")
    send("prices")
    assert rung(tick(worker=worker)) == ["prices_inbox"]
    [(names, seconds)] = worker.orders
    assert (names, seconds > 6) == (["stock"], True)  # longer than from a tick to the next but one
    clock.sleep(INLINE_PATIENCE_S + 1)
    assert rung(tick(worker=worker)) == ["prices_inbox", "stock_inbox"]


@pytest.mark.parametrize(
    ("count", "sensors", "expected"),
    [(2, "auto", 2), (4, "auto", 4), (5, "auto", 1), (200, "auto", 1), (2, "shared", 1), (5, "each", 5)],
)
def test_many_jobs_share_a_sensor(count, sensors, expected):
    jobs = {f"job_{number}": job_named(f"job_{number}") for number in range(count)}
    repository = build_sync_definitions(jobs, database_url="sqlite:///x.db", sensors=sensors).get_repository_def()
    names = [sensor.name for sensor in repository.sensor_defs if sensor.name != "sync_watch"]
    assert len(names) == expected
    assert ("inbox_sensor" in names) == (expected == 1)


def test_an_unknown_choice_of_sensors_is_named(jobs):
    unknown: Any = "all"
    with pytest.raises(ConfigurationError, match="sensors='all'; use 'auto', 'each', 'shared'"):
        build_sync_definitions(jobs, database_url="sqlite:///x.db", sensors=unknown)


def test_a_job_of_no_module_cannot_be_applied_at_once(jobs):
    jobs["stock"].delivery = "inline"
    with pytest.raises(ConfigurationError, match=r"job 'stock': delivery='inline' .* assign the job to a name"):
        build_sync_definitions(jobs, database_url="sqlite:///x.db")
