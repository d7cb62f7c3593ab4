"""The database that holds the targets and, beside them, the bookkeeping."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Self

from sqlalchemy import Connection, Engine, inspect, make_url, select, table
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.sql import column

from sync_defs.errors import ConfigurationError, DatabaseNotReadyError
from sync_defs.store.dialects import SqlDialect, dialect_for
from sync_defs.store.trouble import passes

Clock = Callable[[], datetime]
REVISION = "0004"
"""The migration that this version of the code needs."""
VERSION_TABLE = "sync_schema_version"


def utc_now() -> datetime:
    """Return the current instant in UTC."""
    return datetime.now(UTC)


class Database:
    """One database, by URL; opens no connection before the first use. Safe to share between threads.

    Example:
        ```python
        with Database("sqlite:///sync_defs.db") as database:
            database.upgrade()
        ```
    """

    def __init__(self, url: str, *, clock: Clock = utc_now, dialect: SqlDialect | None = None) -> None:
        """Take a SQLAlchemy URL, the clock for leases and times, and a dialect in place of the URL's own.

        Raises:
            ConfigurationError: the URL is malformed (it is not repeated: it may hold a password).
        """
        try:
            self._url = make_url(url)
        except (ArgumentError, ValueError):
            raise ConfigurationError(
                "the database URL is malformed; it looks like sqlite:///path.db or postgresql://user:password@host/name"
            ) from None
        self.dialect = dialect or dialect_for(self._url)
        self.clock = clock

    def __repr__(self) -> str:
        """Show the URL without its password."""
        return f"Database({self.label!r})"

    @property
    def label(self) -> str:
        """Return the URL without its password, wherever in it that stands."""
        hidden = [name for name in self._url.query if "password" in name.lower()]
        return self._url.difference_update_query(hidden).render_as_string(hide_password=True)

    @cached_property
    def engine(self) -> Engine:
        """Return the SQLAlchemy engine; made at first use.

        Raises:
            ConfigurationError: the URL names a driver that is not there.
        """
        try:
            return self.dialect.create_engine(self._url)
        except (ModuleNotFoundError, NoSuchModuleError):
            raise ConfigurationError(
                f"driver {self._url.drivername!r} is not installed; "
                f"{self.dialect.install or f'use {self._url.get_backend_name()}:// for the default'}"
            ) from None

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Open a transaction for reading."""
        with self.connect(writes=False) as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Generator[Connection]:
        """Open a transaction for writing; it commits at the end of the block and rolls back on an exception."""
        with self.connect(writes=True) as connection, connection.begin():
            yield connection

    def connect(self, *, writes: bool) -> Connection:
        """Return a connection on which the caller begins and ends transactions."""
        return self.dialect.connect(self.engine, writes=writes)

    def now(self) -> datetime:
        """Return the current instant in UTC."""
        return self.clock()

    def revision(self) -> str | None:
        """Return the migration that the database is at, or None where there are no tables yet."""
        versions = table(VERSION_TABLE, column("version_num"), schema=self.dialect.schema)
        with self.read() as connection:
            if not inspect(connection).has_table(VERSION_TABLE, schema=self.dialect.schema):
                return None
            return connection.execute(select(versions.c.version_num)).scalar()

    def ensure_ready(self) -> None:
        """Check the bookkeeping tables; a fresh SQLite file, the embedded default, gets them at once.

        Raises:
            DatabaseNotReadyError: they are absent, older or newer; or the database cannot be reached.
        """
        try:
            revision = self.revision()
        except (DBAPIError, OSError) as error:
            raise self._unusable(error) from None
        if revision == REVISION:
            return
        if revision is None and self.dialect.name == "sqlite":
            self.upgrade()
        elif revision is None or revision < REVISION:
            raise DatabaseNotReadyError(
                f"the database {self.label} needs the tables of sync_defs at {REVISION}, it has "
                f"{revision or 'none'}; run: sync-defs db upgrade"
            )
        else:
            raise DatabaseNotReadyError(
                f"the database {self.label} is at {revision}, newer than this version of sync_defs ({REVISION}); "
                "update sync_defs",
                code="database_newer",
            )

    def upgrade(self) -> None:
        """Create or migrate the bookkeeping tables; safe to repeat and from many processes at once.

        Raises:
            DatabaseNotReadyError: the tables are newer than this code; or the database cannot be reached, or refuses.
        """
        from sync_defs.store.migrate import upgrade

        try:
            upgrade(self)
        except (DBAPIError, OSError) as error:
            raise self._unusable(error) from None

    def _unusable(self, error: DBAPIError | OSError) -> DatabaseNotReadyError:

        kind = type(error.orig if isinstance(error, DBAPIError) else error).__name__
        is_passing = isinstance(error, OSError) or passes(error)
        return DatabaseNotReadyError(
            f"cannot use the database {self.label}: {kind}; check that it runs, the address, the user, the password "
            "and the user's rights",
            code="database_unreachable",
            is_passing=is_passing,
        )

    def close(self) -> None:
        """Close pooled connections; the next use opens new ones."""
        if "engine" in self.__dict__:
            self.engine.dispose()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the pool."""
        self.close()
