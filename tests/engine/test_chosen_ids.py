"""Runs for chosen external ids: one form of an id on both sides, and ids that the source does not have."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import Database, FetchError, SyncJob, SyncResults, TableSync, run_sync
from sync_defs.results import RunStatus
from sync_defs.store.runs import recent_results


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    stock: Mapped[int | None]


TABLE: Any = Item.__table__
RECORDS = [{"id": "0001", "stock": 1}, {"id": "0002", "stock": 2}, {"id": "0003", "stock": 3}]


def table_job(**options: Any) -> TableSync:
    return TableSync(lambda: RECORDS, name="items", target=TABLE, key="id", fields={"stock": "stock"}, **options)


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    with Database(migrated_url) as database:
        with database.write() as connection:
            Base.metadata.create_all(connection)
        yield database


def rows(database: Database) -> dict[int, int | None]:
    with database.read() as connection:
        return {row.id: row.stock for row in connection.execute(sa.select(Item.id, Item.stock))}


def chosen(database: Database, *external_ids: Any, job: Any = None) -> SyncResults:
    return run_sync(job or table_job(), database=database, external_ids=external_ids)


@pytest.mark.parametrize("external_id", ["1", "0001", "00001", 1], ids=repr)
def test_an_id_is_chosen_in_any_form_that_the_key_takes(database, external_id):
    results = chosen(database, external_id)
    assert (results.fetched, results.created, results.not_in_source) == (1, 1, 0)
    assert rows(database) == {1: 1}


def test_a_source_is_asked_for_ids_in_the_form_they_were_given(database):
    asked: list[list[str]] = []

    def fetch_items(external_ids: list[str]) -> list[dict[str, Any]]:
        asked.append(external_ids)
        return RECORDS[:2]

    results = chosen(database, "0001", "2", job=table_job(fetch_items=fetch_items))
    assert asked == [["0001", "2"]]
    assert (results.created, results.not_in_source, rows(database)) == (2, 0, {1: 1, 2: 2})


def test_ids_that_the_source_lacks_are_told_and_the_others_land(database):
    results = chosen(database, "9", "2", "nonsense", "09", "0002")
    assert results.status is RunStatus.SUCCEEDED
    assert rows(database) == {2: 2}
    assert (results.fetched, results.not_in_source, results.ids_not_in_source) == (1, 2, ["9", "nonsense"])
    assert results.summary() == "items: 1 fetched = 1 created; 2 chosen ids not in the source"
    plain = results.to_dict()
    assert (plain["not_in_source"], plain["ids_not_in_source"]) == (2, ["9", "nonsense"])
    [stored] = recent_results(database, "items")
    assert (stored.not_in_source, stored.ids_not_in_source) == (2, ["9", "nonsense"])


def test_one_absent_id_is_told_in_the_singular(database):
    assert chosen(database, "1", "9").summary() == "items: 1 fetched = 1 created; 1 chosen id not in the source"


def test_the_list_of_absent_ids_is_bounded_and_the_count_is_not(database):
    results = chosen(database, "1", *[str(number) for number in range(10, 2_510)])
    assert results.not_in_source == 2_500
    assert results.ids_not_in_source == [str(number) for number in range(10, 1_010)]


@pytest.mark.parametrize(
    ("external_ids", "sentence"),
    [
        (["9"], "the source of 'items' has no record '9'"),
        (["9", "8", "7"], "the source of 'items' has none of the 3 chosen ids, such as '9'; check them"),
    ],
)
def test_a_run_that_finds_none_of_its_ids_fails(database, external_ids, sentence):
    with pytest.raises(FetchError) as caught:
        chosen(database, *external_ids)
    assert (caught.value.code, caught.value.message) == ("not_in_source", sentence)
    [stored] = recent_results(database, "items")
    assert (stored.status, stored.error) == (RunStatus.FAILED, f"{sentence}; nothing was written or deleted")


def test_a_record_that_is_skipped_or_rejected_is_in_the_source(database):
    job = table_job(should_skip=lambda record: record["id"] == "0001")
    assert (chosen(database, "1", job=job).skipped, rows(database)) == (1, {})
    bad = TableSync(
        lambda: [{"id": 1, "stock": "many"}], name="items", target=TABLE, key="id", fields={"stock": "stock"}
    )
    results = chosen(database, "1", job=bad)
    assert (results.rejected, results.not_in_source) == (1, 0)


def test_a_full_run_lacks_no_id(database):
    results = run_sync(table_job(), database=database)
    assert (results.fetched, results.not_in_source, results.ids_not_in_source) == (3, 0, [])


@dataclass
class Record:
    id: str
    stock: int


class ItemJob(SyncJob[Record, Item]):
    """Reads attributes, of which the source's mappings have none."""

    name = "items"
    record_type = Record

    def fetch_external(self) -> list[dict[str, Any]]:
        return RECORDS

    def get_external_id(self, record: Record) -> object:
        return record.id

    def find_local(self, session: Session, external_id: str) -> Item | None:
        return session.get(Item, int(external_id))

    def create(self, session: Session, record: Record) -> None:
        session.add(Item(id=int(record.id), stock=record.stock))

    def update(self, session: Session, row: Item, record: Record) -> None:
        row.stock = record.stock


def test_ids_of_a_record_type_are_chosen_too(database):
    results = chosen(database, "0002", "2", job=ItemJob())
    assert (results.created, results.ids_not_in_source, rows(database)) == (1, ["2"], {2: 2})
