"""`record_type`: callbacks get instances also of what was kept, of duplicates and of single items."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any

import pydantic
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import Action, Cursor, Database, RecordError, SyncJob, run_sync, sync_single_item
from sync_defs.store import open_rejects


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


class Item(Base):
    __tablename__ = "items"
    number: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    stock: Mapped[int]
    version: Mapped[int]


class Model(pydantic.BaseModel):
    number: str = pydantic.Field(alias="itemNumber")
    stock: int = pydantic.Field(alias="stockLevel")
    version: int = 0


@dataclasses.dataclass
class Data:
    number: Annotated[str, pydantic.Field(alias="itemNumber")]
    stock: Annotated[int, pydantic.Field(alias="stockLevel")]
    version: int = 0


class ItemJob(SyncJob[Any, Item]):
    """Every callback reads attributes; a mapping in place of a record fails it. Keeps what its callbacks are given."""

    name = "items"
    on_missing = "delete"

    def __init__(self, record_type: type) -> None:
        self.record_type = record_type  # pyright: ignore[reportAttributeAccessIssue]
        self.refused: set[str] = set()
        self.given: list[Any] = []

    def fetch_external(self, source: Any, cursor: Cursor) -> Any:
        return source

    def get_external_id(self, record: Any) -> object:
        return record.number

    def find_local(self, session: Session, external_id: str) -> Item | None:
        return session.get(Item, external_id)

    def local_external_ids(self, session: Session) -> Iterator[str]:
        yield from session.scalars(sa.select(Item.number))

    def create(self, session: Session, record: Any) -> None:
        self.given.append(record)
        if record.number in self.refused:
            raise RecordError("not today", code="refused")
        session.add(Item(number=record.number, stock=record.stock, version=record.version))

    def update(self, session: Session, row: Item, record: Any) -> None:
        self.given.append(record)
        row.stock, row.version = record.stock, record.version

    def get_version(self, record: Any) -> int:
        return record.version

    def get_local_version(self, row: Item) -> int:
        return row.version


def raw(number: str, stock: Any, version: int = 0) -> dict[str, Any]:
    """What the source sends, under the names that it uses."""
    return {"itemNumber": number, "stockLevel": stock, "version": version}


@pytest.fixture
def items(migrated_url: str) -> Iterator[Database]:
    with Database(migrated_url) as database:
        with database.write() as connection:
            Base.metadata.create_all(connection)
        yield database


@pytest.fixture(params=[Model, Data])
def job(request: pytest.FixtureRequest) -> ItemJob:
    return ItemJob(request.param)


def instance(job: ItemJob, number: str, stock: int, version: int = 0) -> Any:
    """The record that callbacks should get, made by hand."""
    if job.record_type is Data:
        return Data(number=number, stock=stock, version=version)
    return Model(itemNumber=number, stockLevel=stock, version=version)


def sync(database: Database, job: ItemJob, *records: Any, **options: Any) -> Any:
    results = run_sync(job, database=database, resources={"source": list(records)}, **options)
    assert results.is_balanced
    return results


def rows(database: Database) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        query = sa.select(Item.number, Item.stock, Item.version).order_by(Item.number)
        return [tuple(row) for row in connection.execute(query)]


@pytest.mark.parametrize("as_instance", [False, True], ids=["mapping", "instance"])
def test_a_kept_record_is_tried_again_as_an_instance(items, job, as_instance):
    job.refused = {"B"}
    fetched = [instance(job, "B", 2, 1), instance(job, "A", 1, 1)] if as_instance else [raw("B", 2, 1), raw("A", 1, 1)]
    first = sync(items, job, *fetched)
    assert (first.created, first.rejected) == (1, 1)
    job.refused, job.given = set(), []
    second = sync(items, job, raw("C", 3, 2))
    assert (second.full, second.fetched, second.created, second.rejected) == (False, 2, 2, 0)
    assert job.given == [instance(job, "B", 2, 1), instance(job, "C", 3, 2)]
    assert rows(items) == [("A", 1, 1), ("B", 2, 1), ("C", 3, 2)]
    assert open_rejects(items) == []


def test_a_kept_record_that_does_not_fit_stays_rejected_until_it_does(items, job):
    """It never was an instance, so it is kept under the source's own names."""
    assert sync(items, job, raw("B", "many"), raw("A", 1, 1)).rejected == 1
    again = sync(items, job)
    assert (again.full, again.fetched, again.rejected) == (False, 1, 1)
    [entry] = open_rejects(items)
    assert entry.attempts == 2
    assert sync(items, job, raw("B", "5", 2)).rejected == 1  # the kept one; the fetched one succeeds it
    assert rows(items) == [("A", 1, 1), ("B", 5, 2)]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_of_duplicates_the_newest_version_wins(items, job, order):
    records = [raw("A", version * 10, version) for version in order]
    results = sync(items, job, *records, raw("B", 1, 1))
    assert (results.created, results.skipped, results.errors) == (2, 2, [])
    assert job.given == [instance(job, "A", 30, 3), instance(job, "B", 1, 1)]
    assert rows(items) == [("A", 30, 3), ("B", 1, 1)]


