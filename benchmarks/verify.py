"""Compares the rows of a table with what has to be there."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import zip_longest
from typing import Any

import sqlalchemy as sa

from benchmarks.schema import metadata


def first_difference(url: str, table: str, expected: Iterable[tuple[Any, ...]]) -> str | None:
    """Return the first row that is not as it has to be, as text, or None; `expected` comes by key."""
    names = [column.name for column in metadata.tables[table].columns]
    # As text, since SQLAlchemy warns of decimals on SQLite.
    statement = sa.text(f"SELECT {', '.join(names)} FROM {table} ORDER BY sku")
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            rows = connection.execution_options(yield_per=5_000).execute(statement)
            for found, wanted in zip_longest(rows, expected):
                plain = None if found is None else tuple(map(_plain, names, found))
                if plain != (None if wanted is None else tuple(wanted)):
                    return f"{plain} instead of {wanted and tuple(wanted)}"
    finally:
        engine.dispose()
    return None


def _plain(name: str, value: Any) -> Any:
    if name == "price":
        return Decimal(str(value)).quantize(Decimal("0.01"))
    if name == "active":
        return bool(value)
    if name == "updated_at":
        instant = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    return value
