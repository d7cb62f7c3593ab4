"""The checks of an asset: which there are, and what a run says in them."""

from datetime import timedelta

import dagster as dg
import pytest

from sync_defs import Checks, Database, mark, table_sync
from sync_defs.orchestration import build_sync_definitions
from sync_defs.orchestration.job_checks import standing_verdicts
from tests.orchestration.conftest import Shop, Source, stock

RUN_CHECKS = ["fetched_as_many_as_usual", "no_rejected_records", "no_withheld_deletes", "outcomes_add_up"]
STANDING = ["inbox_has_no_dead_messages", "inbox_keeps_up", "synced_on_time"]


@pytest.fixture
def open_shop(database_url, instance):
    """Make a shop whose job fetches everything each time."""
    opened = []

    def make(**options):
        source = Source()

        @table_sync(target=stock, key="sku", fields={"quantity": "qty"}, create_table=True, name="stock", **options)
        def job(source):
            yield from source.fetch(None)

        database = Database(database_url)
        opened.append(database)
        database.upgrade()
        defs = build_sync_definitions({"stock": job}, database_url=database_url, resources={"source": source})
        return Shop(job=job, source=source, database=database, defs=defs, instance=instance)

    yield make
    for database in opened:
        database.close()


def states(result):
    events = [e for e in result.all_events if e.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION]
    return {e.event_specific_data.check_name: e.event_specific_data for e in events}


def records(count):
    return [{"sku": f"S{number:03}", "qty": number} for number in range(count)]


def test_every_check_is_evaluated_and_has_its_figures(open_shop, as_plain):
    shop = open_shop(on_missing=mark(listed=0), every="1h")
    shop.source.records = records(30)
    shop.run()
    found = states(shop.run())
    assert {name: (check.passed, check.severity.value) for name, check in found.items()} == {
        "outcomes_add_up": (True, "ERROR"),
        **dict.fromkeys([name for name in RUN_CHECKS + STANDING if name != "outcomes_add_up"], (True, "WARN")),
    }
    figures = {name: as_plain(check.metadata) for name, check in found.items()}
    assert figures["outcomes_add_up"] == {
        "sync_defs/fetched": 30,
        "sync_defs/created": 0,
        "sync_defs/updated": 0,
        "sync_defs/unchanged": 30,
        "sync_defs/skipped": 0,
        "sync_defs/stale": 0,
        "sync_defs/rejected": 0,
    }
    assert figures["no_rejected_records"] == {
        "sync_defs/rejected": 0,
        "sync_defs/open_rejects": 0,
        "sync_defs/rejected_rate": 0.0,
    }
    assert figures["no_withheld_deletes"] == {
        "sync_defs/missing": 0,
        "sync_defs/withheld": 0,
        "sync_defs/deleted": 0,
        "sync_defs/marked": 0,
    }
    assert figures["fetched_as_many_as_usual"] == {
        "sync_defs/fetched": 30,
        "sync_defs/usually_fetched": 30.0,
        "sync_defs/least_expected": 15.0,
    }
    assert set(figures["synced_on_time"]) == {"sync_defs/age_s", "sync_defs/last_sync"}


def test_a_fetch_that_shrinks_is_suspicious_until_another_full_one(open_shop, as_plain):
    """Other runs say nothing of what a full fetch brings: chosen ids do not turn the checks green."""
    shop = open_shop(on_missing=mark(listed=0))
    shop.source.records = records(30)
    first = states(shop.run())["fetched_as_many_as_usual"]
    assert (first.passed, as_plain(first.metadata)) == (False, {"sync_defs/fetched": 30, "sync_defs/evaluated": False})
    assert first.description == "Not evaluated: there is no earlier full fetch to compare with."
    shop.source.records = records(10)
    for config in ({}, {"external_ids": ["S001"]}):
        found = states(shop.run(config))
        assert [not found[name].passed for name in RUN_CHECKS] == [True, False, True, False]
        assert found["fetched_as_many_as_usual"].description == "10 fetched, usually 30"
        assert as_plain(found["no_withheld_deletes"].metadata)["sync_defs/withheld"] == 20
    shop.source.records = records(30)
    assert all(check.passed for check in states(shop.run()).values())


def test_many_rejected_records_are_an_error(open_shop):
    shop = open_shop(checks=Checks(rejected=0.1))
    shop.source.records = [*records(26), *({"sku": f"X{number}", "qty": "many"} for number in range(4))]
    check = states(shop.run())["no_rejected_records"]
    assert (check.passed, check.severity, check.description) == (
        False,
        dg.AssetCheckSeverity.ERROR,
        "4 of 30 rejected, 4 open; over the limit of 10%",
    )


def test_each_check_can_be_turned_off(open_shop):
    off = Checks(
        outcomes=False,
        rejected=None,
        withheld=False,
        fetched=None,
        freshness=None,
        dead_messages=False,
        inbox_lag=None,
    )
    shop = open_shop(on_missing=mark(listed=0), every="1h", checks=off)
    shop.source.records = records(1)
    result = shop.run()
    assert (result.success, states(result)) == (True, {})
    assert shop.rows() == {"S000": 0}


def test_a_failed_run_leaves_no_check_green(open_shop):
    shop = open_shop(every="1h")
    shop.source.records = records(1)
    shop.run()
    shop.run()
    shop.source.error = ValueError()
    failed = shop.run()
    graph = shop.defs.resolve_asset_graph()
    newest = shop.instance.event_log_storage.get_latest_asset_check_execution_by_key(list(graph.asset_check_keys))
    assert {record.run_id for record in newest.values()} == {failed.run_id}
    assert {record.status.value for record in newest.values()} == {"PLANNED"}


def test_lateness_shows_without_a_run(open_shop, clock):
    shop = open_shop(every="1h")
    shop.source.records = records(1)
    shop.run()
    shop.database.clock = clock
    clock.now += timedelta(hours=3)
    [late] = standing_verdicts(shop.job, shop.database, ["synced_on_time"])
    assert (late.passed, late.severity) == (False, dg.AssetCheckSeverity.ERROR)


def test_the_asset_has_the_freshness_policy_of_its_schedule(open_shop):
    shop = open_shop(every="1h")
    [spec] = shop.defs.resolve_all_asset_specs()
    policy = spec.freshness_policy
    assert (policy.warn_window.to_timedelta(), policy.fail_window.to_timedelta()) == (
        timedelta(minutes=90),
        timedelta(minutes=150),
    )
