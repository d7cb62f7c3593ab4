"""Syncs the rows with sync_defs: pages of dicts, by a declarative job."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Boolean, Column, DateTime, Integer, MetaData, Numeric, String, Table

from sync_defs import run_sync, table_sync

try:
    from orjson import loads
except ImportError:
    from json import loads

source, address, _ = sys.argv[1:]
columns = {
    "quantity": Integer,
    "price": Numeric(12, 2),
    "name": String(80),
    "active": Boolean,
    "updated_at": DateTime(timezone=True),
    "attributes": String(400),
}
product = Table(
    "product", MetaData(), Column("sku", String(40), primary_key=True), *(Column(*column) for column in columns.items())
)


@table_sync(
    target=product,
    key="sku",
    fields={name: name for name in columns},
    on_missing="delete",
    create_table=True,
    name="product",
)
def job() -> Iterator[list[dict[str, Any]]]:
    """All rows, page by page."""
    with Path(source).open("rb") as lines:
        yield from map(loads, lines)


print(run_sync(job, database=address).summary())
