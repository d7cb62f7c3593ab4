"""Stock and prices from the ERP: the declarative way to write a job."""

from collections.abc import Iterable, Sequence
from typing import Any

from sync_defs import Cursor, mark, table_sync
from sync_defs.connectors import ErpClient
from sync_defs.jobs.erp_inventory.tables import variants


def chosen(external_ids: Sequence[str], erp: ErpClient) -> list[dict[str, Any]]:
    """Ask the ERP for chosen SKUs."""
    return erp.inventory_items(external_ids)


@table_sync(
    target=variants,
    key="sku",
    fields={"name": "name", "stock": "quantity", "price": "price", "active": "active"},
    version="updated_at",
    fetch_items=chosen,
    on_missing=mark(active=False),
    create_table=True,
    every="1h",
    group="erp",
    owners=["team:shop"],
    tags={"domain": "catalogue"},
    source_kind="rest",
)
def erp_inventory(erp: ErpClient, cursor: Cursor) -> Iterable[list[dict[str, Any]]]:
    """Name, stock and price of every variant, from the ERP; hourly, only what changed since the last run."""
    yield from erp.inventory(since=cursor.value)
