"""SQLite, the embedded default. Facts measured on 3.40."""

import sqlite3
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Index,
    Select,
    Table,
    create_engine,
    event,
    func,
    insert,
    literal,
    select,
    types,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ColumnElement

from sync_defs.errors import RecordError
from sync_defs.store.dialects.dialect import SqlDialect

_BUSY_TIMEOUT_MS = 30_000
_CONSTRAINTS = {
    "UNIQUE": ("unique", "another row has this value already"),
    "PRIMARY KEY": ("unique", "another row has this value already"),
    "NOT NULL": ("not_null", "a value is required"),
    "CHECK": ("check", "a check constraint refuses the value"),
    "FOREIGN KEY": ("foreign_key", "the row that it refers to does not exist, or a row refers to it"),
}


class SqliteDialect(SqlDialect):
    """One writer at a time, by BEGIN IMMEDIATE; a failed statement undoes only itself."""

    name = "sqlite"
    schema = None
    keeps_time_zones = False

    def create_engine(self, url: URL) -> Engine:
        """Return an engine with WAL, durable commits, foreign keys and explicit BEGIN."""
        if url.database and url.database != ":memory:":
            Path(url.database).expanduser().resolve().parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000})
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        return engine.execution_options(schema_translate_map={"sync_defs": None})

    def connect(self, engine: Engine, *, writes: bool) -> Connection:
        """Take the write lock at BEGIN: a deferred one fails at once under concurrent writers, whatever the timeout."""
        return engine.connect().execution_options(sync_defs_writes=writes)

    def bulk_load(self, connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Send one executemany."""
        if rows:
            names = [column.key for column in table.columns]
            connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])

    def prepare_stage(self, connection: Connection, stage: Table, keys: Sequence[str]) -> None:
        """Add indexes: SQLite joins by nested loops only, so that NOT EXISTS would scan the stage for each row."""
        for key in keys:
            Index(f"ix_{stage.name}_{key}", stage.columns[key]).create(connection, checkfirst=True)

    def count_written(self, connection: Connection, statement: Any) -> int:
        """Ask SQLite itself: `changes()` is exact for the last statement."""
        connection.execute(statement)
        return int(connection.execute(select(func.changes())).scalar_one())

    def insert_missing(self, table: Table, key: str, columns: Sequence[str], rows: Select[Any]) -> Any:
        """Return a plain INSERT … SELECT: the transaction excludes every other writer."""
        return insert(table).from_select(list(columns), rows)

    def json_object(self, pairs: Sequence[tuple[str, ColumnElement[Any]]]) -> ColumnElement[Any]:
        """Return `json_object(...)`."""
        arguments = [part for name, value in pairs for part in (literal(name), _json_value(value))]
        return func.json_object(*arguments)

    def key_text(self, key: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return a UUID, which is kept as 32 digits here, in its usual form."""
        text = super().key_text(key)
        if not isinstance(key.type, types.Uuid):
            return text
        parts = [func.substr(text, start, length) for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))]
        return reduce(lambda left, right: left.concat("-").concat(right), parts)

    def comparable(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the column: every type has equality."""
        return column

    def record_error(self, error: DBAPIError) -> RecordError | None:
        """Read the constraint's kind from the message, which names columns but holds no values."""
        if isinstance(error.orig, sqlite3.ProgrammingError | sqlite3.InterfaceError | OverflowError):
            return RecordError("the driver cannot store a value of this kind", code="bad_value")
        if not isinstance(error.orig, sqlite3.IntegrityError | sqlite3.DataError):
            return None
        text = str(error.orig)
        for kind, (code, reason) in _CONSTRAINTS.items():
            if text.startswith(f"{kind} constraint failed"):
                place = text.partition(": ")[2]
                return RecordError(reason, code=code, field=place.rpartition(".")[2] or None)
        return RecordError("the database refuses the row", code="constraint")

    def lock_migrations(self, connection: Connection) -> None:
        """Do nothing more: BEGIN IMMEDIATE has the lock."""

    def insert_or_ignore(self, table: Table) -> Any:
        """Return `INSERT … ON CONFLICT DO NOTHING`."""
        return sqlite_insert(table).on_conflict_do_nothing()


def _json_value(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a value that JSON can hold: bytes as digits, as PostgreSQL writes them."""
    if not isinstance(value.type, types.LargeBinary):
        return value
    return literal("\\x").concat(func.lower(func.hex(value)))


def _configure(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling commits inside savepoints; without it BEGIN is ours.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("sync_defs_writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
