# pyright: strict
"""The public names as a user's project would use them; read by pyright, not run."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, assert_type

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import (
    Action,
    BusyError,
    ChangeSet,
    Checks,
    ConfigurationError,
    Cursor,
    Database,
    Deletion,
    FetchError,
    Field,
    ItemError,
    ItemResult,
    Job,
    MessageError,
    Observer,
    Outcome,
    RecordError,
    Retries,
    RunStatus,
    SyncError,
    SyncJob,
    SyncResults,
    TableSync,
    Trigger,
    Webhook,
    mark,
    plan_sync,
    run_sync,
    sync_single_item,
    table_sync,
)


class Base(DeclarativeBase):
    pass


class Variant(Base):
    __tablename__ = "variants"
    sku: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    stock: Mapped[int]
    price: Mapped[Decimal]
    active: Mapped[bool]


class ErpClient:
    def inventory(self, since: str | None) -> Iterator[dict[str, object]]:
        raise FetchError(f"no answer since {since}", code="timeout", retry_after_s=30.0)


@table_sync(
    target=Variant,
    key="sku",
    fields={
        "stock": "quantity",
        "price": Field(source="pricing.net", convert=lambda value: Decimal(value) / 100, default=None, mask=True),
    },
    version="updated_at",
    every="1h",
    timezone="Europe/Berlin",
    on_missing=mark(active=False, otherwise=True),
    max_delete_rows=5,
    max_delete_fraction=0.2,
    webhook=Webhook(scheme="hmac", secret_env="ERP_SECRET", signature_header="x-erp", id_header="x-erp-id"),
    history=False,
    max_rejected_fraction=0.9,
    owners=["team:shop", "data@example.com"],
    tags={"domain": "catalogue"},
    source_kind="rest",
    retries=Retries(times=5, longest_wait_s=600),
    checks=Checks(rejected=0.2, fetched=None, freshness=timedelta(hours=3), inbox_lag=None),
)
def erp_inventory(erp: ErpClient, cursor: Cursor) -> Iterator[dict[str, object]]:
    """Stock and price of every variant."""
    yield from erp.inventory(cursor.value)
    cursor.advance("2026-01-01T00:00:00Z")


assert_type(erp_inventory, TableSync)

items = sa.Table("items", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))


def chosen(external_ids: list[str], erp: ErpClient) -> list[dict[str, object]]:
    return [record for record in erp.inventory(None) if str(record["id"]) in external_ids]


def is_draft(record: Mapping[str, object]) -> bool:
    return record.get("state") == "draft"


@table_sync(
    target=items,
    key={"id": Field(source="number", convert=int)},
    fields={"n": "n"},
    name="shop_items",
    should_skip=is_draft,
    fetch_items=chosen,
    create_table=True,
    every=timedelta(hours=6),
    webhook=None,
    delivery="inline",
)
def shop(erp: ErpClient) -> Iterable[object]:
    return erp.inventory(None)


@dataclass(frozen=True)
class Customer:
    number: str
    name: str
    changed_at: datetime | None = None


class CustomerRow(Base):
    __tablename__ = "customers"
    number: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    name: Mapped[str]
    changed_at: Mapped[datetime | None]


class Customers(SyncJob[Customer, CustomerRow]):
    name = "customers"
    every = "15m"
    on_missing = "delete"
    record_type = Customer
    masked_fields = frozenset({"name"})
    create_tables = (CustomerRow,)

    def fetch_external(self, crm: list[Customer], cursor: Cursor, *, limit: int = 100) -> Iterator[list[Customer]]:
        if cursor.value is None:
            yield crm[:limit]

    def get_external_id(self, record: Customer) -> str:
        return record.number

    def find_local(self, session: Session, external_id: str) -> CustomerRow | None:
        return session.get(CustomerRow, external_id)

    def find_local_many(self, session: Session, external_ids: Iterable[str]) -> dict[str, CustomerRow]:
        found = session.scalars(sa.select(CustomerRow).where(CustomerRow.number.in_(external_ids)))
        return {row.number: row for row in found}

    def create(self, session: Session, record: Customer) -> None:
        if not record.name:
            raise RecordError("a name is needed", code="no_name", field="name")
        session.add(CustomerRow(number=record.number, name=record.name, changed_at=record.changed_at))

    def update(self, session: Session, row: CustomerRow, record: Customer) -> None:
        row.name = record.name

    def delete(self, session: Session, row: CustomerRow) -> None:
        session.delete(row)

    def local_external_ids(self, session: Session) -> Iterator[str]:
        yield from session.scalars(sa.select(CustomerRow.number))

    def get_version(self, record: Customer) -> datetime | None:
        return record.changed_at

    def get_local_version(self, row: CustomerRow) -> datetime | None:
        return row.changed_at

    def should_skip(self, record: Customer) -> bool:
        return record.name.startswith("test ")

    def fetch_items(self, external_ids: Iterable[str], crm: list[Customer], **resources: Any) -> list[Customer]:
        return [customer for customer in crm if customer.number in external_ids]

    def extract_items(self, payload: Any) -> Iterator[Customer | Deletion]:
        if "number" not in payload:
            raise MessageError("no number", code="external_id_missing")
        if payload.get("gone"):
            yield Deletion(external_id=payload["number"])
        else:
            yield Customer(number=payload["number"], name=payload["name"])

    def on_start(self) -> None:
        """Nothing to prepare."""

    def on_complete(self, results: SyncResults) -> None:
        assert_type(results.errors, list[ItemError])


class Plain(SyncJob[dict[str, Any], Variant]):
    """The shortest one."""

    name = "plain"

    def fetch_external(self) -> list[dict[str, Any]]:
        return []

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def find_local(self, session: Session, external_id: str) -> Variant | None:
        return session.get(Variant, external_id)

    def create(self, session: Session, record: dict[str, Any]) -> Variant:
        return Variant(**record)

    def update(self, session: Session, row: Variant, record: dict[str, Any]) -> None:
        row.stock = record["stock"]


class Progress(Observer):
    def __init__(self) -> None:
        self.fetched = 0

    def on_fetched(self, records: int) -> None:
        self.fetched = records

    def on_ended(self, results: SyncResults) -> None:
        assert_type(results.status, RunStatus)


def everything(payload: dict[str, object]) -> str:
    jobs: list[Job] = [erp_inventory, shop, Customers(), Plain()]
    for job in jobs:
        job.validate()
    try:
        with Database("sqlite:///sync_defs.db") as database:
            database.upgrade()
            results = run_sync(
                erp_inventory,
                database=database,
                resources={"erp": ErpClient()},
                full=True,
                external_ids=["A"],
                allow_deletes=5,
                wait_s=1.5,
                trigger=Trigger.MANUAL,
                observer=Progress(),
            )
            changes = plan_sync(Customers(), database=database, resources={"crm": []})
            item = sync_single_item(
                shop, payload, database=database, resources={"erp": ErpClient()}, trigger=Trigger.WEBHOOK
            )
    except BusyError as error:
        return f"{error.job_name} is held by {error.holder} for {error.seconds_left} s"
    except ConfigurationError as error:
        return error.code
    except SyncError as error:
        return error.message
    assert_type(results, SyncResults)
    assert_type(results.outcomes, dict[Outcome, int])
    assert_type(results.cursor_after, str | None)
    assert_type(changes, ChangeSet)
    assert_type(item, ItemResult)
    assert_type(item.action, Action)
    if item.action is Action.REJECTED:
        return item.code or ""
    for error in results.errors:
        assert_type(error.field, str | None)
    return results.summary() if results.status is RunStatus.SUCCEEDED else results.error or ""
