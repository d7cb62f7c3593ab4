"""Any other database that SQLAlchemy has a dialect for, by portable statements alone.

It is slow where the others are fast: rows are loaded by executemany, an UPDATE reads the stage once for each column,
and history goes through this process. Constraints are told apart only where the driver gives an SQLSTATE. The
database needs SELECT … FOR UPDATE, window functions and savepoints. Upgrades are not locked against each other.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Index,
    Select,
    String,
    Table,
    Text,
    Update,
    and_,
    case,
    cast,
    create_engine,
    func,
    insert,
    literal,
    or_,
    select,
    types,
    update,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.sql import ColumnElement

from sync_defs.errors import ConfigurationError, RecordError
from sync_defs.store.dialects.dialect import ENGINE_OPTIONS, SQLSTATES, SqlDialect, lock_and_update, named_rows

_SQLSTATE_LENGTH = 5


class GenericDialect(SqlDialect):
    """Core, correlated subqueries, executemany and savepoints; nothing of any one database."""

    schema = None
    keeps_time_zones = True
    install = "install it as SQLAlchemy's documentation says"
    builds_json = False
    undoes_ddl = False

    def __init__(self, name: str) -> None:
        """Take SQLAlchemy's name of the database."""
        self.name = name

    def create_engine(self, url: URL) -> Engine:
        """Return an engine whose errors hide parameters.

        Raises:
            ConfigurationError: the database has no SELECT … FOR UPDATE, on which runs and messages rest.
        """
        engine = create_engine(url, **ENGINE_OPTIONS, pool_pre_ping=True)
        if "FOR UPDATE" not in str(select(literal(1)).with_for_update().compile(dialect=engine.dialect)):
            raise ConfigurationError(f"database {self.name!r} is not supported: it cannot lock rows for an update")
        return engine.execution_options(schema_translate_map={"sync_defs": None})

    def bulk_load(self, connection: Connection, table: Table, columns: Sequence[Sequence[Any]]) -> None:
        """Send one executemany."""
        connection.execute(insert(table), named_rows(table, columns))

    def prepare_stage(
        self, connection: Connection, stage: Table, keys: Sequence[str], *, is_first_load: bool = False
    ) -> None:
        """Add indexes."""
        for key in keys:
            Index(f"ix_{stage.name}_{key}", stage.columns[key]).create(connection, checkfirst=True)

    def count_written(self, connection: Connection, statement: Any, values: Mapping[str, Any] | None = None) -> int:
        """Read the driver's count.

        Raises:
            ConfigurationError: the driver does not count.
        """
        count = connection.execute(statement, values, execution_options={"preserve_rowcount": True}).rowcount
        if count < 0:
            raise ConfigurationError(f"the driver of {self.name!r} does not tell how many rows it wrote")
        return int(count)

    def insert_missing(self, table: Table, key: str, columns: Sequence[str], rows: Select[Any]) -> Any:
        """Return a plain INSERT … SELECT."""
        return insert(table).from_select(list(columns), rows)

    def differs(self, staged: ColumnElement[Any], held: ColumnElement[Any]) -> ColumnElement[bool]:
        """Spell IS DISTINCT FROM out."""
        left, right = self.comparable(staged), self.comparable(held)
        return or_(left != right, and_(left.is_(None), right.is_not(None)), and_(left.is_not(None), right.is_(None)))

    def newest_first(self, version: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        """Spell NULLS LAST out."""
        return [case((version.is_(None), 1), else_=0), version.desc()]

    def update_from(
        self, table: Table, values: Mapping[Column[Any], ColumnElement[Any]], where: ColumnElement[bool]
    ) -> Update:
        """Return an UPDATE with a subquery for each column, and one for which rows."""

        def joined(column: Any) -> Select[Any]:
            return select(column).where(where).correlate(table)

        found = {column: joined(value).scalar_subquery() for column, value in values.items()}
        return update(table).values(found).where(joined(literal(1)).exists())

    def json_object(self, pairs: Sequence[tuple[str, ColumnElement[Any]]]) -> ColumnElement[Any]:
        """See `builds_json`."""
        raise NotImplementedError

    def comparable(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Compare JSON as the text that it was written as."""
        return cast(column, Text) if isinstance(column.type, types.JSON) else column

    def key_text(self, key: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return a UUID, which may be kept as 32 digits, in its usual form."""
        found = super().key_text(key)
        if not isinstance(key.type, types.Uuid):
            return found
        digits = func.lower(func.replace(found, "-", ""), type_=String)
        parts = [
            func.substr(digits, start, length, type_=String)
            for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
        ]
        return reduce(lambda left, right: left.concat("-").concat(right), parts)

    def record_error(self, error: DBAPIError) -> RecordError | None:
        """Read the SQLSTATE where there is one, else the class of the error."""
        state = _sqlstate(error.orig)
        if state.startswith(("22", "23", "44")):
            return RecordError(SQLSTATES[state][1], code=SQLSTATES[state][0]) if state in SQLSTATES else _refused()
        if error.connection_invalidated or not isinstance(error, IntegrityError | DataError):
            return None
        return _refused()

    def lock_migrations(self, connection: Connection) -> None:
        """Do nothing: there is no portable lock."""

    def insert_absent(self, connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
        """Look first, then insert in a savepoint, and look again if that fails."""
        there = select(literal(1)).where(*[column == values[column.key] for column in table.primary_key])
        if connection.execute(there).first() is not None:
            return False
        try:
            with connection.begin_nested():
                connection.execute(insert(table).values(**values))
        except IntegrityError:
            if connection.execute(there).first() is None:
                raise
            return False
        return True

    def updated_rows(self, connection: Connection, statement: Update, *columns: Column[Any]) -> Sequence[Any]:
        """Lock and read the rows, then write them."""
        return lock_and_update(connection, statement, columns)


def _refused() -> RecordError:
    return RecordError("the database refuses the row", code="constraint")


def _sqlstate(error: Any) -> str:
    arguments = getattr(error, "args", ())
    for found in (getattr(error, "sqlstate", None), getattr(error, "pgcode", None), *arguments[:1]):
        if isinstance(found, str) and len(found) == _SQLSTATE_LENGTH:
            return found
    return ""
