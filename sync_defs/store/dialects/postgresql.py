"""PostgreSQL, through psycopg 3. Facts measured on 15."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    LargeBinary,
    Select,
    Table,
    Text,
    cast,
    create_engine,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
    types,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError
from sqlalchemy.sql import ColumnElement, FromClause

from sync_defs.errors import RecordError
from sync_defs.store.dialects import postgresql_apart, postgresql_items
from sync_defs.store.dialects.dialect import (
    ENGINE_OPTIONS,
    SQLSTATES,
    Refused,
    SqlDialect,
    TableSum,
    bound_columns,
    insert_and_return,
    is_exact,
)
from sync_defs.store.dialects.lines import WRITERS, escaped, joined_lines, texts_of
from sync_defs.store.dialects.postgresql_apart import RECORD_CLASSES, counting

_MIGRATION_LOCK = 0x53594E43
_WORK_MEM = "64MB"
_CONNECTION_S = 3600
"""How long a connection is used: a temporary table holds up the server's clean-up of old transactions for as long."""
_LINES = 500
"""Rows of a COPY that are sent at once."""
_WRITERS: Mapping[type, Callable[[Any], str]] = {
    **WRITERS,
    bool: {True: "t", False: "f"}.__getitem__,
    bytes: lambda value: rf"\\x{value.hex()}",
}
_PRINTS = 100_000
"""Entries that the server puts together at once."""


