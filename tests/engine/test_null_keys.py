"""Rows of the target without a key are nobody's: never missing, never deleted, never marked."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import Database, SyncJob, SyncResults, TableSync, mark, plan_sync, run_sync


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str | None] = mapped_column(sa.String(20), unique=True)
    stock: Mapped[int]
    listed: Mapped[bool] = mapped_column(default=True, server_default=sa.true())


class ItemJob(SyncJob[dict[str, Any], Item]):
    """Lists the keys of all rows, as they are."""

    name = "items"

    def fetch_external(self, source: Any) -> Any:
        return source

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def find_local(self, session: Session, external_id: str) -> Item | None:
        return session.scalar(sa.select(Item).where(Item.sku == external_id))

    def create(self, session: Session, record: dict[str, Any]) -> None:
        session.add(Item(sku=record["sku"], stock=record["stock"]))

    def update(self, session: Session, row: Item, record: dict[str, Any]) -> None:
        row.stock = record["stock"]

    def local_external_ids(self, session: Session) -> Iterator[str]:
        yield from cast("Iterator[str]", session.scalars(sa.select(Item.sku).where(Item.listed).order_by(Item.id)))


def table_job() -> TableSync:
    table = cast("sa.Table", Item.__table__)
    return TableSync(lambda source: source, name="items", target=table, key="sku", fields={"stock": "stock"})


KEPT = [
    {"sku": None, "stock": 7, "listed": True},
    {"sku": "A", "stock": 1, "listed": True},
    {"sku": None, "stock": 8, "listed": True},
]
GONE = {"sku": "B", "stock": 2, "listed": True}
FETCHED = [{"sku": "A", "stock": 1}]


@pytest.fixture
def items(migrated_url: str) -> Iterator[Database]:
    """Two rows without a key, one in the source, and one that is gone from it."""
    with Database(migrated_url) as database:
        with database.write() as connection:
            Base.metadata.create_all(connection)
            connection.execute(sa.insert(Item), [*KEPT, GONE])
        yield database


def rows(database: Database) -> list[dict[str, Any]]:
    query = sa.select(Item.sku, Item.stock, Item.listed).order_by(Item.id)
    with database.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def sync(job: Any, database: Database, call: Callable[..., Any] = run_sync, **options: Any) -> Any:
    return call(job, database=database, resources={"source": FETCHED}, **options)


@pytest.fixture(params=[table_job, ItemJob], ids=["table", "callbacks"])
def job(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_rows_without_a_key_are_not_deleted(items, job):
    job.on_missing = "delete"
    # With a ceiling of one, a second row that counts as missing would have the delete withheld.
    results: SyncResults = sync(job, items, allow_deletes=1)
    assert (results.missing, results.deleted, results.withheld, results.errors) == (1, 1, 0, [])
    assert rows(items) == KEPT


def test_rows_without_a_key_are_not_marked(items, job):
    job.on_missing = mark(listed=False)
    results: SyncResults = sync(job, items, allow_deletes=1)
    assert (results.missing, results.marked, results.withheld, results.errors) == (1, 1, 0, [])
    assert rows(items) == [*KEPT, {"sku": "B", "stock": 2, "listed": False}]


def test_rows_without_a_key_are_in_no_plan(items, job):
    job.on_missing = "delete"
    plan = sync(job, items, plan_sync)
    assert [(change.action, change.external_id) for change in plan.changes] == [("deleted", "B")]
    assert rows(items) == [*KEPT, GONE]


def test_where_all_that_is_left_has_no_key_nothing_is_missing(items, job):
    with items.write() as connection:
        connection.execute(sa.delete(Item).where(Item.sku == "B"))
    job.on_missing = "delete"
    results: SyncResults = sync(job, items)
    assert (results.missing, results.deleted, results.unchanged) == (0, 0, 1)
    assert rows(items) == KEPT
