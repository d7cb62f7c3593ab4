"""Every dialect passes the conformance suite, the generic one on two databases."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL

from sync_defs import Database
from sync_defs.store.dialects import GenericDialect, SqliteDialect
from sync_defs.testing.conformance import DatabaseConformance


class GenericSqlite(GenericDialect):
    """The generic writer over SQLite's own engine, which locks by BEGIN IMMEDIATE in place of rows."""

    def create_engine(self, url: URL) -> Engine:
        return SqliteDialect().create_engine(url)

    def connect(self, engine: Engine, *, writes: bool) -> Connection:
        return SqliteDialect().connect(engine, writes=writes)


class TestDatabases(DatabaseConformance):
    @pytest.fixture
    def database(self, migrated_url: str) -> Iterator[Database]:
        with Database(migrated_url) as database:
            yield database


class TestGenericOnPostgresql(DatabaseConformance):
    @pytest.fixture
    def database(self, postgresql_url: str) -> Iterator[Database]:
        with Database(postgresql_url, dialect=GenericDialect("postgresql")) as database:
            database.upgrade()
            yield database


class TestGenericOnSqlite(DatabaseConformance):
    tells_constraints = False

    @pytest.fixture
    def database(self, sqlite_url: str) -> Iterator[Database]:
        with Database(sqlite_url, dialect=GenericSqlite("sqlite")) as database:
            database.upgrade()
            yield database
