"""A job with partitions in Dagster: static, dynamic and of a time."""

from datetime import UTC, datetime

import dagster as dg
import pytest
from sqlalchemy import Column, MetaData, String, Table, select

from sync_defs import ConfigurationError, Database, TableSync
from sync_defs.orchestration import build_sync_definitions

offers = Table(
    "offers", MetaData(), Column("sku", String(40), primary_key=True), Column("shop", String(20), nullable=False)
)
STATIC = dg.StaticPartitionsDefinition(["de", "fr"])


def job_of(partitions, **options):
    return TableSync(
        lambda source, partition: source(partition),
        name="offers",
        target=offers,
        key="sku",
        fields={"shop": "shop"},
        on_missing="delete",
        in_partition=lambda table, key: table.c.shop == key,
        create_table=True,
        partitions_def=partitions,
        **options,
    )


def build(job, url="sqlite:///x.db", source=None):
    return build_sync_definitions({"offers": job}, database_url=url, resources={"source": source})


def test_each_partition_is_materialized_by_itself(database_url, instance, as_plain):
    stock = {"de": ["A", "B"], "fr": ["C"]}

    def source(partition):
        return [{"sku": sku, "shop": partition} for sku in stock[partition]]

    with Database(database_url) as database:
        database.upgrade()
        job = build(job_of(STATIC), database_url, source).resolve_job_def("sync_offers")
        for key in ("de", "fr"):
            assert job.execute_in_process(instance=instance, partition_key=key).success
        stock["de"] = ["A"]
        config = {"ops": {"offers": {"config": {"dry_run": True}}}}
        assert job.execute_in_process(instance=instance, partition_key="de", run_config=config).success
        assert job.execute_in_process(instance=instance, partition_key="de").success
        with database.read() as connection:
            rows = {row.sku: row.shop for row in connection.execute(select(offers))}
    assert rows == {"A": "de", "C": "fr"}
    found = instance.fetch_materializations(dg.AssetKey("offers"), limit=9).records
    assert [record.asset_materialization.partition for record in reversed(found)] == ["de", "fr", "de"]
    metadata = as_plain(found[0].asset_materialization.metadata)
    assert (metadata["sync_defs/fetch"], metadata["sync_defs/partition"]) == ("everything of partition de", "de")
    assert metadata["sync_defs/deleted"] == 1
    [dry] = instance.fetch_observations(dg.AssetKey("offers"), limit=9).records
    assert dry.asset_observation.partition == "de"


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [
        (STATIC, ["de", "fr"]),
        (dg.DynamicPartitionsDefinition(name="shops"), ["at", "ch"]),
        (dg.DailyPartitionsDefinition(start_date="2026-11-01"), ["2026-11-19"]),
    ],
    ids=["static", "dynamic", "daily"],
)
def test_the_schedule_asks_for_each_partition_and_for_the_newest_of_a_time(partitions, expected, tmp_path):
    repository = build(job_of(partitions, every="1d")).get_repository_def()
    options = {"scheduled_execution_time": datetime(2026, 11, 20, tzinfo=UTC), "repository_def": repository}
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:  # a schedule reaches a stored one alone
        instance.add_dynamic_partitions("shops", ["at", "ch"])
        with dg.build_schedule_context(instance=instance, **options) as context:
            requests = repository.get_schedule_def("offers_schedule").evaluate_tick(context).run_requests or []
    assert [request.partition_key for request in requests] == expected
    assert {request.tags["sync_defs/trigger"] for request in requests} == {"schedule"}


def test_partitions_that_are_none_are_refused():
    with pytest.raises(ConfigurationError, match="partitions_def is list; give one of Dagster's"):
        build(job_of(["de", "fr"]))
    with pytest.raises(ConfigurationError, match="the fetch has a parameter partition; give partitions_def= too"):
        build(job_of(None))
