"""One class per database; `dialect_for` chooses it. Nothing outside asks which database it is."""

from sync_defs.store.dialects.choice import dialect_for
from sync_defs.store.dialects.dialect import SqlDialect
from sync_defs.store.dialects.postgresql import PostgresqlDialect
from sync_defs.store.dialects.sqlite import SqliteDialect

__all__ = ["PostgresqlDialect", "SqlDialect", "SqliteDialect", "dialect_for"]
