"""Dagster is told of every applied message, whoever applied it and whatever was killed in between."""

import json
from datetime import timedelta

import dagster as dg
import pytest

from sync_defs import Trigger
from sync_defs.inbox import DrainOptions, Inbox, drain, read_message
from sync_defs.orchestration.doorbell import Pulse, inbox_sensors
from sync_defs.orchestration.inbox_job import Pace, inbox_job
from sync_defs.orchestration.names import DATABASE_KEY, HANDOFF_KEY
from sync_defs.orchestration.telling import TELL_S
from sync_defs.runner import sync_single_item
from sync_defs.store import SqlStore


@pytest.fixture
def send(shop, database):
    def enqueue(message_id, **record):
        body = json.dumps({"type": "stock.changed", "data": record}).encode()
        Inbox(database).enqueue(read_message(shop.job, message_id=message_id, body=body, now=database.now()))

    return enqueue


@pytest.fixture
def tick(shop, database):
    """Evaluate one tick, and store its events as the daemon does before it stores the cursor."""

    def evaluate(cursor=None):
        [sensor] = inbox_sensors([shop.job], is_shared=False, pulse=Pulse(poll_s=0))
        resources = {DATABASE_KEY: database}
        context = dg.build_sensor_context(
            instance=shop.instance, cursor=cursor, resources=resources, definitions=shop.defs
        )
        result = sensor.evaluate_tick(context)
        for event in result.asset_events:
            shop.instance.report_runless_asset_event(event)
        return result

    return evaluate


@pytest.fixture
def apply(shop, database):
    """Drain as a run does, which has a minute to tell of it."""

    def run(run_id):
        options = DrainOptions(linger_s=0, report_after_s=TELL_S)
        return drain(shop.job, SqlStore(database), Inbox(database), run_id=run_id, options=options)

    return run


def summaries(shop):
    return [str(event.metadata["sync_defs/summary"].value) for event in shop.materializations()]


def test_a_run_that_died_between_commit_and_report_is_told_of_by_a_later_tick(shop, send, apply, tick, clock):
    send("m1", sku="A", qty=1)
    apply("dead-run")
    assert tick().asset_events == []
    clock.now += timedelta(seconds=TELL_S)
    materialization, check = tick().asset_events
    assert materialization.metadata["sync_defs/summary"].value == "stock: 1 message applied = 1 created"
    assert (check.check_name, check.passed) == ("no_rejected_records", True)


def test_an_inbox_is_told_of_when_it_is_unwell_and_when_it_is_well_again(shop, send, apply, tick, clock, database):
    """A pass after a pass would take Dagster as long as the sync of an item, of each job again and again."""

    def checks(cursor=None):
        result = tick(cursor)
        inbox = [event for event in result.asset_events if "inbox" in getattr(event, "check_name", "")]
        return [event.passed for event in inbox], result.cursor

    send("m1", sku="A" * 300, qty=1)  # too long an id: dead at once
    send("m2", sku="B", qty=1)
    apply("dead-run")
    clock.now += timedelta(seconds=TELL_S)
    told, cursor = checks()
    assert told == [False, True]
    told, cursor = checks(cursor)
    assert told == []
    Inbox(database).discard(shop.job.name)
    told, cursor = checks(cursor)
    assert told == [True, True]
    told, _ = checks(cursor)
    assert told == []


def test_a_pass_is_told_where_dagster_was_told_otherwise_last_by_whomever(shop, send, apply, tick, clock):
    failed = dg.AssetCheckEvaluation(check_name="inbox_keeps_up", passed=False, asset_key=dg.AssetKey("stock"))
    shop.instance.report_runless_asset_event(failed)
    send("m1", sku="A", qty=1)
    apply("dead-run")
    clock.now += timedelta(seconds=TELL_S)
    told = [(event.check_name, event.passed) for event in tick().asset_events[1:]]
    assert told == [("no_rejected_records", True), ("inbox_keeps_up", True)]


def test_many_transactions_are_one_event(shop, send, apply, tick, clock, as_plain):
    for number in range(5):
        send(f"m{number}", sku="A" if number < 2 else f"B{number}", qty=number)
        apply(f"run-{number}")
    clock.now += timedelta(seconds=TELL_S)
    tick()
    [event] = shop.materializations()
    metadata = as_plain(event.metadata)
    assert metadata["sync_defs/summary"] == "stock: 5 messages applied = 4 created + 1 updated"
    assert metadata["sync_defs/transactions"] == 5
    items = {row["external_id"]: row["action"] for row in metadata["sync_defs/items"]}
    assert items == {"A": "updated", "B2": "created", "B3": "created", "B4": "created"}


def test_a_tick_whose_cursor_was_stored_told_for_good(shop, send, apply, tick, clock):
    send("m1", sku="A", qty=1)
    apply("dead-run")
    clock.now += timedelta(seconds=TELL_S)
    told = tick()
    tick(told.cursor)
    clock.now += timedelta(hours=1)
    assert tick(told.cursor).asset_events == []
    assert len(summaries(shop)) == 1


def test_a_tick_that_was_lost_is_told_again(shop, send, apply, tick, clock):
    """The daemon may be killed before it has stored anything; then no cursor comes back."""
    send("m1", sku="A", qty=1)
    apply("dead-run")
    clock.now += timedelta(seconds=TELL_S)
    assert len(tick().asset_events) == 2
    assert tick().asset_events == []
    clock.now += timedelta(seconds=TELL_S)
    assert len(tick().asset_events) == 2


def test_a_run_that_lives_tells_itself_and_once(shop, send, tick, clock, database):
    send("m1", sku="A", qty=1)
    pace = Pace(linger_s=0, burst=DrainOptions(linger_s=0, report_after_s=TELL_S))
    inbox_job(shop.job, pace=pace).execute_in_process(
        instance=shop.instance, resources={DATABASE_KEY: database, HANDOFF_KEY: dg.mem_io_manager}
    )
    assert summaries(shop) == ["stock: 1 message applied = 1 created"]
    clock.now += timedelta(hours=1)
    assert tick().asset_events == []


def test_items_that_were_applied_outside_dagster_are_told_of(shop, tick, database, as_plain):
    sync_single_item(shop.job, {"sku": "A", "qty": 1}, database=database, trigger=Trigger.CLI)
    tick()
    [event] = shop.materializations()
    assert as_plain(event.metadata)["sync_defs/trigger"] == "cli"


def test_rejected_items_fail_the_check_and_materialize_nothing(shop, send, apply, tick, clock, as_plain):
    send("m1", sku="A", qty="many")
    apply("dead-run")
    clock.now += timedelta(seconds=TELL_S)
    check, *_ = tick().asset_events
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    metadata = as_plain(check.metadata)
    assert metadata["sync_defs/rejected"] == 1
    assert metadata["sync_defs/rejected_records"] == [
        {"external_id": "A", "action": "rejected", "reason": "quantity: an integer is wanted, not str"}
    ]
    assert summaries(shop) == []


def test_a_full_sync_is_told_of_by_its_own_run_alone(shop, tick, clock):
    shop.source.records = [{"sku": "A", "qty": 1}]
    assert shop.run().success
    clock.now += timedelta(hours=1)
    assert tick().asset_events == []
