"""What the prices are fetched from."""

from collections.abc import Iterable
from typing import Any

from sync_defs import Cursor
from sync_defs.connectors import ErpClient


def fetch_prices(erp: ErpClient, cursor: Cursor) -> Iterable[list[dict[str, Any]]]:
    """The price of every variant, from the ERP; daily, only what changed since the last run."""
    yield from erp.inventory(since=cursor.value)