class PostgresqlDialect(SqlDialect):
    """COPY into the stage, UPDATE … FROM and anti-join INSERT out of it."""

    name = "postgresql"
    schema = "sync_defs"
    stage_prefixes = ("UNLOGGED",)
    has_temporary_tables = True
    keeps_item_stage = True
    keeps_time_zones = True

    def create_engine(self, url: URL) -> Engine:
        """Return an engine on psycopg 3 that checks a pooled connection before use."""
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        return create_engine(url, **ENGINE_OPTIONS, pool_pre_ping=True, pool_recycle=_CONNECTION_S)

    def create_item_stage(self, connection: Connection, stage: Table, target: Sequence[Column[Any]]) -> None:
        """Take the connection's own table, or make it."""
        postgresql_items.create(connection, stage)

    def drop_item_stage(self, connection: Connection, stage: Table) -> None:
        """Empty it."""
        postgresql_items.clear(connection, stage)

    def bulk_load(self, connection: Connection, table: Table, columns: Sequence[Sequence[Any]]) -> None:
        """COPY the rows, converted as SQLAlchemy would bind them; columns without a value are left out."""
        # Of a page most columns of a stage are empty: each costs this process some time a row, and the server none.
        kept = [place for place, values in enumerate(columns) if any(value is not None for value in values)]
        bound = bound_columns(table, connection.dialect, columns)
        values = [bound[place] for place in kept]
        preparer = connection.dialect.identifier_preparer
        names = [preparer.quote(column.name) for column in table.columns]
        into = ", ".join(names[place] for place in kept)
        statement = f"COPY {preparer.format_table(table)} ({into}) FROM STDIN"
        driver: Any = connection.connection.driver_connection
        dialect: Any = connection.dialect
        # With a savepoint, since the caller looks for the record that a failed COPY is to blame for.
        with connection.begin_nested():
            try:
                with driver.cursor() as cursor, cursor.copy(statement) as copy:
                    # The server reads one part while the next one is written.
                    for start in range(0, len(columns[0]), _LINES):
                        part = [column[start : start + _LINES] for column in values]
                        copy.write(joined_lines([_texts(column, driver) for column in part]))
            except dialect.dbapi.Error as error:
                is_lost = dialect.is_disconnect(error, driver, None)
                options: Any = {"hide_parameters": True, "connection_invalidated": is_lost, "dialect": dialect}
                raise DBAPIError.instance(statement, None, error, dialect.dbapi.Error, **options) from error

    def prepare_stage(
        self, connection: Connection, stage: Table, keys: Sequence[str], *, is_first_load: bool = False
    ) -> None:
        """Gather statistics: without them a join with a new table is planned for a thousand rows."""
        if not is_first_load:
            name = connection.dialect.identifier_preparer.format_table(stage)
            connection.exec_driver_sql(f"ANALYZE {name}")

    def packed_prints(self, connection: Connection, statement: Any) -> Iterator[bytes]:
        """Have the server put them together: a tenth of the time of rows."""
        seq, fingerprint = statement.subquery("prints").columns
        part = seq // literal_column(str(_PRINTS), BigInteger)
        nothing = literal_column("''::bytea", LargeBinary)
        whole = func.string_agg(fingerprint, aggregate_order_by(nothing, seq), type_=LargeBinary)
        for [entries] in self.values(connection, select(whole).group_by(part).order_by(part), at_once=1):
            yield entries

    def values(self, connection: Connection, statement: Select[Any], *, at_once: int) -> Iterator[Sequence[Any]]:
        """Read them by the driver's own cursor, in a fifth of the time; bytes as they are, not as text of digits."""
        [column] = statement.selected_columns
        is_binary = isinstance(column.type, LargeBinary)
        is_plain = isinstance(column.type, types.String | types.Integer) and not isinstance(column.type, types.Enum)
        if not is_binary and not is_plain:
            yield from super().values(connection, statement, at_once=at_once)
            return
        compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        driver: Any = connection.connection.driver_connection
        with driver.cursor("sync_defs_values", binary=is_binary) as cursor:
            cursor.execute(compiled.string, compiled.params)
            while rows := cursor.fetchmany(at_once):
                yield [value for (value,) in rows]

    def count_written(self, connection: Connection, statement: Any, values: Mapping[str, Any] | None = None) -> int:
        """Read the command's tag; of INSERT, UPDATE and DELETE it tells exactly the rows written."""
        return int(connection.execute(statement, values, execution_options={"preserve_rowcount": True}).rowcount)

    def together(self, statements: Sequence[Any]) -> Sequence[Any]:
        """Return one statement, whose parts all see the target as it was; where a write fails, no history was built."""
        # As the outer statement, an INSERT would get NULL for what columns have as a default in Python.
        return statements if len(statements) == 1 else [counting(statements)]

    def write_together(self, connection: Connection, statements: Sequence[Any], values: Mapping[str, Any]) -> int:
        """Send the one statement."""
        [statement] = statements
        if statement.is_select:
            return int(connection.execute(statement, values).scalar_one())
        return self.count_written(connection, statement, values)

    def in_order(
        self, stage: Table, where: ColumnElement[bool], column: Column[Any]
    ) -> tuple[FromClause, ColumnElement[bool]]:
        """Sort them: a target that is updated at random places, and its index with it, takes twice the time."""
        return select(stage).where(where).order_by(column).subquery("in_order"), true()

    def write_apart(
        self,
        connection: Connection,
        stage: Table,
        statements: Sequence[Any],
        values: Mapping[str, Any],
        low: int,
        high: int,
    ) -> tuple[int, Refused] | None:
        """Have the server do it all, in one block of PL/pgSQL."""
        written, found = postgresql_apart.write_apart(connection, stage, statements, values, low, high)
        return written, [(seq, _refusal(state, column, constraint)) for seq, state, column, constraint in found]

    def insert_missing(self, table: Table, key: str, columns: Sequence[str], rows: Select[Any]) -> Any:
        """Return INSERT … ON CONFLICT (key) DO NOTHING, so that other unique keys still raise."""
        statement = postgresql_insert(table).from_select(list(columns), rows)
        return statement.on_conflict_do_nothing(index_elements=[table.columns[key]])

    def json_object(self, pairs: Sequence[tuple[str, ColumnElement[Any]]]) -> ColumnElement[Any]:
        """Return the text of `json_build_object(...)`, which takes half the time of `jsonb`."""
        arguments = [part for name, value in pairs for part in (cast(literal(name), Text), value)]
        return cast(func.json_build_object(*arguments), Text)

    def tells_keys_apart(self, connection: Connection, key: Column[Any]) -> bool:
        """Leave it to the type: a database's own collation is always deterministic, as others need not be."""
        return is_exact(key.type, connection.dialect)

    def comparable(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Compare `json` as `jsonb`, since `json` has no equality."""
        return cast(column, JSONB) if isinstance(column.type, types.JSON) else column

    def checksum(
        self, connection: Connection, columns: Sequence[ColumnElement[Any]], where: ColumnElement[bool] | None = None
    ) -> TableSum | None:
        """XOR the rows' own hashes; None where a type has none. `hash_record_extended` exists since PostgreSQL 14."""
        row = func.row(*[self.comparable(column) for column in columns])
        hashes = func.coalesce(func.bit_xor(func.hash_record_extended(row, 0)), 0)
        statement = select(hashes, func.count(), func.count(columns[0]))
        if where is not None:
            statement = statement.where(where)
        try:
            with connection.begin_nested():
                return TableSum(*connection.execute(statement).one())
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            return None

    def record_error(self, error: DBAPIError) -> RecordError | None:
        """Read SQLSTATE, column and constraint; never the message, whose detail holds values."""
        state = getattr(error.orig, "sqlstate", None) or ""
        if not state and not error.connection_invalidated and isinstance(error, DataError | ProgrammingError):
            return RecordError("the driver cannot store a value of this kind", code="bad_value")
        if not state.startswith(RECORD_CLASSES):
            return None
        diagnostics: Any = getattr(error.orig, "diag", None)
        column, constraint = (getattr(diagnostics, name, None) for name in ("column_name", "constraint_name"))
        return _refusal(state, column, constraint)

    def lock_migrations(self, connection: Connection) -> None:
        """Take an advisory lock that ends with the transaction."""
        connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))

    def begin_upsert(self, connection: Connection) -> None:
        """Check deferred constraints per statement, so that a bad record shows where it is written."""
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))

    def begin_bulk(self, connection: Connection) -> None:
        """Give sorts and hashes enough memory for a stage, where the server has little for them by default."""
        held, wanted = (func.pg_size_bytes(size) for size in (func.current_setting("work_mem"), _WORK_MEM))
        connection.execute(select(func.set_config("work_mem", _WORK_MEM, True)).where(held < wanted))

    def insert_absent(self, connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
        """Send `INSERT … ON CONFLICT (key) DO NOTHING`."""
        return self.insert_absent_rows(connection, table, [values])[0]

    def insert_absent_rows(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Send the same for many rows at once."""
        statement = postgresql_insert(table).on_conflict_do_nothing(index_elements=list(table.primary_key))
        return insert_and_return(connection, statement, rows)


def _texts(values: Sequence[Any], driver: Any) -> Iterable[str]:
    """Return a column as texts for COPY; those of types that only the driver knows are its own."""
    texts = texts_of(values, _WRITERS)
    if texts is not None:
        return texts
    from psycopg.adapt import PyFormat, Transformer  # not for what never gets here

    transformer = Transformer(driver)

    def written(value: Any) -> str | None:
        text = None if value is None else transformer.get_dumper(value, PyFormat.TEXT).dump(value)
        return None if text is None else bytes(text).decode(driver.info.encoding)

    return escaped(list(map(written, values)))


def _refusal(state: str, column: str | None, constraint: str | None) -> RecordError:
    code, reason = SQLSTATES.get(state, ("constraint", f"the database refuses the row (SQLSTATE {state})"))
    return RecordError(f"{reason} (constraint {constraint})" if constraint else reason, code=code, field=column)
