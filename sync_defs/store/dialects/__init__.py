"""One class per database; `dialect_for` chooses it. Nothing outside asks which database it is."""

from sync_defs.store.dialects.choice import dialect_for
from sync_defs.store.dialects.dialect import Refused, SqlDialect, TableSum
from sync_defs.store.dialects.generic import GenericDialect
from sync_defs.store.dialects.mariadb import MariadbDialect
from sync_defs.store.dialects.postgresql import PostgresqlDialect
from sync_defs.store.dialects.sqlite import SqliteDialect

__all__ = [
    "GenericDialect",
    "MariadbDialect",
    "PostgresqlDialect",
    "Refused",
    "SqlDialect",
    "SqliteDialect",
    "TableSum",
    "dialect_for",
]
