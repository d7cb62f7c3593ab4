"""Whatever a fetch returns, the same records end in the same rows."""

import uuid
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, make_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pandas as pd
import pydantic
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import Cursor, Database, FetchError, Field, SyncJob, TableSync, run_sync

NAMES = ("id", "count", "price", "at", "tags")
AT = datetime(2026, 3, 29, 0, 30, 0, 123456, tzinfo=UTC)
RECORDS: list[dict[str, Any]] = [
    {"id": "007", "count": 2**53 + 1, "price": Decimal("1.10"), "at": AT, "tags": ["a"]},
    {"id": "7", "count": None, "price": None, "at": None, "tags": None},
    {"id": "NA", "count": -1, "price": Decimal("2.68"), "at": AT, "tags": {"b": 1}},
]


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


class Item(Base):
    __tablename__ = "items"
    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    count: Mapped[int | None] = mapped_column(sa.BigInteger)
    price: Mapped[Decimal | None] = mapped_column(sa.Numeric(12, 2))
    at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    tags: Mapped[Any] = mapped_column(sa.JSON(none_as_null=True), nullable=True)


TABLE: Any = Item.__table__


@dataclass
class ItemData:
    id: str
    count: int | None
    price: Decimal | None
    at: datetime | None
    tags: Any


class ItemModel(pydantic.BaseModel):
    id: str
    count: int | None
    price: Decimal | None
    at: datetime | None
    tags: Any


Slotted = make_dataclass("Slotted", NAMES, slots=True, frozen=True)
Named = namedtuple("Named", NAMES)


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """With the types that pandas itself gives, or that keep every digit."""
    return pd.DataFrame(rows, dtype=object).astype({"count": "Int64", "price": object, "at": "datetime64[us, UTC]"})


def as_each(kind: Callable[..., Any]) -> Callable[[], list[Any]]:
    return lambda: [kind(**record) for record in RECORDS]


def arrow() -> Any:
    pa = pytest.importorskip("pyarrow")
    return pa.Table.from_pylist([{**record, "tags": None} for record in RECORDS])


def yields(*parts: Any) -> Iterator[Any]:
    yield from parts


FORMS: dict[str, Callable[[], Any]] = {
    "list": lambda: RECORDS,
    "tuple": lambda: tuple(RECORDS),
    "generator": lambda: yields(*RECORDS),
    "pages": lambda: [RECORDS[:2], [], RECORDS[2:]],
    "generator of pages": lambda: yields(RECORDS[:1], RECORDS[1:]),
    "records and pages": lambda: yields(RECORDS[0], RECORDS[1:]),
    "frame": lambda: frame(RECORDS),
    "generator of frames": lambda: yields(frame(RECORDS[:2]), frame(RECORDS[2:])),
    "frames and records": lambda: [frame(RECORDS[:1]), RECORDS[1], RECORDS[2:]],
    "objects frame": lambda: pd.DataFrame(RECORDS, dtype=object),
    "dataclasses": as_each(ItemData),
    "slotted dataclasses": as_each(Slotted),
    "models": as_each(ItemModel),
    "pages of models": lambda: yields(as_each(ItemModel)()),
    "named tuples": as_each(Named),
    "mapping proxies": lambda: [MappingProxyType(record) for record in RECORDS],
}


class ItemJob(SyncJob[Any, Item]):
    name = "items"

    def __init__(self) -> None:
        self.given: list[Any] = []

    def fetch_external(self, source: Any) -> Any:
        return source

    def get_external_id(self, record: Any) -> object:
        return record["id"] if isinstance(record, dict | MappingProxyType) else record.id

    def find_local(self, session: Session, external_id: str) -> Item | None:
        return session.get(Item, external_id)

    def create(self, session: Session, record: Any) -> None:
        self.given.append(record)
        values = record if isinstance(record, dict) else {name: getattr(record, name) for name in NAMES}
        session.add(Item(**values))

    def update(self, session: Session, row: Item, record: Any) -> None:
        self.given.append(record)
        for name in NAMES[1:]:
            setattr(row, name, record[name] if isinstance(record, dict) else getattr(record, name))


def table_job(**options: Any) -> TableSync:
    return TableSync(
        lambda source: source,
        name="items",
        target=TABLE,
        key="id",
        fields={n: n for n in NAMES[1:]},
        **options,
    )


@pytest.fixture
def items(migrated_url: str) -> Iterator[Database]:
    with Database(migrated_url) as database:
        with database.write() as connection:
            Base.metadata.create_all(connection)
        yield database


def stored(database: Database) -> list[dict[str, Any]]:
    """The rows in order; a time is in UTC where the database keeps no zones."""
    with Session(database.engine) as session:
        found = [
            {name: getattr(row, name) for name in NAMES} for row in session.scalars(sa.select(Item).order_by(Item.id))
        ]
    for row in found:
        if row["at"] is not None:
            row["at"] = row["at"].replace(tzinfo=UTC) if row["at"].tzinfo is None else row["at"].astimezone(UTC)
    return found


