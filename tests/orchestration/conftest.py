"""A small shop: one job, its source as a plain object, and its definitions on a fresh database of each kind."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import dagster as dg
import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select

from sync_defs import Cursor, Database, Retries, TableSync, mark, table_sync
from sync_defs.orchestration import build_sync_definitions

stock = Table(
    "stock",
    MetaData(),
    Column("sku", String(40), primary_key=True),
    Column("quantity", Integer, nullable=False),
    Column("listed", Integer, nullable=False, default=1, server_default="1"),
)


@dataclass
class Source:
    """What the job fetches: records, or an exception."""

    records: list[dict[str, Any]] = field(default_factory=list)
    error: Exception | None = None
    since: list[str | None] = field(default_factory=list)

    def fetch(self, since: str | None) -> Iterator[list[dict[str, Any]]]:
        self.since.append(since)
        yield self.records
        if self.error is not None:
            raise self.error


@dataclass
class Shop:
    """The definitions of one job, and a Dagster instance to run them on."""

    job: TableSync
    source: Source
    database: Database
    defs: dg.Definitions
    instance: dg.DagsterInstance

    def run(self, config: Mapping[str, Any] | None = None, *, job: str = "sync_stock", **kwargs):
        run_config = {"ops": {"stock": {"config": dict(config)}}} if config else {}
        definition = self.defs.resolve_job_def(job)
        return definition.execute_in_process(
            instance=self.instance, run_config=run_config, raise_on_error=False, **kwargs
        )

    def rows(self) -> dict[str, int]:
        with self.database.read() as connection:
            return {row.sku: row.quantity for row in connection.execute(select(stock).order_by(stock.c.sku))}

    def put(self, rows: Sequence[Mapping[str, Any]]) -> None:
        with self.database.write() as connection:
            stock.create(connection, checkfirst=True)
            connection.execute(insert(stock), list(rows))

    def materializations(self) -> list[dg.AssetMaterialization]:
        found = self.instance.fetch_materializations(dg.AssetKey("stock"), limit=10).records
        return [cast("dg.AssetMaterialization", record.asset_materialization) for record in reversed(found)]

    def observations(self) -> list[Mapping[str, Any]]:
        found = self.instance.fetch_observations(dg.AssetKey("stock"), limit=10).records
        return [cast("dg.AssetObservation", record.asset_observation).metadata for record in reversed(found)]


class Clock:
    """A clock that only `sleep` moves."""

    def __init__(self, start):
        self.now = start

    def __call__(self):
        return self.now

    def monotonic(self):
        return self.now.timestamp()

    def sleep(self, seconds):
        self.now += timedelta(seconds=seconds)


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as values, tables as lists of dicts."""
    values = {key: getattr(value, "value", value) for key, value in metadata.items()}
    for key, value in metadata.items():
        if isinstance(value, dg.TableMetadataValue):
            values[key] = [dict(record.data) for record in value.records]
    return values


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def shop(database_url: str, instance: dg.DagsterInstance) -> Iterator[Shop]:
    """A shop whose source is empty."""
    source = Source()

    @table_sync(
        target=stock,
        key="sku",
        fields={"quantity": "qty"},
        on_missing=mark(listed=0),
        every="1h",
        create_table=True,
        retries=Retries(times=0),
    )
    def stock_job(source: Source, cursor: Cursor):
        """Stock levels."""
        yield from source.fetch(cursor.value)

    stock_job.name = "stock"
    with Database(database_url) as database:
        database.upgrade()
        defs = build_sync_definitions({"stock": stock_job}, database_url=database_url, resources={"source": source})
        yield Shop(job=stock_job, source=source, database=database, defs=defs, instance=instance)


@pytest.fixture
def as_plain():
    """The function that turns metadata into plain values."""
    return plain


@pytest.fixture
def clock(shop):
    return Clock(shop.database.now())


@pytest.fixture
def database(shop, database_url, clock):
    """The shop's database, on a clock of the test's own."""
    with Database(database_url, clock=clock) as database:
        yield database
