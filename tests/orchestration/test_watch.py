"""The watch: one notice for each change of a job's state, and checks that change without a run."""

import json
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

from sync_defs import FetchError
from sync_defs.alerts import Notifier
from sync_defs.errors import AlertError
from sync_defs.inbox import Inbox, read_message
from sync_defs.orchestration.names import DATABASE_KEY
from sync_defs.orchestration.watch import Alerting, watch_sensor
from sync_defs.orchestration.watch_cursor import WatchCursor

ROOT = Path(__file__).parents[2]


class Channel(Notifier):
    """Keeps what it is told, or fails as often as it was told to."""

    def __init__(self):
        self.told = []
        self.failures = []

    def notify(self, notice):
        if self.failures:
            raise self.failures.pop(0)
        self.told.append((notice.title, [(p.source, p.sentence) for p in notice.problems]))

    @property
    def titles(self):
        return [title for title, _ in self.told]


@pytest.fixture
def channel():
    return Channel()


@pytest.fixture
def look(shop, database, channel):
    """Evaluate a tick, and keep events and cursor as the daemon does."""
    cursors: list[str | None] = [None]

    def evaluate(*more, **options):
        sensor = watch_sensor([shop.job], Alerting(notifiers=[channel, *more], **options))
        context = dg.build_sensor_context(
            instance=shop.instance, cursor=cursors[-1], resources={DATABASE_KEY: database}, definitions=shop.defs
        )
        result = sensor.evaluate_tick(context)
        for event in result.asset_events:
            shop.instance.report_runless_asset_event(event)
        cursors.append(result.cursor)
        return result

    return evaluate


def test_each_change_of_state_is_told_once(shop, look, channel):
    shop.source.records = [{"sku": "A", "qty": 1}]
    shop.run()
    look()
    assert channel.told == []
    shop.source.records = [{"sku": "A", "qty": "many"}]
    for _ in range(2):
        shop.run()
        look()
    assert channel.told == [("stock: OK → WARN", [("no_rejected_records", "1 of 1 rejected, 1 open")])]
    shop.source.error = FetchError("the shop is closed")
    for _ in range(2):
        shop.run()
        look()
    title, problems = channel.told[-1]
    assert (title, problems[0], len(channel.told)) == ("stock: WARN → ERROR", ("sync_stock", "the shop is closed"), 2)
    shop.source.records, shop.source.error = [{"sku": "A", "qty": 2}], None
    shop.run({"full": True})
    look()
    look()
    assert channel.titles == ["stock: OK → WARN", "stock: WARN → ERROR", "stock: ERROR → OK"]


def test_a_sync_that_is_late_is_told_and_shown_without_a_run(shop, look, channel, clock, as_plain):
    shop.source.records = [{"sku": "A", "qty": 1}]
    shop.run()
    assert {event.check_name: event.passed for event in look().asset_events} == {
        "synced_on_time": True,
        "inbox_has_no_dead_messages": True,
        "inbox_keeps_up": True,
    }
    clock.now += timedelta(hours=5)
    [late] = look().asset_events
    assert (late.check_name, late.passed, late.severity) == ("synced_on_time", False, dg.AssetCheckSeverity.ERROR)
    assert look().asset_events == []
    assert channel.titles == ["stock: OK → ERROR"]


def test_what_was_not_delivered_comes_again_and_only_where_it_failed(shop, look, channel):
    other = Channel()
    shop.source.records = [{"sku": "A", "qty": "many"}]
    shop.run()
    channel.failures = [AlertError("the chat's webhook answered 500"), ValueError("s3cret")]
    for _ in range(4):
        look(other)
    assert channel.titles == other.titles == ["stock: OK → WARN"]


def test_a_state_that_has_passed_before_it_was_told_is_not_told(shop, look, channel):
    shop.source.records = [{"sku": "A", "qty": "many"}]
    shop.run()
    channel.failures = [AlertError("away")]
    look()
    shop.source.records = [{"sku": "A", "qty": 1}]
    shop.run({"full": True})
    look()
    assert channel.told == []


def test_a_notice_for_which_there_is_no_time_comes_with_the_next_look(shop, look, channel):
    shop.source.records = [{"sku": "A", "qty": "many"}]
    shop.run()
    seconds = iter([0.0, 26.0])
    look(monotonic=lambda: next(seconds))
    assert channel.told == []
    look()
    assert channel.titles == ["stock: OK → WARN"]


def test_a_job_that_was_never_synced_is_no_news(look, channel):
    result = look()
    assert [event.check_name for event in result.asset_events] == ["inbox_has_no_dead_messages", "inbox_keeps_up"]
    assert channel.told == []


def test_what_there_is_no_room_for_comes_with_the_next_looks_what_fails_first(shop, look, monkeypatch, database, clock):
    monkeypatch.setattr("sync_defs.orchestration.watch.MOST_CHANGES", 1)
    body = json.dumps({"type": "stock.changed", "data": {"sku": "A", "qty": 1}}).encode()
    Inbox(database).enqueue(read_message(shop.job, message_id="m1", body=body, now=database.now()))
    clock.now += timedelta(hours=1)
    told = [[(event.check_name, event.passed) for event in look().asset_events] for _ in range(3)]
    assert told == [[("inbox_keeps_up", False)], [("inbox_has_no_dead_messages", True)], []]


def test_a_run_that_dagster_starts_again_is_no_news_yet(shop, look, channel):
    shop.source.error = FetchError("the shop is closed")
    shop.run(tags={"dagster/will_retry": "true"})
    look()
    assert channel.told == []


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"told": 5, "failed": {}, "said": {}, "seen_until": null}'])
def test_a_cursor_that_a_person_has_edited_counts_as_empty(text):
    assert WatchCursor.read(text) == WatchCursor()


def test_a_cursor_is_read_as_it_was_written():
    cursor = WatchCursor(seen_until=5.5, failed={"stock": {"sync_stock": "no"}}, said={"a:b": "OK"}, told={"c": {}})
    assert WatchCursor.read(cursor.text()) == cursor


def test_the_pools_are_known_before_the_first_run(shop, database, tmp_path):
    """Dagster applies no limit in the pass over its queue in which it first meets a pool."""
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    overrides = {"concurrency": settings["concurrency"]}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides) as instance:
        sensor = watch_sensor([shop.job], Alerting())
        for _ in range(2):
            sensor.evaluate_tick(
                dg.build_sensor_context(instance=instance, resources={DATABASE_KEY: database}, definitions=shop.defs)
            )
        assert [(pool.name, pool.limit) for pool in instance.event_log_storage.get_pool_limits()] == [("sync_stock", 1)]
