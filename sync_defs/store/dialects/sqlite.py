"""SQLite, the embedded default. Facts measured on 3.40."""

import sqlite3
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Index,
    Select,
    String,
    Table,
    and_,
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
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from sync_defs.errors import RecordError
from sync_defs.store.dialects.dialect import (
    ENGINE_OPTIONS,
    Refused,
    SqlDialect,
    bound_columns,
    insert_and_return,
    is_exact,
)
from sync_defs.store.dialects.sqlite_apart import SqliteApart

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
    writers_look_every_s = 0.11  # SQLite's own busy handler sleeps for 0.1 s at the most
    has_temporary_tables = True
    schema = None
    keeps_time_zones = False

    def create_engine(self, url: URL) -> Engine:
        """Return an engine with WAL, durable commits, foreign keys and explicit BEGIN."""
        if url.database and url.database != ":memory:":
            Path(url.database).expanduser().resolve().parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, **ENGINE_OPTIONS, connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000})
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        return engine.execution_options(schema_translate_map={"sync_defs": None})

    def connect(self, engine: Engine, *, writes: bool) -> Connection:
        """Take the write lock at BEGIN: a deferred one fails at once under concurrent writers, whatever the timeout."""
        return engine.connect().execution_options(sync_defs_writes=writes)

    def bulk_load(self, connection: Connection, table: Table, columns: Sequence[Sequence[Any]]) -> None:
        """Send one executemany, past SQLAlchemy's parameters by name: these take half of the time."""
        translated: Any = {"schema_translate_map": {"sync_defs": None}, "render_schema_translate": True}
        statement = str(insert(table).compile(dialect=connection.dialect, **translated))
        rows = list(zip(*bound_columns(table, connection.dialect, columns), strict=True))
        connection.exec_driver_sql(statement, rows)

    def prepare_stage(
        self, connection: Connection, stage: Table, keys: Sequence[str], *, is_first_load: bool = False
    ) -> None:
        """Add indexes: SQLite joins by nested loops only, so that NOT EXISTS would scan the stage for each row."""
        made = {index.name for index in stage.indexes}
        for key in keys:
            if (name := f"ix_{stage.name}_{key}") not in made:
                Index(name, stage.columns[key]).create(connection, checkfirst=True)

    def count_written(self, connection: Connection, statement: Any, values: Mapping[str, Any] | None = None) -> int:
        """Ask SQLite itself: `changes()` is exact for the last statement."""
        connection.execute(statement, values)
        return int(connection.execute(select(func.changes())).scalar_one())

    def write_apart(
        self,
        connection: Connection,
        stage: Table,
        statements: Sequence[Any],
        values: Mapping[str, Any],
        low: int,
        high: int,
    ) -> tuple[int, Refused] | None:
        """Write row by row only where 25 rows fail: there is no round trip to save."""
        return SqliteApart(connection, statements, values, _refusal).run(low, high)

    def insert_missing(self, table: Table, key: str, columns: Sequence[str], rows: Select[Any]) -> Any:
        """Return a plain INSERT … SELECT: the transaction excludes every other writer."""
        return insert(table).from_select(list(columns), rows)

    def json_object(self, pairs: Sequence[tuple[str, ColumnElement[Any]]]) -> ColumnElement[Any]:
        """Return `json_object(...)`."""
        arguments = [part for name, value in pairs for part in (literal(name), _json_value(value))]
        return func.json_object(*arguments)

    def sorted_rows(self, rows: Select[Any], column: Column[Any]) -> Select[Any]:
        """Forbid the index, by an operator that does nothing."""
        return rows.order_by(cast("Any", UnaryExpression)(column, operator=cast("Any", custom_op)("+")))

    def same_key(self, key: ColumnElement[Any], staged: ColumnElement[Any]) -> ColumnElement[bool]:
        """Find by the column's own collation, as its index does, then compare as bytes."""
        found = key == staged
        return and_(found, key.collate("BINARY") == staged) if isinstance(key.type, String) else found

    def key_text(self, key: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return a UUID, which is kept as 32 digits here, in its usual form."""
        text = super().key_text(key)
        if not isinstance(key.type, types.Uuid):
            return text
        parts = [func.substr(text, start, length) for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))]
        return reduce(lambda left, right: left.concat("-").concat(right), parts)

    def tells_keys_apart(self, connection: Connection, key: Column[Any]) -> bool:
        """Leave it to the type: SQLite compares bytes."""
        return is_exact(key.type, connection.dialect)

    def comparable(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the column: every type has equality."""
        return column

    def record_error(self, error: DBAPIError) -> RecordError | None:
        """Read the constraint's kind from the message, which names columns but holds no values."""
        return _refusal(error.orig)

    def lock_migrations(self, connection: Connection) -> None:
        """Do nothing more: BEGIN IMMEDIATE has the lock."""

    def insert_absent(self, connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
        """Send `INSERT … ON CONFLICT (key) DO NOTHING`."""
        return self.insert_absent_rows(connection, table, [values])[0]

    def insert_absent_rows(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Send the same for many rows at once."""
        statement = sqlite_insert(table).on_conflict_do_nothing(index_elements=list(table.primary_key))
        return insert_and_return(connection, statement, rows)


def _refusal(error: BaseException | None) -> RecordError | None:
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError | OverflowError):
        return RecordError("the driver cannot store a value of this kind", code="bad_value")
    if not isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
        return None
    text = str(error)
    for kind, (code, reason) in _CONSTRAINTS.items():
        if text.startswith(f"{kind} constraint failed"):
            place = text.partition(": ")[2]
            return RecordError(reason, code=code, field=place.rpartition(".")[2] or None)
    return RecordError("the database refuses the row", code="constraint")


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
