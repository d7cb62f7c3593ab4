"""One sensor for all jobs: each job with due messages gets its run, whatever waits for the others."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from sqlalchemy import Column, Integer, MetaData, String, Table, select
from sqlalchemy.exc import OperationalError

from sync_defs import ConfigurationError, Database, TableSync
from sync_defs.inbox import DrainOptions, Inbox, Message, MessageItem, read_message
from sync_defs.inbox.attendance import ATTENDANCE_S, Attendance, is_attended
from sync_defs.inbox.guests import LOOK_EVERY_S, STUCK_S, WAITED_S, Guests
from sync_defs.orchestration import build_sync_definitions
from sync_defs.orchestration.doorbell import INLINE_PATIENCE_S, QUEUED_S, RING_S, Pulse, inbox_sensors, queued_jobs
from sync_defs.orchestration.inbox_job import Pace, bursts
from sync_defs.orchestration.names import DATABASE_KEY, TRIGGER_TAG
from sync_defs.store import SqlStore
from sync_defs.store.schema import runs
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


def test_a_tick_rings_for_some_and_the_next_one_for_the_others(tick, send, monkeypatch, clock):
    """To make a run takes Dagster as long as twenty messages do."""
    monkeypatch.setattr("sync_defs.orchestration.doorbell.MOST_RUNG", 2)
    for name in NAMES:
        send(name)
    first = tick()
    assert rung(first) == ["flooded_inbox", "prices_inbox"]
    clock.now += timedelta(seconds=RING_S)  # long enough for these to be rung for again, since nobody came
    second = tick(first.cursor)
    assert rung(second) == ["stock_inbox", "flooded_inbox"]
    assert rung(tick(second.cursor)) == ["prices_inbox"]


def test_a_run_finds_no_place_if_it_has_been_queued_for_some_seconds(instance, defs, jobs):
    """Each one is queued at first."""
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("sync_defs"), "__repository__")
    run = instance.create_run_for_job(
        defs.resolve_job_def("stock_inbox"),
        status=dg.DagsterRunStatus.QUEUED,
        tags={TRIGGER_TAG: "webhook"},
        remote_job_origin=RemoteJobOrigin(repository, "stock_inbox"),
    )
    inbox_jobs = {f"{name}_inbox": job for name, job in jobs.items()}
    now = datetime.now(tz=UTC)
    assert queued_jobs(instance, inbox_jobs, now=lambda: now) == []
    later = now + timedelta(seconds=QUEUED_S + 1)
    assert queued_jobs(instance, inbox_jobs, now=lambda: later) == ["stock"]
    assert queued_jobs(instance, {"prices_inbox": jobs["prices"]}, now=lambda: later) == []
    instance.report_run_canceled(run)
    assert queued_jobs(instance, inbox_jobs, now=lambda: later) == []


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
def guests_of(jobs, database, clock):
    """Return what makes the guests of a run of `stock`; the runs of all jobs in `queued` wait for a place."""

    def make(*names, run_id="r", queued=NAMES, is_one_for_all=False):
        others = [jobs[name] for name in names]
        return Guests(
            jobs["stock"],
            others=others,
            database=database,
            run_id=run_id,
            queued=lambda: queued,
            is_one_for_all=is_one_for_all,
            monotonic=clock.monotonic,
        )

    return make


@pytest.fixture
def stay(jobs, database, clock):
    """Return what drains `stock` like a run that stays for 30 s, with guests; gives the times of its sleeps.

    `at` says what happens before a sleep, by its number.
    """

    def drained(guests, at):
        slept = []

        def sleep(seconds):
            at.get(len(slept), lambda: None)()
            slept.append(clock.monotonic())
            clock.sleep(seconds)

        pace = Pace(linger_s=30, burst=DrainOptions(linger_s=0), monotonic=clock.monotonic, sleep=sleep)
        results = list(bursts(jobs["stock"], SqlStore(database), guests, run_id="r", pace=pace))
        assert {result.name for result in results} <= {"stock"}
        return slept

    return drained


def applied(database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(runs.c.job).order_by(runs.c.started_at, runs.c.job)).scalars())


AFTER = int(WAITED_S / 0.05)
"""Sleeps of a run until it takes somebody in."""


def test_a_run_that_stays_takes_in_a_job_whose_run_is_queued(database, send, stay, guests_of, tick):
    """All places of runs may be taken by drains that only wait for more."""
    send("stock")
    seen = []

    def look():
        seen.append((is_attended(database, "prices"), applied(database)))

    at = {
        0: lambda: send("prices", 1),
        AFTER - 10: look,
        AFTER + 40: look,
        AFTER + 41: lambda: send("prices", 2),
        AFTER + 43: look,
    }
    slept = stay(guests_of("prices", "flooded"), at)
    assert seen == [(False, ["stock"]), (True, ["stock", "prices"]), (True, ["stock", "prices", "prices"])]
    # It waits for more of either, and leaves both.
    assert 29 < slept[-1] - slept[AFTER + 42] < 31
    assert not is_attended(database, "prices")
    assert not is_attended(database, "stock")
    assert {event.asset_key.to_user_string() for event in tick().asset_events} == {"prices", "stock"}


def test_a_job_whose_run_has_a_place_or_is_not_wanted_is_left_alone(database, send, stay, guests_of):
    """Its sensor may have been stopped, so that nobody has asked for a run."""
    send("stock")
    slept = stay(guests_of("prices", queued=[]), {0: lambda: send("prices")})
    assert 29 < slept[-1] - slept[0] < 31
    assert applied(database) == ["stock"]


def test_one_job_without_a_place_stands_for_all_where_a_tick_rings_for_some(database, send, stay, guests_of):
    send("stock")
    stay(guests_of("prices", queued=["flooded"], is_one_for_all=True), {0: lambda: send("prices")})
    assert applied(database) == ["stock", "prices"]


def test_a_run_leaves_for_no_job_that_nobody_has_rung_for_yet(database, send, stay, guests_of, jobs):
    jobs["prices"] = job_named("prices", refetch=True, fetch_items=lambda ids, source: source(ids))
    send("stock")
    slept = stay(guests_of("prices", queued=["flooded"], is_one_for_all=True), {0: lambda: send("prices")})
    assert 29 < slept[-1] - slept[0] < 31


def test_who_lost_a_guest_to_another_run_does_not_hold_its_place_later(database, send, guests_of, clock):
    """Both looked before either took it in; held by a run that does not serve it, it would be rung for by nobody."""
    send("prices")
    clock.now += timedelta(seconds=WAITED_S + 1)
    first, second = guests_of("prices", run_id="r1"), guests_of("prices", run_id="r2")
    with second:
        with first:
            clock.sleep(LOOK_EVERY_S)
            seen = Inbox(database).unattended_jobs()
            first.serve()
            second._inbox.unattended_jobs = lambda **_: seen
            second.serve()
            assert is_attended(database, "prices")
        second._attendance._renew()
        assert not is_attended(database, "prices")


def test_a_run_that_stays_makes_room_for_a_job_that_asks_its_source(database, send, stay, guests_of, jobs):
    """Its resources are not this run's."""
    jobs["prices"] = job_named("prices", refetch=True, fetch_items=lambda ids, source: source(ids))
    send("stock")
    slept = stay(guests_of("prices"), {0: lambda: send("prices")})
    assert WAITED_S <= slept[-1] - slept[0] < WAITED_S + 3
    assert applied(database) == ["stock"]


