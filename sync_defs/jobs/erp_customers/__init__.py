"""Customers from the ERP: a job of callbacks, for whatever logic a table needs."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync_defs import SyncJob, mark
from sync_defs.connectors import ErpClient
from sync_defs.jobs.erp_customers.tables import Customer


class ErpCustomers(SyncJob[dict[str, Any], Customer]):
    """Customers and their addresses, from the ERP; nightly, all of them. Who is gone is marked, not deleted."""

    name = "erp_customers"
    cron = "30 3 * * *"
    timezone = "Europe/Berlin"
    on_missing = mark(active=False, otherwise=True)
    group = "erp"
    owners = ("team:shop",)
    source_kind = "rest"
    create_tables = (Customer,)
    masked_fields = frozenset({"email", "street"})

    def fetch_external(self, erp: ErpClient) -> Iterable[list[dict[str, Any]]]:
        """Yield all customers, page by page."""
        yield from erp.customers()

    def fetch_items(self, external_ids: Sequence[str], erp: ErpClient) -> Iterable[dict[str, Any]]:
        """Ask the ERP for chosen customers."""
        return erp.customers_by_number(external_ids)

    def get_external_id(self, record: dict[str, Any]) -> object:
        """Return the customer's number."""
        return record["number"]

    def get_version(self, record: dict[str, Any]) -> datetime:
        """Return when the ERP changed the customer, in UTC: a database may drop the zone."""
        return datetime.fromisoformat(record["updated_at"]).astimezone(UTC)

    def get_local_version(self, row: Customer) -> datetime:
        """Return the state that the shop holds."""
        return row.updated_at

    def find_local(self, session: Session, external_id: str) -> Customer | None:
        """Return one row."""
        return session.get(Customer, external_id)

    def find_local_many(self, session: Session, external_ids: Sequence[str]) -> Mapping[str, Customer]:
        """Return the rows of a chunk in one query."""
        rows = session.scalars(select(Customer).where(Customer.number.in_(external_ids)))
        return {row.number: row for row in rows}

    def local_external_ids(self, session: Session) -> Iterable[str]:
        """Yield the customers that are not marked yet."""
        yield from session.scalars(select(Customer.number).where(Customer.active))

    def create(self, session: Session, record: dict[str, Any]) -> None:
        """Add a row."""
        row = Customer(number=record["number"], active=True)
        self.update(session, row, record)
        session.add(row)

    def update(self, session: Session, row: Customer, record: dict[str, Any]) -> None:
        """Set what the ERP knows; the engine tells a change from an equal value."""
        address = record["address"]
        row.name, row.email = record["name"], record["email"]
        row.street, row.postcode, row.city = address["street"], address["postcode"], address["city"]
        row.credit_limit, row.blocked = Decimal(record["credit_limit"]), record["blocked"]
        row.updated_at = self.get_version(record)


erp_customers = ErpCustomers()