def test_of_duplicates_of_one_version_the_last_wins(items, job):
    results = sync(items, job, raw("A", 1, 1), instance(job, "A", 2, 1))
    assert (results.created, results.skipped) == (1, 1)
    assert job.given == [instance(job, "A", 2, 1)]


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "with type and data"])
def test_a_single_item_is_an_instance(items, job, wrapped):
    def send(record: dict[str, Any]) -> tuple[Action, str | None]:
        payload = {"type": "item.updated", "data": record} if wrapped else record
        result = sync_single_item(job, payload, database=items)
        return result.action, result.external_id

    assert send(raw("A", 1, 1)) == (Action.CREATED, "A")
    assert send(raw("A", 2, 2)) == (Action.UPDATED, "A")
    assert send(raw("A", 1, 1)) == (Action.STALE, "A")
    assert send(raw("A", 2, 2)) == (Action.UNCHANGED, "A")
    assert job.given == [instance(job, "A", 1, 1), instance(job, "A", 2, 2), instance(job, "A", 2, 2)]
    assert rows(items) == [("A", 2, 2)]


def test_a_single_item_that_does_not_fit_is_rejected_and_kept(items, job):
    result = sync_single_item(job, raw("A", "many"), database=items)
    assert (result.action, result.code) == (Action.REJECTED, "callback_failed")
    assert job.given == []
    [entry] = open_rejects(items)
    assert (entry.code, entry.attempts) == ("callback_failed", 1)


def test_a_delete_message_deletes_by_the_record_in_it(items, job):
    sync_single_item(job, raw("A", 1, 1), database=items)
    result = sync_single_item(job, {"type": "item.deleted", "data": raw("A", 1, 5)}, database=items)
    assert (result.action, result.external_id) == (Action.DELETED, "A")
    assert rows(items) == []


def test_a_delete_message_whose_record_is_not_whole_is_rejected(items, job):
    """A source that sends the id alone needs `extract_items`."""
    sync_single_item(job, raw("A", 1, 1), database=items)
    result = sync_single_item(job, {"type": "item.deleted", "data": {"itemNumber": "A"}}, database=items)
    assert (result.action, result.code) == (Action.REJECTED, "callback_failed")
    assert rows(items) == [("A", 1, 1)]


def test_a_late_delete_message_is_stale(items, job):
    sync_single_item(job, raw("A", 1, 5), database=items)
    result = sync_single_item(job, {"type": "item.deleted", "data": raw("A", 1, 4)}, database=items)
    assert (result.action, result.external_id) == (Action.STALE, "A")
    assert rows(items) == [("A", 1, 5)]
