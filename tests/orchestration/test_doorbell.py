"""The inbox sensor: when it rings, and when it does not."""

import json

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from sync_defs import Database
from sync_defs.inbox import Inbox, read_message
from sync_defs.inbox.attendance import ATTENDANCE_S, Attendance, is_attended
from sync_defs.jobs import load_jobs
from sync_defs.orchestration.doorbell import Pulse, inbox_sensors, poll_seconds
from sync_defs.orchestration.names import DATABASE_KEY


@pytest.fixture
def tick(shop, database):
    """Evaluate one tick of the sensor, which looks once and does not wait."""

    def evaluate(cursor=None, pulse=None):
        [sensor] = inbox_sensors([shop.job], is_shared=False, pulse=pulse or Pulse(poll_s=0))
        context = dg.build_sensor_context(
            instance=shop.instance, cursor=cursor, resources={DATABASE_KEY: database}, definitions=shop.defs
        )
        return sensor.evaluate_tick(context)

    return evaluate


@pytest.fixture
def send(shop, database):
    """Put a message of one item into the inbox."""

    def enqueue(message_id="m1", **record):
        body = json.dumps({"type": "stock.changed", "data": record}).encode()
        Inbox(database).enqueue(read_message(shop.job, message_id=message_id, body=body, now=database.now()))

    return enqueue


def test_an_empty_inbox_is_skipped(tick):
    result = tick()
    assert (result.run_requests, result.skip_message) == ([], "No message is due that nobody attends to.")


def test_a_due_message_rings_once_and_is_not_in_the_request(tick, send, clock):
    send(sku="A", qty=1)
    result = tick()
    [request] = result.run_requests
    assert request.run_key == f"stock:{int(clock.now.timestamp()) // 30}"
    assert request.tags["sync_defs/trigger"] == "webhook"
    assert request.run_config == {}


def test_the_next_tick_within_half_a_minute_does_not_ring(tick, send, clock):
    send(sku="A", qty=1)
    first = tick()
    clock.sleep(29)
    second = tick(first.cursor)
    assert (second.run_requests, second.skip_message) == (
        [],
        "No other message is due; the bell was rung less than 30 s ago for stock.",
    )


def test_a_ring_that_led_to_nothing_is_repeated(tick, send, clock):
    """G17: a run that dies before it starts holds nothing up; its run key is spent, so the next one differs."""
    send(sku="A", qty=1)
    first = tick()
    clock.sleep(30)
    second = tick(first.cursor)
    assert len(second.run_requests) == 1
    assert second.run_requests[0].run_key != first.run_requests[0].run_key


CURSORS = ["", "stock:59", "nan", "1e400", "[]", '{"rung": 5}', '{"rung": {"stock": 1e12}, "told": null}']


@pytest.mark.parametrize("cursor", [*CURSORS, '{"rung": {"stock": 1}, "told": "yesterday"}'])
def test_no_cursor_makes_the_bell_mute(tick, send, cursor):
    send(sku="A", qty=1)
    assert len(tick(cursor).run_requests) == 1


def test_a_drain_at_work_is_not_disturbed(tick, send, database):
    send(sku="A", qty=1)
    with Attendance(database, "stock", token="run-1"):
        assert tick().run_requests == []
    assert len(tick().run_requests) == 1


def test_a_killed_drain_is_missed_after_its_lease(tick, send, database, clock):
    send(sku="A", qty=1)
    killed = Attendance(database, "stock", token="run-1")
    killed.__enter__()
    clock.sleep(ATTENDANCE_S - 1)
    assert is_attended(database, "stock")
    clock.sleep(1)
    assert len(tick().run_requests) == 1
    killed.__exit__(None, None, None)


def test_a_second_drain_leaves_the_first_ones_lease_alone(database):
    with Attendance(database, "stock", token="run-1"):
        with Attendance(database, "stock", token="run-2"):
            pass
        assert is_attended(database, "stock")
    assert not is_attended(database, "stock")


def test_a_queued_run_is_waited_for(tick, send, shop):
    send(sku="A", qty=1)
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("sync_defs"), "__repository__")
    run = shop.instance.create_run_for_job(
        shop.defs.resolve_job_def("stock_inbox"),
        status=dg.DagsterRunStatus.QUEUED,
        remote_job_origin=RemoteJobOrigin(repository, "stock_inbox"),
    )
    assert tick().run_requests == []
    shop.instance.report_run_canceled(run)
    assert len(tick().run_requests) == 1


def test_a_run_that_died_while_starting_is_not_waited_for(tick, send, shop):
    """Dagster leaves it at STARTING for ever."""
    send(sku="A", qty=1)
    shop.instance.create_run_for_job(shop.defs.resolve_job_def("stock_inbox"), status=dg.DagsterRunStatus.STARTING)
    assert len(tick().run_requests) == 1


def test_a_message_that_comes_during_a_tick_is_noticed(tick, send, clock):
    def sleep(seconds):
        clock.sleep(seconds)
        send(sku="A", qty=1)

    start = clock.monotonic()
    assert len(tick(pulse=Pulse(poll_s=4.5, monotonic=clock.monotonic, sleep=sleep)).run_requests) == 1
    assert clock.monotonic() - start <= 0.1


def test_a_tick_gives_up_in_time(tick, clock):
    start = clock.monotonic()
    assert tick(pulse=Pulse(poll_s=4.5, monotonic=clock.monotonic, sleep=clock.sleep)).run_requests == []
    assert 4.5 <= clock.monotonic() - start < 4.7


def test_a_round_of_many_sensors_stays_short():
    assert [poll_seconds(sensors, use_threads=True) for sensors in (1, 4, 20, 100)] == [4.5, 4.5, 1.0, 0.2]
    assert [poll_seconds(sensors, use_threads=False) for sensors in (1, 4, 20)] == [20.0, 4.5, 1.0]


def test_a_database_that_needs_a_migration_is_told_of(postgresql_url, instance):
    with Database(postgresql_url) as empty:
        context = dg.build_sensor_context(instance=instance, resources={DATABASE_KEY: empty})
        [sensor] = inbox_sensors([load_jobs()["erp_inventory"]], is_shared=False)
        result = sensor.evaluate_tick(context)
    assert "run: sync-defs db upgrade" in (result.skip_message or "")