def sync(database: Database, job: Any, source: Any, **options: Any) -> Any:
    results = run_sync(job, database=database, resources={"source": source}, **options)
    assert results.is_balanced
    assert [(error.external_id, error.message) for error in results.errors] == []
    return results


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("job", [table_job, ItemJob], ids=["table", "callbacks"])
def test_every_form_of_the_same_records_gives_the_same_rows(items, job, form):
    assert sync(items, job(), FORMS[form]()).created == len(RECORDS)
    assert stored(items) == RECORDS
    assert sync(items, job(), FORMS["list"]()).unchanged == len(RECORDS)


def test_an_arrow_table(items):
    data = arrow()
    assert sync(items, table_job(), data).created == len(RECORDS)
    assert [row["id"] for row in stored(items)] == ["007", "7", "NA"]


def test_plain_objects_and_nested_fields(items):
    source = [SimpleNamespace(id="A", shop=SimpleNamespace(stock={"count": 7}), **{"not a name": 1})]
    fields = {"count": "shop.stock.count", "price": Field(source="shop.price", default="1.5")}
    job = TableSync(lambda source: source, name="items", target=TABLE, key="id", fields=fields)
    sync(items, job, source)
    assert [(row["id"], row["count"], row["price"]) for row in stored(items)] == [("A", 7, Decimal("1.50"))]


@pytest.mark.parametrize("source", [None, 7, "text", b"bytes", {"id": "A"}, object()], ids=lambda v: type(v).__name__)
def test_what_holds_no_records_fails_the_run(items, source):
    """A mapping too: a source that wraps its list in one is told so, and nothing is deleted."""
    with pytest.raises(FetchError) as caught:
        run_sync(table_job(), database=items, resources={"source": source})
    assert caught.value.code == "bad_fetch_result"


def test_a_single_model_is_no_list_of_its_fields(items):
    """A pydantic model can be iterated, field by field; these are no records."""
    with pytest.raises(FetchError) as caught:
        run_sync(table_job(), database=items, resources={"source": ItemModel(**RECORDS[0])})
    assert caught.value.code == "bad_fetch_result"


@pytest.mark.parametrize("record_type", [ItemData, ItemModel])
@pytest.mark.parametrize("form", ["list", "frame", "dataclasses", "models"])
def test_callbacks_get_instances_of_the_record_type(items, record_type, form):
    job = ItemJob()
    job.record_type = record_type  # pyright: ignore[reportAttributeAccessIssue]
    sync(items, job, FORMS[form]())
    assert [type(record) for record in job.given] == [record_type] * len(RECORDS)
    assert job.given == [record_type(**record) for record in RECORDS]
    assert stored(items) == RECORDS


def test_callbacks_without_a_record_type_get_mappings_with_the_types_kept(items):
    job = ItemJob()
    sync(items, job, [ItemModel(**record) for record in RECORDS])
    assert job.given == RECORDS
    assert [type(record["price"]) for record in job.given] == [Decimal, type(None), Decimal]


def test_a_model_with_aliases_nested_models_and_a_uuid(items):
    """Staged by the names of its fields, and read back by them, whatever its aliases are."""

    class Price(pydantic.BaseModel):
        amount: Decimal = pydantic.Field(alias="priceAmount")

    class Aliased(pydantic.BaseModel):
        id: str = pydantic.Field(alias="itemNumber")
        nested: Price
        ref: uuid.UUID

    class AliasedJob(ItemJob):
        record_type = Aliased

        def create(self, session: Session, record: Any) -> None:
            self.given.append(record)
            session.add(Item(id=record.id, price=record.nested.amount))

    record = Aliased.model_validate(
        {"itemNumber": "A", "nested": {"priceAmount": "1.50"}, "ref": str(uuid.UUID(int=1))}
    )
    job = AliasedJob()
    sync(items, job, [record])
    assert job.given == [record]


def test_a_record_that_does_not_fit_the_record_type_is_rejected_alone(items):
    job = ItemJob()
    job.record_type = ItemModel  # pyright: ignore[reportAttributeAccessIssue]
    results = run_sync(job, database=items, resources={"source": [{"id": "B"}, RECORDS[0]]})
    assert (results.created, [error.external_id for error in results.errors]) == (1, ["B"])


def test_a_mapping_that_looks_like_a_staged_value_reaches_the_callback_as_it_is(items):
    records = [{**RECORDS[0], "tags": {"$decimal": "x"}}, {**RECORDS[1], "tags": {"$uuid": "1.5"}}]
    job = ItemJob()
    sync(items, job, records)
    assert job.given == records
    assert stored(items) == records


def test_a_rejected_record_that_looks_like_a_staged_value_does_not_stop_the_next_run(items):
    """The kept records are read back at the next incremental run."""

    def fetch(source: Any, cursor: Cursor) -> Any:
        cursor.advance("1")
        return source

    def job() -> TableSync:
        return TableSync(fetch, name="items", target=TABLE, key="id", fields={"count": "count"})

    bad = {"id": "A", "count": "many", "more": {"$decimal": "x"}, "$date": {"$date": "y"}}
    results = run_sync(job(), database=items, resources={"source": [bad]})
    assert results.rejected == 1
    results = run_sync(job(), database=items, resources={"source": [{"id": "B", "count": 1}]})
    assert (results.full, results.created, results.rejected) == (False, 1, 1)
