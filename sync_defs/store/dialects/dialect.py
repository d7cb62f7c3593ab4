"""What differs between databases, one method for each difference."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select, String, Table, cast
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ColumnElement

from sync_defs.errors import RecordError


class SqlDialect(ABC):
    """One database's way of doing what the store needs."""

    name: str
    """SQLAlchemy's name of the dialect."""
    schema: str | None
    """Schema of the bookkeeping tables; None where the database has no schemas."""
    stage_prefixes: Sequence[str] = ()
    """Words between CREATE and TABLE of a stage."""
    keeps_time_zones: bool
    """Whether a `DateTime(timezone=True)` column comes back with its zone."""

    @abstractmethod
    def create_engine(self, url: URL) -> Engine:
        """Return an engine whose errors hide parameters; opens no connection."""

    def connect(self, engine: Engine, *, writes: bool) -> Connection:
        """Return a connection whose transactions read, or write and then exclude each other where needed."""
        return engine.connect()

    @abstractmethod
    def bulk_load(self, connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Append rows, each with a value for every column of the table in order, as fast as the database takes them."""

    @abstractmethod
    def prepare_stage(self, connection: Connection, stage: Table, keys: Sequence[str]) -> None:
        """Make a freshly loaded stage quick to join on the given columns."""

    @abstractmethod
    def count_written(self, connection: Connection, statement: Any) -> int:
        """Execute an INSERT, UPDATE or DELETE and return exactly how many rows it wrote."""

    @abstractmethod
    def insert_missing(self, table: Table, key: str, columns: Sequence[str], rows: Select[Any]) -> Any:
        """Return an INSERT … SELECT that leaves out rows whose key somebody else has just inserted."""

    @abstractmethod
    def json_object(self, pairs: Sequence[tuple[str, ColumnElement[Any]]]) -> ColumnElement[Any]:
        """Return an expression for the text of a JSON object."""

    @abstractmethod
    def comparable(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the column in a form that has equality."""

    def key_text(self, key: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return a key as the text that its external id is."""
        return cast(key, String(255))

    @abstractmethod
    def record_error(self, error: DBAPIError) -> RecordError | None:
        """Return what is wrong with the record, without its values; None if the database itself is to blame."""

    @abstractmethod
    def lock_migrations(self, connection: Connection) -> None:
        """Keep every other process from migrating until the transaction ends."""

    def begin_upsert(self, connection: Connection) -> None:
        """Prepare a transaction for writing to a target."""

    @abstractmethod
    def insert_or_ignore(self, table: Table) -> Any:
        """Return an INSERT that leaves a row alone whose primary key is taken."""


def bind_processors(table: Table, engine_dialect: Any) -> list[Callable[[Any], Any] | None]:
    """Return, for each column, what SQLAlchemy applies to a value before the driver sees it."""
    return [column.type.dialect_impl(engine_dialect).bind_processor(engine_dialect) for column in table.columns]
