"""The choice of a dialect by URL."""

from sqlalchemy.engine import URL

from sync_defs.errors import ConfigurationError
from sync_defs.store.dialects.dialect import SqlDialect
from sync_defs.store.dialects.postgresql import PostgresqlDialect
from sync_defs.store.dialects.sqlite import SqliteDialect

_DIALECTS = {"sqlite": SqliteDialect, "postgresql": PostgresqlDialect}


def dialect_for(url: URL) -> SqlDialect:
    """Return the dialect of a database URL.

    Raises:
        ConfigurationError: the database is not one that sync_defs knows.
    """
    name = url.get_backend_name()
    if name not in _DIALECTS:
        raise ConfigurationError(f"database {name!r} is not supported; use one of {', '.join(sorted(_DIALECTS))}")
    return _DIALECTS[name]()
