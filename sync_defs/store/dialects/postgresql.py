"""PostgreSQL, through psycopg 3. Facts measured on 15."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    Table,
    Text,
    cast,
    create_engine,
    func,
    literal,
    select,
    text,
    types,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError
from sqlalchemy.sql import ColumnElement

from sync_defs.errors import RecordError
from sync_defs.store.dialects.dialect import SqlDialect, bind_processors

_MIGRATION_LOCK = 0x53594E43
# Classes of SQLSTATE that one record can cause; everything else is the database's trouble.
_CODES = {
    "23505": ("unique", "another row has this value already"),
    "23502": ("not_null", "a value is required"),
    "23514": ("check", "a check constraint refuses the value"),
    "23503": ("foreign_key", "the row that it refers to does not exist, or a row refers to it"),
    "22001": ("too_long", "the text is too long for the column"),
    "22003": ("out_of_range", "the number does not fit the column"),
}
_RECORD_CLASSES = ("22", "23", "44", "P0")


class PostgresqlDialect(SqlDialect):
    """COPY into the stage, UPDATE … FROM and anti-join INSERT out of it."""

    name = "postgresql"
    schema = "sync_defs"
    stage_prefixes = ("UNLOGGED",)
    keeps_time_zones = True

    def create_engine(self, url: URL) -> Engine:
        """Return an engine on psycopg 3 that checks a pooled connection before use."""
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        return create_engine(url, hide_parameters=True, pool_pre_ping=True)

    def bulk_load(self, connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """COPY the rows, converted as SQLAlchemy would bind them."""
        if not rows:
            return
        processors = bind_processors(table, connection.dialect)
        preparer = connection.dialect.identifier_preparer
        columns = ", ".join(preparer.quote(column.name) for column in table.columns)
        statement = f"COPY {preparer.format_table(table)} ({columns}) FROM STDIN"
        driver: Any = connection.connection
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(
                    [
                        value if process is None or value is None else process(value)
                        for value, process in zip(row, processors, strict=True)
                    ]
                )

    def prepare_stage(self, connection: Connection, stage: Table, keys: Sequence[str]) -> None:
        """Gather statistics: without them a join with a new table is planned for a thousand rows."""
        name = connection.dialect.identifier_preparer.format_table(stage)
        connection.exec_driver_sql(f"ANALYZE {name}")

    def count_written(self, connection: Connection, statement: Any) -> int:
        """Count what RETURNING returns, on the server."""
        written = statement.returning(literal(1).label("one")).cte("written")
        return int(connection.execute(select(func.count()).select_from(written)).scalar_one())

    def insert_missing(self, table: Table, key: str, columns: Sequence[str], rows: Select[Any]) -> Any:
        """Return INSERT … ON CONFLICT (key) DO NOTHING, so that other unique keys still raise."""
        statement = postgresql_insert(table).from_select(list(columns), rows)
        return statement.on_conflict_do_nothing(index_elements=[table.columns[key]])

    def json_object(self, pairs: Sequence[tuple[str, ColumnElement[Any]]]) -> ColumnElement[Any]:
        """Return the text of `jsonb_build_object(...)`."""
        arguments = [part for name, value in pairs for part in (cast(literal(name), Text), value)]
        return cast(func.jsonb_build_object(*arguments), Text)

    def comparable(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Compare `json` as `jsonb`, since `json` has no equality."""
        return cast(column, JSONB) if isinstance(column.type, types.JSON) else column

    def record_error(self, error: DBAPIError) -> RecordError | None:
        """Read SQLSTATE, column and constraint; never the message, whose detail holds values."""
        state = getattr(error.orig, "sqlstate", None) or ""
        if not state and not error.connection_invalidated and isinstance(error, DataError | ProgrammingError):
            return RecordError("the driver cannot store a value of this kind", code="bad_value")
        if not state.startswith(_RECORD_CLASSES):
            return None
        diagnostics: Any = getattr(error.orig, "diag", None)
        code, reason = _CODES.get(state, ("constraint", f"the database refuses the row (SQLSTATE {state})"))
        constraint = getattr(diagnostics, "constraint_name", None)
        if constraint:
            reason = f"{reason} (constraint {constraint})"
        return RecordError(reason, code=code, field=getattr(diagnostics, "column_name", None))

    def lock_migrations(self, connection: Connection) -> None:
        """Take an advisory lock that ends with the transaction."""
        connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))

    def begin_upsert(self, connection: Connection) -> None:
        """Check deferred constraints per statement, so that a bad record shows where it is written."""
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))

    def insert_or_ignore(self, table: Table) -> Any:
        """Return `INSERT … ON CONFLICT DO NOTHING`."""
        return postgresql_insert(table).on_conflict_do_nothing()
