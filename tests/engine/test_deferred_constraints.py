"""Constraints that a database checks only at the commit still cost a bad record only itself."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import Database, SyncJob, run_sync

pytestmark = pytest.mark.each_database


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


class Brand(Base):
    __tablename__ = "brands"
    name: Mapped[str] = mapped_column(sa.String(20), primary_key=True)


class Item(Base):
    __tablename__ = "items"
    sku: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    brand: Mapped[str] = mapped_column(sa.ForeignKey("brands.name", deferrable=True, initially="DEFERRED"))


class ItemJob(SyncJob[dict[str, Any], Item]):
    name = "items"

    def fetch_external(self, source: Any) -> Any:
        return source

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def find_local(self, session: Session, external_id: str) -> Item | None:
        return session.get(Item, external_id)

    def create(self, session: Session, record: dict[str, Any]) -> None:
        session.add(Item(**record))

    def update(self, session: Session, row: Item, record: dict[str, Any]) -> None:
        row.brand = record["brand"]


@pytest.fixture
def items(postgresql_url: str) -> Iterator[Database]:
    with Database(postgresql_url) as database:
        database.upgrade()
        with database.write() as connection:
            Base.metadata.create_all(connection)
            connection.execute(sa.insert(Brand), [{"name": "acme"}])
        yield database


def skus(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(sa.select(Item.sku)).scalars())


@pytest.mark.parametrize("bad", [7, 700, 1_100], ids=["first chunk", "second chunk", "third chunk"])
def test_a_bad_record_of_any_chunk_is_rejected_alone(items, bad):
    """A chunk has 500 records and is a transaction: each one has to check its constraints at once."""
    source = [{"sku": f"S{number}", "brand": "nobody" if number == bad else "acme"} for number in range(1_200)]
    results = run_sync(ItemJob(), database=items, resources={"source": source})
    assert (results.fetched, results.created, results.rejected) == (1_200, 1_199, 1)
    assert [(error.external_id, error.code) for error in results.errors] == [(f"S{bad}", "foreign_key")]
    assert skus(items) == {f"S{number}" for number in range(1_200)} - {f"S{bad}"}


def test_a_bad_update_of_the_second_chunk_is_rejected_alone(items):
    source = [{"sku": f"S{number}", "brand": "acme"} for number in range(600)]
    run_sync(ItemJob(), database=items, resources={"source": source})
    with items.write() as connection:
        connection.execute(sa.insert(Brand), [{"name": "bolt"}])
    changed = [item | {"brand": "bolt"} for item in source]
    changed[550]["brand"] = "nobody"
    results = run_sync(ItemJob(), database=items, resources={"source": changed})
    assert (results.updated, results.rejected) == (599, 1)
    assert [(error.external_id, error.code) for error in results.errors] == [("S550", "foreign_key")]
    with items.read() as connection:
        found = connection.execute(sa.select(Item.sku).where(Item.brand != "bolt")).scalars().all()
    assert found == ["S550"]
