"""MariaDB and MySQL, by default through PyMySQL. Facts measured on MariaDB 10.11.

CREATE and DROP TABLE commit the open transaction, except for temporary tables. Connections read only what is
committed (as on PostgreSQL) and report the rows that an UPDATE found, so that `rowcount` is what its WHERE matched.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    Connection,
    Delete,
    Engine,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
    types,
    update,
)
from sqlalchemy.dialects.mysql import insert as mysql_insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.util import ClauseAdapter

from sync_defs.errors import DatabaseNotReadyError, RecordError
from sync_defs.store.dialects import mariadb_load, mariadb_stage
from sync_defs.store.dialects.dialect import ENGINE_OPTIONS, SqlDialect, lock_and_update, named_rows
from sync_defs.store.dialects.mariadb_errors import record_error
from sync_defs.store.dialects.mariadb_expressions import Exact, JsonDiffers, is_text, json_value
from sync_defs.store.dialects.mariadb_types import MARIADB_COLLATION, MYSQL_COLLATION, ExactTypes

_BASE_MODE = "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
# A key of 0 is a key, not a wish for the next number.
_SQL_MODE = f"{_BASE_MODE},NO_AUTO_VALUE_ON_ZERO"
_MARIADB_SQL_MODE = f"{_SQL_MODE},SIMULTANEOUS_ASSIGNMENT"
_MIGRATION_WAIT_S = 3_600
_ITEM_STAGE = "sync_defs_item_stage"
_STORABLE = (str, bytes, bytearray, int, float, Decimal, date, time, timedelta, UUID, type(None))
"""What PyMySQL writes as it is; anything else it would write as the text of its repr, a list as several values."""


class MariadbDialect(SqlDialect):
    """LOAD DATA into the stage, UPDATE … JOIN and anti-join INSERT out of it; no ON DUPLICATE KEY for targets.

    That would fire on any unique key, so that a record with a barcode that is taken overwrites another product.
    """

    name = "mariadb"
    schema = None
    install = "the extra `mysql` of sync_defs brings PyMySQL along"
    has_temporary_tables = True
    keeps_time_zones = False
    undoes_ddl = False

    def create_engine(self, url: URL) -> Engine:
        """Return an engine with strict and exact sessions in UTC that checks a pooled connection before use."""
        if url.drivername in ("mysql", "mariadb"):
            url = url.set(drivername=f"{url.drivername}+pymysql")
        engine = create_engine(url, **ENGINE_OPTIONS, pool_pre_ping=True, isolation_level="READ COMMITTED")
        # Alembic reads the older of the two names.
        engine.dialect.type_compiler_instance = engine.dialect.type_compiler = ExactTypes(engine.dialect)
        event.listen(engine, "do_connect", mariadb_load.allow)
        event.listen(engine, "connect", _configure, insert=True)
        event.listen(engine, "connect", _name_collation)
        event.listen(engine, "reset", _forget_item_stage)
        if engine.dialect.driver == "pymysql":
            event.listen(engine, "before_cursor_execute", _refuse_strange_values)
        return engine.execution_options(schema_translate_map={"sync_defs": None})

    def create_stage(self, connection: Connection, stage: Table, target: Sequence[Column[Any]]) -> None:
        """Create the stage with the target's precision and collations."""
        statement = mariadb_stage.create_statement(connection, stage, target, is_temporary=False)
        connection.exec_driver_sql(statement)

    def create_item_stage(self, connection: Connection, stage: Table, target: Sequence[Column[Any]]) -> None:
        """Create a temporary table, which does not commit; it goes at the latest with the connection's next use."""
        connection.info[_ITEM_STAGE] = stage.name
        statement = mariadb_stage.create_statement(connection, stage, target, is_temporary=True)
        connection.exec_driver_sql(statement)

    def drop_item_stage(self, connection: Connection, stage: Table) -> None:
        """Drop the temporary table."""
        name = connection.dialect.identifier_preparer.quote(stage.name)
        connection.exec_driver_sql(f"DROP TEMPORARY TABLE {name}")
        connection.info.pop(_ITEM_STAGE, None)

    def bulk_load(self, connection: Connection, table: Table, columns: Sequence[Sequence[Any]]) -> None:
        """Send the rows by LOAD DATA, where driver and server can, else as INSERTs of many rows each."""
        if not mariadb_load.load(connection, table, columns):
            connection.execute(insert(table), named_rows(table, columns))

    def prepare_stage(
        self, connection: Connection, stage: Table, keys: Sequence[str], *, is_first_load: bool = False
    ) -> None:
        """Add indexes; the stage of single items has them from the start, since adding them would commit."""
        if connection.info.get(_ITEM_STAGE) == stage.name:
            return
        there = {index["name"] for index in inspect(connection).get_indexes(stage.name)}
        added = [f"ADD INDEX {key} ({key})" for key in keys if key not in there]
        if added:
            name = connection.dialect.identifier_preparer.quote(stage.name)
            connection.exec_driver_sql(f"ALTER TABLE {name} {', '.join(added)}")

    def count_written(self, connection: Connection, statement: Any, values: Mapping[str, Any] | None = None) -> int:
        """Read the driver's count: the rows inserted or deleted, or those that an UPDATE's WHERE matched."""
        return int(connection.execute(statement, values, execution_options={"preserve_rowcount": True}).rowcount)

    def insert_missing(self, table: Table, key: str, columns: Sequence[str], rows: Select[Any]) -> Any:
        """Return a plain INSERT … SELECT."""
        return insert(table).from_select(list(columns), rows)

    def sorted_rows(self, rows: Select[Any], column: Column[Any]) -> Select[Any]:
        """Leave them as they came: of rows with texts, MariaDB sorts the numbers, and then looks each of them up."""
        return rows

    def same_key(self, key: ColumnElement[Any], staged: ColumnElement[Any]) -> ColumnElement[bool]:
        """Compare texts in the target's collation, to use its index, and then as bytes."""
        if not is_text(staged.type):
            return key == staged
        return and_(key == staged, key == Exact(staged))

    def exact(self, staged: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return texts in the collation that tells all of them apart."""
        return Exact(staged) if is_text(staged.type) else staged

    def differs(self, staged: ColumnElement[Any], held: ColumnElement[Any]) -> ColumnElement[bool]:
        """Compare texts as bytes, and JSON as values, which are LONGTEXT here."""
        if isinstance(held.type, types.JSON):
            return JsonDiffers(staged, held)
        return self.exact(staged).is_distinct_from(held)

    def newest_first(self, version: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        """Return descending order: NULL is the least of all here."""
        return [self.exact(version).desc()]

    def classify(
        self,
        stage: Table,
        target: Table,
        joins: Callable[[Any], ColumnElement[bool]],
        judgement: Callable[[Any], ColumnElement[Any]],
        is_candidate: Callable[[Any], ColumnElement[bool]],
    ) -> Update:
        """Update the stage through the join itself: a subquery would be written out first."""
        # Under its own name the target would get the values of its columns' `onupdate`.
        held = target.alias("held")
        read = ClauseAdapter(held).traverse
        joined = stage.outerjoin(held, read(joins(stage)))
        return update(joined).values({stage.c.action: read(judgement(stage))}).where(is_candidate(stage))

    def delete_keys(self, table: Table, key: ColumnElement[Any], keys: Select[Any]) -> Delete:
        """Join the keys: IN would look at every row of the table."""
        gone = keys.subquery("gone")
        return delete(table).where(self.same_key(key, gone.columns[0]))

    def json_object(self, pairs: Sequence[tuple[str, ColumnElement[Any]]]) -> ColumnElement[Any]:
        """Return `json_object(...)`."""
        return func.json_object(*[part for name, value in pairs for part in (literal(name), json_value(value))])

    def key_text(self, key: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return a UUID, which may be kept as 32 digits, in its usual form."""
        found = super().key_text(key)
        if not isinstance(key.type, types.Uuid):
            return found
        digits = func.lower(func.replace(found, "-", ""))
        parts = [func.substr(digits, start, length) for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))]
        return func.concat_ws("-", *parts)

    def comparable(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the column: every type has equality."""
        return column

    def record_error(self, error: DBAPIError) -> RecordError | None:
        """Read the server's number, and the names in its message."""
        return record_error(error)

    @contextmanager
    def migrating(self, engine: Engine) -> Generator[Connection]:
        """Hold a lock of the server around the transaction: CREATE TABLE commits, and a dead connection lets go."""
        name = func.concat("sync_defs.", func.md5(func.database()))
        with self.connect(engine, writes=True) as connection:
            if connection.execute(select(func.get_lock(name, _MIGRATION_WAIT_S))).scalar() != 1:
                raise DatabaseNotReadyError("another process has been migrating the database for an hour")
            connection.commit()
            try:
                with connection.begin():
                    yield connection
            finally:
                if not connection.invalidated:
                    connection.execute(select(func.release_lock(name)))
                    connection.commit()

    def lock_migrations(self, connection: Connection) -> None:
        """Do nothing more: `migrating` has the lock."""

    def insert_absent(self, connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
        """Look first without a lock, then insert; a row that came in between is left as it is.

        A failed INSERT would hold a shared lock, and two of these lock each other out. ON DUPLICATE KEY takes an
        exclusive one, and is told from an insert by the number that it leaves behind. The tables that this is for
        have no other unique key than the primary one.
        """
        keys = list(table.primary_key.columns)
        wanted = [bindparam(f"new_{name}", value, table.columns[name].type) for name, value in values.items()]
        there = exists().where(*[column == values[column.key] for column in keys])
        rows = select(*wanted).select_from(text("DUAL")).where(~there)
        kept = getattr(func, "if")(func.last_insert_id(1), keys[0], keys[0])
        statement = mysql_insert(table).from_select(list(values), rows).on_duplicate_key_update({keys[0].key: kept})
        result = connection.execute(statement, execution_options={"preserve_rowcount": True})
        return result.rowcount == 1 and result.lastrowid != 1

    def distinct(self, column: Column[Any]) -> Select[Any]:
        """Return DISTINCT: MariaDB skips through the index by itself, and would not in a step of a recursion."""
        return select(column).distinct()

    def updated_rows(self, connection: Connection, statement: Update, *columns: Column[Any]) -> Sequence[Any]:
        """Lock and read the rows, then write them."""
        return lock_and_update(connection, statement, columns)


def _configure(connection: Any, _record: Any) -> None:
    """Set the session's modes, before SQLAlchemy looks at them."""
    sql_mode = _MARIADB_SQL_MODE if _is_mariadb(connection) else _SQL_MODE
    with connection.cursor() as cursor:
        cursor.execute(
            f"SET SESSION sql_mode = '{sql_mode}', SESSION time_zone = '+00:00', "
            "SESSION default_storage_engine = InnoDB"
        )


def _name_collation(connection: Any, _record: Any) -> None:
    """Set the session's collation, behind SQLAlchemy's own SET NAMES."""
    collation = MARIADB_COLLATION if _is_mariadb(connection) else MYSQL_COLLATION
    with connection.cursor() as cursor:
        cursor.execute(f"SET NAMES utf8mb4 COLLATE {collation}")


def _is_mariadb(connection: Any) -> bool:
    return "MariaDB" in connection.get_server_info()


def _forget_item_stage(connection: Any, record: Any, _state: Any) -> None:
    """Drop what a transaction that failed has left in the session, before another one gets the connection."""
    name = record.info.pop(_ITEM_STAGE, None)
    if name is not None:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TEMPORARY TABLE IF EXISTS `{name}`")


def _refuse_strange_values(
    _connection: Any, _cursor: Any, _statement: str, parameters: Any, _context: Any, is_many: bool
) -> None:
    rows: Any = parameters if is_many else (parameters,)
    for row in rows:
        values: Iterable[Any] = getattr(row, "values", lambda row=row: row or ())()
        if not all(isinstance(value, _STORABLE) for value in values):
            raise RecordError("the driver cannot store a value of this kind", code="bad_value")
