"""The databases to measure in: each is made, filled, copied and dropped here, on SQLite, PostgreSQL or MariaDB."""

import os
import secrets
import shutil
import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError, ProgrammingError

from benchmarks.schema import metadata
from sync_defs import ConfigurationError, Database

KINDS = ("postgresql", "sqlite", "mariadb")
_DEFAULTS = {
    "postgresql": "postgresql+psycopg://postgres@127.0.0.1:5432/postgres",
    "mariadb": f"mariadb+{'mysqldb' if find_spec('MySQLdb') else 'pymysql'}://root@127.0.0.1:3306/",
}


class UnavailableError(Exception):
    """This machine cannot measure here; says why."""


class Place(ABC):
    """One kind of database. What it makes is dropped by `close`."""

    kind: str

    def __init__(self) -> None:
        self._made: list[str] = []

    @abstractmethod
    def version(self) -> str:
        """Return the name and the version of the database.

        Raises:
            UnavailableError: it cannot be used here.
        """

    @abstractmethod
    def create(self) -> str:
        """Return the URL of a new database, which is empty."""

    @abstractmethod
    def clone(self, url: str) -> str:
        """Return the URL of a copy, which has read every row once."""

    @abstractmethod
    def settle(self, url: str) -> None:
        """Leave a filled database as its own maintenance would: with statistics and without dead rows."""

    @abstractmethod
    def _drop(self, url: str) -> None: ...

    def prepare(self) -> str:
        """Return the URL of a new database with the tables of sync_defs and those of the benchmarks, empty.

        Raises:
            UnavailableError: sync_defs does not work on such a database.
        """
        url = self.create()
        try:
            with Database(url) as database:
                database.upgrade()
        except ConfigurationError as error:
            raise UnavailableError(f"{self.kind}: {error.message}") from None
        engine = sa.create_engine(url)
        metadata.create_all(engine)
        engine.dispose()
        self.settle(url)
        return url

    def drop(self, url: str) -> None:
        """Drop what `create` or `clone` made."""
        self._made.remove(url)
        self._drop(url)

    def close(self) -> None:
        """Drop everything that is left."""
        for url in list(self._made):
            self.drop(url)

    def _keep(self, url: str) -> str:
        self._made.append(url)
        return url


