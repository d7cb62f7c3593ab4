"""What differs between databases, one method for each difference."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    Delete,
    Engine,
    Select,
    String,
    Table,
    Update,
    cast,
    delete,
    select,
    types,
    update,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql import ColumnElement, FromClause

from sync_defs.errors import RecordError

SQLSTATES: Mapping[str, tuple[str, str]] = {
    "22001": ("too_long", "the text is too long for the column"),
    "22003": ("out_of_range", "the number does not fit the column"),
    "23502": ("not_null", "a value is required"),
    "23503": ("foreign_key", "the row that it refers to does not exist, or a row refers to it"),
    "23505": ("unique", "another row has this value already"),
    "23514": ("check", "a check constraint refuses the value"),
}
"""What a record may cause, with the code and the reason of its rejection."""


Refused = list[tuple[int, RecordError]]
"""Records by their `seq` in a stage, each with what is wrong with it."""


ENGINE_OPTIONS: Mapping[str, Any] = {"hide_parameters": True, "query_cache_size": 5_000}
"""What every engine is made with: single items take 20 statements of each job, and 200 jobs may share a process."""


_INTEGERS = (types.Integer, types.BigInteger, types.SmallInteger)
_EXACT_TYPE = re.compile(r"(VARCHAR(\(\d+\))?|TEXT|INTEGER|BIGINT|SMALLINT)")


_CREATE = "sync_defs_create"


class TableSum(NamedTuple):
    """What one reading of a table tells of its rows."""

    checksum: int
    """The XOR of their hashes."""
    rows: int
    keys: int
    """Rows that have a key."""


class SqlDialect(ABC):
    """One database's way of doing what the store needs."""

    name: str
    """What the database is called: SQLAlchemy's name of its dialect."""
    schema: str | None
    """Schema of the bookkeeping tables; None where the database has no schemas."""
    stage_prefixes: Sequence[str] = ()
    """Words between CREATE and TABLE of a stage."""
    has_temporary_tables: bool = False
    """Whether a transaction may make a table that only its connection sees, for the stage of single items."""
    keeps_item_stage: bool = False
    """Whether that table stays with its connection."""
    keeps_time_zones: bool
    """Whether a `DateTime(timezone=True)` column comes back with its zone."""
    install: str = ""
    """How to get the driver, where it is not installed with the library."""
    builds_json: bool = True
    """Whether `json_object` is there."""
    writers_look_every_s: float = 0.0
    """How long a writer may wait before it looks again whether another one has ended; 0: it is woken in turn."""
    undoes_ddl: bool = True
    """Whether a transaction that rolls back takes its CREATE and DROP TABLE back."""

    @abstractmethod
    def create_engine(self, url: URL) -> Engine:
        """Return an engine whose errors hide parameters; opens no connection."""

    def connect(self, engine: Engine, *, writes: bool) -> Connection:
        """Return a connection whose transactions read, or write and then exclude each other where needed."""
        return engine.connect()

    def create_stage(self, connection: Connection, stage: Table, target: Sequence[Column[Any]]) -> None:
        """Create the empty stage of a run; `target` has the columns that `v0`, `v1`, … are compared with."""
        stage.create(connection)

    def create_item_stage(self, connection: Connection, stage: Table, target: Sequence[Column[Any]]) -> None:
        """Create the stage of single items inside the transaction of the data; temporary where that can be."""
        if not self.has_temporary_tables:
            self.create_stage(connection, stage, target)
            return
        # A temporary one is the same table each time, and its statements take a tenth of an item's time to make.
        made = [CreateTable(stage), *map(CreateIndex, stage.indexes)]
        if len(stage.info.get(_CREATE, ())) < len(made):
            stage.info[_CREATE] = [str(each.compile(dialect=connection.dialect)) for each in made]
        for statement in stage.info[_CREATE]:
            connection.exec_driver_sql(statement)

    def drop_item_stage(self, connection: Connection, stage: Table) -> None:
        """Drop the stage of single items, or empty it, inside the transaction of the data."""
        stage.drop(connection)

    @abstractmethod
    def bulk_load(self, connection: Connection, table: Table, columns: Sequence[Sequence[Any]]) -> None:
        """Append rows, given as columns: a value of each row for every column of the table, in order; at least one row.

        It is done as fast as the database takes them.
        """

    def packed_prints(self, connection: Connection, statement: Any) -> Iterator[bytes]:
        """Yield what a query finds, number and fingerprint: the fingerprints, one after the other, in parts."""
        with connection.execute(statement, execution_options={"yield_per": 10_000}) as rows:
            parts: Iterator[Sequence[Any]] = rows.partitions()
            for part in parts:
                yield b"".join([fingerprint for _, fingerprint in part])

    def values(self, connection: Connection, statement: Select[Any], *, at_once: int) -> Iterator[Sequence[Any]]:
        """Yield what a query of one column finds, so many values at a time."""
        with connection.execute(statement, execution_options={"yield_per": at_once}) as rows:
            yield from rows.scalars().partitions()

    @abstractmethod
    def prepare_stage(
        self, connection: Connection, stage: Table, keys: Sequence[str], *, is_first_load: bool = False
    ) -> None:
        """Make a freshly loaded stage quick to join on the given columns; a first load finds nothing to join with."""

    @abstractmethod
    def count_written(self, connection: Connection, statement: Any, values: Mapping[str, Any] | None = None) -> int:
        """Execute an INSERT, UPDATE or DELETE and return exactly how many rows it wrote."""

    def together(self, statements: Sequence[Any]) -> Sequence[Any]:
        """Return what writes history and target in the form in which `write_together` and `write_apart` send it."""
        return statements

    def write_together(self, connection: Connection, statements: Sequence[Any], values: Mapping[str, Any]) -> int:
        """Execute what writes history and target, and return exactly how many rows the last statement wrote."""
        *before, write = statements
        for statement in before:
            connection.execute(statement, values)
        return self.count_written(connection, write, values)

    def write_apart(
        self,
        connection: Connection,
        stage: Table,
        statements: Sequence[Any],
        values: Mapping[str, Any],
        low: int,
        high: int,
    ) -> tuple[int, Refused] | None:
        """Write all records of a range of a stage but those that a constraint refuses.

        The statements write history and target in any range of it (see `in_range`), with the values bound beside it.
        An error that no record can cause raises, and the transaction cannot go on. None, where the database has no
        way of its own for it: then nothing is written.
        """
        return None

    @abstractmethod
    def insert_missing(self, table: Table, key: str, columns: Sequence[str], rows: Select[Any]) -> Any:
        """Return an INSERT … SELECT that leaves out rows whose key somebody else has just inserted."""

    def sorted_rows(self, rows: Select[Any], column: Column[Any]) -> Select[Any]:
        """Return a query for most rows of a stage in an order, where that costs less than it saves.

        It has to be made by sorting: by an index of the column, each row would be looked up in a random place.
        """
        return rows.order_by(column)

    def in_order(
        self, stage: Table, where: ColumnElement[bool], column: Column[Any]
    ) -> tuple[FromClause, ColumnElement[bool]]:
        """Return what a statement is to read in place of a stage, with its columns, and which rows of that.

        They are those that fulfil a condition, in the order of a column where the target is written in that order.
        """
        return stage, where

    def same_key(self, key: ColumnElement[Any], staged: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return the condition that a target's key and a staged one are the same, as bytes."""
        return key == staged

    def exact(self, staged: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return a staged column in a form that tells all values apart, in GROUP BY and comparisons."""
        return staged

    def differs(self, staged: ColumnElement[Any], held: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return the condition that a staged value is another one than the target's, NULL included."""
        return self.comparable(staged).is_distinct_from(self.comparable(held))

    def newest_first(self, version: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        """Return the order that has the newest version first and those without one last."""
        return [version.desc().nulls_last()]

    def classify(
        self,
        stage: Table,
        target: Table,
        joins: Callable[[Any], ColumnElement[bool]],
        judgement: Callable[[Any], ColumnElement[Any]],
        is_candidate: Callable[[Any], ColumnElement[bool]],
    ) -> Update:
        """Return the UPDATE of a stage that writes the judgement on each candidate beside it, if it is another one."""
        s = stage.alias("s")
        judged = (
            select(s.c.seq, s.c.action.label("expected"), judgement(s).label("action"))
            .select_from(s.outerjoin(target, joins(s)))
            .where(is_candidate(s))
            .subquery("judged")
        )
        found = select(judged.c.seq, judged.c.action).where(self.differs(judged.c.expected, judged.c.action))
        found = found.subquery("found")
        return self.update_from(stage, {stage.c.action: found.c.action}, stage.c.seq == found.c.seq)

    def update_from(
        self, table: Table, values: Mapping[Column[Any], ColumnElement[Any]], where: ColumnElement[bool]
    ) -> Update:
        """Return an UPDATE of a table with values of others, which `where` joins to it one to one."""
        return update(table).values(dict(values)).where(where)

    def delete_keys(self, table: Table, key: ColumnElement[Any], keys: Select[Any]) -> Delete:
        """Return the DELETE of the rows whose key is among the selected ones."""
        return delete(table).where(key.in_(keys))

    @abstractmethod
    def json_object(self, pairs: Sequence[tuple[str, ColumnElement[Any]]]) -> ColumnElement[Any]:
        """Return an expression for the text of a JSON object."""

    def tells_keys_apart(self, connection: Connection, key: Column[Any]) -> bool:
        """Tell whether two values of a key are only equal where their external ids are; False: it may take more."""
        return False

    @abstractmethod
    def comparable(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the column in a form that has equality."""

    def key_text(self, key: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return a key as the text that its external id is."""
        return cast(key, String(255))

    def checksum(
        self, connection: Connection, columns: Sequence[ColumnElement[Any]], where: ColumnElement[bool] | None = None
    ) -> TableSum | None:
        """Sum up a table's rows, all or chosen ones; None where there is no quick way. The key comes first."""
        return None

    @abstractmethod
    def record_error(self, error: DBAPIError) -> RecordError | None:
        """Return what is wrong with the record, without its values; None if the database itself is to blame."""

    @contextmanager
    def migrating(self, engine: Engine) -> Generator[Connection]:
        """Open a transaction to migrate in, and keep every other process from migrating until it has ended."""
        with self.connect(engine, writes=True) as connection, connection.begin():
            self.lock_migrations(connection)
            yield connection

    @abstractmethod
    def lock_migrations(self, connection: Connection) -> None:
        """Keep every other process from migrating until the transaction ends."""

    def begin_upsert(self, connection: Connection) -> None:
        """Prepare a transaction for writing to a target."""

    def begin_bulk(self, connection: Connection) -> None:
        """Prepare a transaction for statements over a whole stage."""

    @abstractmethod
    def insert_absent(self, connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
        """Insert a row unless its primary key is taken, and tell whether it was inserted.

        Waits for somebody else who is inserting the same one. Any other constraint that fails raises.
        """

    def insert_absent_rows(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Do `insert_absent` for rows with the same columns, one after the other; of equal keys the first counts."""
        return [self.insert_absent(connection, table, row) for row in rows]

    def distinct(self, column: Column[Any]) -> Select[Any]:
        """Return the query for the distinct values of an indexed column that is never null, by steps through the index.

        Every database but MySQL and MariaDB reads all rows for DISTINCT.
        """
        first = select(column).order_by(column).limit(1).subquery("first")
        steps = select(first.c[column.key]).cte("steps", recursive=True)
        at = steps.c[column.key]
        later = column.table.alias("later").c[column.key]
        next_one = select(later).where(later > at).order_by(later).limit(1).scalar_subquery()
        steps = steps.union_all(select(next_one).where(at.is_not(None)))
        return select(steps.c[column.key]).where(steps.c[column.key].is_not(None))

    def updated_rows(self, connection: Connection, statement: Update, *columns: Column[Any]) -> Sequence[Any]:
        """Execute an UPDATE and return columns, which it leaves as they are, of the rows that it wrote."""
        return connection.execute(statement.returning(*columns)).all()


def insert_and_return(connection: Connection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Do `SqlDialect.insert_absent_rows` by an INSERT that skips a row whose key is taken, in as few as there may be.

    They are inserted, and their keys are locked, in the order of the rows.
    """
    if not rows:
        return []
    keys = list(statement.table.primary_key)
    returned = connection.execute(statement.returning(*keys), [dict(row) for row in rows]).all()
    found: set[tuple[Any, ...]] = {tuple(row) for row in returned}
    inserted: list[bool] = []
    for row in rows:
        key = tuple(row[column.key] for column in keys)
        inserted.append(key in found)
        found.discard(key)
    return inserted


def lock_and_update(connection: Connection, statement: Update, columns: Sequence[Column[Any]]) -> Sequence[Any]:
    """Do `SqlDialect.updated_rows` where an UPDATE returns nothing: lock and read the rows, then write them."""
    found = select(*columns).with_for_update()
    if statement.whereclause is not None:
        found = found.where(statement.whereclause)
    rows = connection.execute(found).all()
    if rows:
        connection.execute(statement)
    return rows


def bound_columns(table: Table, engine_dialect: Any, columns: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return the values of a table's columns as the driver takes them: with what SQLAlchemy applies before it."""
    bound = list(columns)
    for place, column in enumerate(table.columns):
        process = _bind_processor(column.type, engine_dialect)
        if process is not None:
            bound[place] = [None if value is None else process(value) for value in columns[place]]
    return bound


def named_rows(table: Table, columns: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return columns of a table as rows, as `Connection.execute` takes them."""
    names = [column.key for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def is_exact(kind: Any, engine_dialect: Any) -> bool:
    """Tell whether a type leaves values as they are, and the database compares all of what they are made of.

    What is written behind the type's name is a collation; a variant has another name.
    """
    is_plain = type(kind) in (types.String, types.Text, types.Unicode, types.UnicodeText) or type(kind) in _INTEGERS
    return is_plain and _EXACT_TYPE.fullmatch(kind.compile(dialect=engine_dialect)) is not None


def _bind_processor(kind: Any, engine_dialect: Any) -> Callable[[Any], Any] | None:
    """Return what is applied to a value; nothing where coercion leaves just what every driver takes."""
    if type(kind) in (types.Boolean, types.LargeBinary):
        return None
    return kind.dialect_impl(engine_dialect).bind_processor(engine_dialect)
