"""One sensor for all jobs: each job with due messages gets its run, whatever waits for the others."""

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from sync_defs import ConfigurationError, Database, TableSync
from sync_defs.inbox import DrainOptions, Inbox, Message, MessageItem, read_message
from sync_defs.inbox.attendance import attending
from sync_defs.orchestration import build_sync_definitions
from sync_defs.orchestration.doorbell import INLINE_PATIENCE_S, Pulse, inbox_sensors
from sync_defs.orchestration.inbox_job import OTHERS_WAIT_S, Pace, bursts
from sync_defs.orchestration.names import DATABASE_KEY
from sync_defs.store import SqlStore
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
    with attending(database, "stock", token="run-1"):
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


def test_a_run_that_stays_makes_room_for_others_that_wait(jobs, database, send, clock):
    """All places of runs may be taken by drains that only wait for more."""
    left_at = []

    def sleep(seconds):
        clock.sleep(seconds)
        if not left_at:
            send("prices")
            left_at.append(clock.monotonic())

    send("stock")
    pace = Pace(linger_s=30, burst=DrainOptions(linger_s=0), monotonic=clock.monotonic, sleep=sleep)
    with attending(database, "stock", token="run-1"):
        assert len(list(bursts(jobs["stock"], SqlStore(database), others=["prices"], run_id="r", pace=pace))) == 1
    assert OTHERS_WAIT_S <= clock.monotonic() - left_at[0] < OTHERS_WAIT_S + 3


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