class SqlitePlace(Place):
    """Files in a folder."""

    kind = "sqlite"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def version(self) -> str:
        """Return the version of the library."""
        return f"SQLite {sqlite3.sqlite_version}"

    def create(self) -> str:
        """Name a file that does not exist yet."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._keep(f"sqlite:///{self._directory / f'{_new_name()}.db'}")

    def clone(self, url: str) -> str:
        """Copy the file, on the disk too: the first process that has it durable would else wait for all of it."""
        copy = self.create()
        shutil.copyfile(_path(url), _path(copy))
        with _path(copy).open("rb+") as file:
            os.fsync(file.fileno())
        return copy

    def settle(self, url: str) -> None:
        """Write the log into the file."""
        with closing(sqlite3.connect(_path(url))) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA optimize")

    def _drop(self, url: str) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{_path(url)}{suffix}").unlink(missing_ok=True)


class ServerPlace(Place):
    """A server on which databases may be created."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = sa.make_url(url)

    def _execute(self, *statements: str, url: URL | None = None) -> None:
        engine = sa.create_engine(url or self._url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def _version(self) -> str:
        try:
            engine = sa.create_engine(self._url, poolclass=sa.NullPool)
            with engine.connect() as connection:
                return str(connection.exec_driver_sql("SELECT version()").scalar_one())
        except ModuleNotFoundError as error:
            raise UnavailableError(f"{self.kind}: driver {error.name!r} is not installed") from None
        except OperationalError:
            address = self._url.render_as_string(hide_password=True)
            raise UnavailableError(f"{self.kind}: no server answers at {address}") from None

    def _named(self, name: str) -> str:
        return self._keep(self._url.set(database=name).render_as_string(hide_password=False))

    def _tables(self, url: str) -> list[str]:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        inspector = sa.inspect(engine)
        quote = engine.dialect.identifier_preparer
        schemas = {None, "sync_defs"} & {None, *inspector.get_schema_names()} if self.kind == "postgresql" else {None}
        return [
            f"{quote.quote_schema(schema)}.{quote.quote(table)}" if schema else quote.quote(table)
            for schema in schemas
            for table in inspector.get_table_names(schema=schema)
        ]


class PostgresqlPlace(ServerPlace):
    """Databases of one PostgreSQL server."""

    kind = "postgresql"

    def version(self) -> str:
        """Return the server's version."""
        return " ".join(self._version().split()[:2])

    def create(self) -> str:
        """Create a database in UTF-8."""
        return self._create("template0")

    def clone(self, url: str) -> str:
        """Copy a database file by file, and read its tables."""
        copy = self._create(_database(url))
        self._execute(*(f"SELECT count(*) FROM {table}" for table in self._tables(copy)), url=sa.make_url(copy))
        return copy

    def settle(self, url: str) -> None:
        """Vacuum what has rows, as autovacuum would, and switch that off, so that none starts during a measurement."""
        tables = self._tables(url)
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            sizes = [connection.exec_driver_sql(f"SELECT pg_relation_size('{table}')").scalar() for table in tables]
        filled = [table for table, size in zip(tables, sizes, strict=True) if size]
        self._execute(
            *(f"ALTER TABLE {table} SET (autovacuum_enabled = off)" for table in tables),
            *(f"VACUUM (ANALYZE) {table}" for table in filled),
            url=sa.make_url(url),
        )

    def _create(self, template: str) -> str:
        name = _new_name()
        try:
            self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        except ProgrammingError:  # before PostgreSQL 15, which knows no other strategy
            self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._named(name)

    def _drop(self, url: str) -> None:
        self._execute(f"DROP DATABASE {_database(url)} WITH (FORCE)")


class MariadbPlace(ServerPlace):
    """Databases of one MariaDB server."""

    kind = "mariadb"

    def version(self) -> str:
        """Return the server's version."""
        return f"MariaDB {self._version().partition('-')[0]}"

    def create(self) -> str:
        """Create a database in UTF-8."""
        name = _new_name()
        self._execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return self._named(name)

    def clone(self, url: str) -> str:
        """Copy table by table: MariaDB has no templates. Foreign keys come from the tables' own definitions."""
        copy = self.create()
        statements = ["SET FOREIGN_KEY_CHECKS = 0"]
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            for table in self._tables(url):
                definition = connection.exec_driver_sql(f"SHOW CREATE TABLE {table}").one()[1]
                statements += [
                    definition.replace("%", "%%"),
                    f"INSERT INTO {table} SELECT * FROM {_database(url)}.{table}",
                ]
        self._execute(*statements, url=sa.make_url(copy))
        return copy

    def settle(self, url: str) -> None:
        """Gather statistics."""
        self._execute(*(f"ANALYZE TABLE {table}" for table in self._tables(url)), url=sa.make_url(url))

    def _drop(self, url: str) -> None:
        self._execute(f"DROP DATABASE {_database(url)}")


def open_place(kind: str, directory: Path, url: str | None = None) -> Place:
    """Return the place of a kind: on the given server, else on SYNC_BENCHMARK_<KIND>_URL, else on this machine's."""
    if kind == "sqlite":
        return SqlitePlace(directory)
    server = url or os.environ.get(f"SYNC_BENCHMARK_{kind.upper()}_URL") or _DEFAULTS[kind]
    return PostgresqlPlace(server) if kind == "postgresql" else MariadbPlace(server)


def _new_name() -> str:
    return f"sync_benchmark_{secrets.token_hex(6)}"


def _database(url: str) -> str:
    return sa.make_url(url).database or ""


def _path(url: str) -> Path:
    return Path(_database(url))
