"""A translator of the deployment's own: other keys and names everywhere, and nothing else changes."""

import json
from dataclasses import replace

import dagster as dg
import pytest

from sync_defs import ConfigurationError, TableSync
from sync_defs.inbox import DrainOptions, Inbox, read_message
from sync_defs.orchestration import SyncTranslator, SyncTranslatorData, build_sync_definitions
from sync_defs.orchestration.inbox_job import Pace, inbox_job
from sync_defs.orchestration.names import DATABASE_KEY, HANDOFF_KEY
from tests.orchestration.conftest import stock

KEY = dg.AssetKey(["shop", "stock"])


class ShopTranslator(SyncTranslator):
    def get_asset_spec(self, data):
        spec = super().get_asset_spec(data)
        return spec.replace_attributes(
            key=spec.key.with_prefix("shop"),
            group_name="catalogue",
            owners=["team:shop"],
            tags={**spec.tags, "domain": "shop"},
            metadata={**spec.metadata, "runbook": "https://wiki.example.com/stock"},
        )

    def get_names(self, data):
        names = super().get_names(data)
        return replace(
            names, job=f"run_{data.job.name}", schedule="hourly_stock", inbox_sensor="stock_bell", pool="erp"
        )


@pytest.fixture
def translated(shop, database_url):
    """The shop with other names."""
    shop.defs = build_sync_definitions(
        {"stock": shop.job},
        database_url=database_url,
        resources={"source": shop.source},
        translator=ShopTranslator(),
    )
    return shop


def run(shop, config=None):
    run_config = {"ops": {"shop__stock": {"config": config}}} if config else {}
    job = shop.defs.resolve_job_def("run_stock")
    return job.execute_in_process(instance=shop.instance, run_config=run_config, raise_on_error=False)


def checks_of(result):
    events = [e for e in result.all_events if e.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION]
    return {e.event_specific_data.asset_key for e in events}, {e.event_specific_data.check_name for e in events}


def test_all_that_is_told_is_told_of_the_translated_asset(translated, as_plain):
    shop = translated
    shop.source.records = [{"sku": "A", "qty": 1}, {"sku": "B", "qty": "many"}]
    assert run(shop, {"dry_run": True}).success
    assert len(shop.instance.fetch_observations(KEY, limit=5).records) == 1
    result = run(shop)
    assert (result.success, shop.rows()) == (True, {"A": 1})
    [record] = shop.instance.fetch_materializations(KEY, limit=5).records
    metadata = as_plain(record.asset_materialization.metadata)
    assert metadata["sync_defs/rejects"] == "/assets/shop/stock?view=checks&checkDetail=no_rejected_records"
    keys, names = checks_of(result)
    assert (keys, len(names)) == ({KEY}, 6)


def test_messages_are_told_of_the_translated_asset(translated, database):
    body = json.dumps({"type": "stock.changed", "data": {"sku": "A", "qty": 5}}).encode()
    Inbox(database).enqueue(read_message(translated.job, message_id="m1", body=body, now=database.now()))
    data = SyncTranslatorData(job=translated.job, target_kind="sqlite")
    _, found = ShopTranslator().translate(data)
    pace = Pace(linger_s=0, burst=DrainOptions(linger_s=0))
    result = inbox_job(translated.job, names=found, pace=pace).execute_in_process(
        instance=translated.instance, resources={DATABASE_KEY: database, HANDOFF_KEY: dg.mem_io_manager}
    )
    assert checks_of(result)[0] == {KEY}
    assert len(translated.instance.fetch_materializations(KEY, limit=5).records) == 1


def test_the_definitions_have_the_translated_names():
    job = TableSync(lambda: None, name="stock", target=stock, key="sku", fields={"quantity": "qty"}, every="1h")
    defs = build_sync_definitions({"stock": job}, database_url="sqlite:///x.db", translator=ShopTranslator())
    repository = defs.get_repository_def()
    [spec] = defs.resolve_all_asset_specs()
    assert (spec.key, spec.group_name, list(spec.owners)) == (KEY, "catalogue", ["team:shop"])
    assert (spec.tags["domain"], spec.kinds) == ("shop", {"sqlite"})
    assert "runbook" in spec.metadata
    assert "sync_defs/policies" in spec.metadata
    assert {"run_stock", "stock_inbox"} <= set(repository.job_names)
    assert {"hourly_stock"} < {schedule.name for schedule in repository.schedule_defs}
    assert {sensor.name: sensor.job_name for sensor in repository.sensor_defs if sensor.targets} == {
        "stock_bell": "stock_inbox"
    }


def test_two_jobs_of_one_name_are_refused():
    class SameForAll(SyncTranslator):
        def get_names(self, data):
            return replace(super().get_names(data), job="sync")

    jobs = {
        name: TableSync(lambda: None, name=name, target=stock, key="sku", fields={"quantity": "qty"})
        for name in ("stock", "prices")
    }
    with pytest.raises(ConfigurationError, match="the translator gives 'sync' to the jobs 'stock' and 'prices'"):
        build_sync_definitions(jobs, database_url="sqlite:///x.db", translator=SameForAll())