def test_a_guest_in_trouble_is_sent_off_and_disturbs_nobody(database, send, stay, guests_of, jobs, tick):
    """The target is not there, which is no item's fault."""
    jobs["prices"] = TableSync(
        nothing,
        name="prices",
        target=Table("absent", MetaData(), Column("id", String(20), primary_key=True), Column("n", Integer)),
        key="id",
        fields={"n": "n"},
    )
    send("stock")
    rung_for = []

    def both():
        send("prices")
        send("flooded")

    at = {
        0: both,
        AFTER + 60: lambda: rung_for.extend(tick().run_requests),
        AFTER + 61: lambda: send("flooded", 2),
    }
    slept = stay(guests_of("prices", "flooded"), at)
    assert [request.job_name for request in rung_for] == ["prices_inbox"]
    assert 29 < slept[-1] - slept[AFTER + 61] < 31
    assert applied(database) == ["stock", "flooded", "flooded"]
    assert Inbox(database).counts("prices").ready == 1


def test_two_runs_share_the_guests_between_them(database, send, guests_of, clock):
    send("prices")
    clock.sleep(WAITED_S)
    with guests_of("prices", run_id="r1") as one, guests_of("prices", run_id="r2") as other:
        assert not other.serve()
        clock.sleep(1)
        assert [one.serve(), other.serve()] == [True, False]
        send("prices", 2)
        assert [other.serve(), one.serve()] == [False, True]


