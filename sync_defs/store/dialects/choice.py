"""The choice of a dialect by URL."""

from sqlalchemy.engine import URL

from sync_defs.store.dialects.dialect import SqlDialect
from sync_defs.store.dialects.generic import GenericDialect
from sync_defs.store.dialects.mariadb import MariadbDialect
from sync_defs.store.dialects.postgresql import PostgresqlDialect
from sync_defs.store.dialects.sqlite import SqliteDialect

_DIALECTS = {
    "sqlite": SqliteDialect,
    "postgresql": PostgresqlDialect,
    "mariadb": MariadbDialect,
    "mysql": MariadbDialect,
}


def dialect_for(url: URL) -> SqlDialect:
    """Return the dialect of a database URL: the generic one for a database that has none of its own."""
    name = url.get_backend_name()
    return _DIALECTS[name]() if name in _DIALECTS else GenericDialect(name)
