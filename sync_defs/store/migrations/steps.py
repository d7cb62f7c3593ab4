"""Steps of migrations that may be repeated where CREATE TABLE commits: an upgrade that was killed is then gone on with.

What is there already is left alone. Where a transaction takes CREATE TABLE back, nothing is there half.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context, op


def create_table(name: str, *columns: sa.Column[Any]) -> None:
    """Create a bookkeeping table."""
    if not (_is_repeated() and sa.inspect(op.get_bind()).has_table(name, schema=_schema())):
        op.create_table(name, *columns, schema=_schema())


def add_column(table: str, column: sa.Column[Any]) -> None:
    """Add a column to a bookkeeping table."""
    names = {held["name"] for held in sa.inspect(op.get_bind()).get_columns(table, schema=_schema())}
    if not (_is_repeated() and column.name in names):
        op.add_column(table, column, schema=_schema())


def create_index(name: str, table: str, columns: list[str]) -> None:
    """Create an index of a bookkeeping table."""
    if not (_is_repeated() and name in {index["name"] for index in _indexes(table)}):
        op.create_index(name, table, columns, schema=_schema())


def _indexes(table: str) -> Any:
    return sa.inspect(op.get_bind()).get_indexes(table, schema=_schema())


def _is_repeated() -> bool:
    return not context.config.attributes["undoes_ddl"]


def _schema() -> str | None:
    return context.config.attributes["schema"]