def test_guests_have_their_turn_while_the_host_is_flooded(jobs, database, send, guests_of, clock):
    """A flood leaves no pause in which somebody else has his turn: each batch, of 0.4 s, is followed by the next."""
    send("prices")
    clock.sleep(WAITED_S)
    for number in range(40):
        send("stock", number)

    pauses = []

    def work(is_at_risk):
        clock.sleep(0.1)
        pauses.append(is_at_risk)
        if len(pauses) == 20:
            assert not is_at_risk  # no transaction is open
            send("prices", 2)

    burst = DrainOptions(batch=1, linger_s=1, max_s=15, watch=work, sleep=clock.sleep)
    pace = Pace(linger_s=0, burst=burst, monotonic=clock.monotonic, sleep=clock.sleep)
    guests = guests_of("prices")
    clock.sleep(LOOK_EVERY_S)
    with guests:
        assert guests.serve()
        list(bursts(jobs["stock"], SqlStore(database), guests, run_id="r", pace=pace))
    order = applied(database)
    assert order.count("stock") == 40
    assert 2 < order.index("prices", 1) < 12


def test_a_host_goes_on_where_the_database_is_away_for_its_guests(database, send, stay, guests_of, monkeypatch):
    send("stock")
    lost = OperationalError("SELECT 1", {}, Exception("gone"))
    monkeypatch.setattr(Inbox, "unattended_jobs", lambda *_, **__: (_ for _ in ()).throw(lost))
    slept = stay(guests_of("prices"), {})
    assert 29 < slept[-1] - slept[0] < 31


def test_who_takes_over_is_found_out_by_the_next_renewal(database, clock):
    """The run of a guest began while the host attended to him, and stays when the host has left."""
    with Attendance(database, "prices", token="host"), Attendance(database, "prices", token="own") as own:
        assert not own.attend("prices")
    with Attendance(database, "prices", token="own") as own:
        with Attendance(database, "prices", token="host"):
            assert own.attend("prices")
        own._renew()
        assert is_attended(database, "prices")
    assert not is_attended(database, "prices")


def test_whoever_hangs_is_missed_in_time(database, clock, send, guests_of):
    """Code that hangs must not keep the others from getting runs of their own."""
    send("prices")
    clock.sleep(WAITED_S)
    with guests_of("prices") as guests:
        clock.sleep(1)
        assert guests.serve()
        clock.sleep(STUCK_S - ATTENDANCE_S)
        guests._attendance._renew()
        assert [is_attended(database, name) for name in ("stock", "prices")] == [True, True]
        clock.sleep(ATTENDANCE_S + 1)
        guests._attendance._renew()
        assert [is_attended(database, name) for name in ("stock", "prices")] == [False, False]
        guests.serve()
        guests._attendance._renew()
        assert [is_attended(database, name) for name in ("stock", "prices")] == [True, True]


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
