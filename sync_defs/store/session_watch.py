"""Reading a session: what a callback really changed, so that users need not say it."""

import operator
from collections.abc import Collection, Generator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

from sqlalchemy import ClauseElement, Column, Connection, and_, event, inspect, or_, select, types
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from sync_defs.store.coerce import Coercer, canonical
from sync_defs.store.quick import column_coercer
from sync_defs.store.staging import shown

_READ_AHEAD: Final = 500
"""SQLite refuses expressions deeper than 1,000."""
_SAVEPOINTS: Final = ("SAVEPOINT ", "RELEASE SAVEPOINT ", "ROLLBACK TO SAVEPOINT ")
_PLAIN: Final = (
    types.String,
    types.Integer,
    types.Numeric,
    types.Boolean,
    types.DateTime,
    types.Date,
    types.Time,
    types.Interval,
    types.LargeBinary,
    types.Uuid,
)
"""Types whose values cannot change in place."""


class SessionWatch:
    """Collects, for one record at a time, the net changes of a session.

    What was set on an attribute is coerced to its column first, so that the rows of a callback hold the same values as
    those of a table job, on every database; `RecordError` is raised for what does not fit. An attribute that was set to
    an equal value (1.10 for 1.1, the same instant in another zone) is put back, so that no UPDATE is sent for it. Core
    statements are counted by the rows they report.

    While it defers, the changes of a record are collected without being sent. That is exact for rows whose class has
    columns of plain values and nothing else, and that only one record touches; `is_exact` tells whether it was so.
    """

    def __init__(self, session: Session, connection: Connection, *, keeps_time_zones: bool) -> None:
        """Listen to the session's flushes and to the connection's statements."""
        self._session: Any = session
        self._engine_dialect = connection.dialect
        self._keeps_time_zones = keeps_time_zones
        self._coercers: dict[Any, Coercer] = {}
        self._plain: dict[Any, bool] = {}
        self._noted: dict[int, tuple[Any, dict[str, Any]]] | None = None
        self._updates_due = 0
        self._is_flushing = False
        self._is_reading = False
        self.changes: dict[str, tuple[Any, Any]] = {}
        self.rows_written = 0
        self.is_exact = True
        event.listen(session, "before_flush", self._before_flush)
        event.listen(session, "after_flush", self._after_flush)
        event.listen(session, "after_soft_rollback", self._after_rollback)
        event.listen(connection, "before_cursor_execute", self._before_execute)
        event.listen(connection, "after_cursor_execute", self._after_execute)

    @contextmanager
    def watching(self, *, defers: bool) -> Generator[None]:
        """Watch the records of the block, deferring what they change or not."""
        self._noted = {} if defers else None
        self._updates_due = 0
        self._is_flushing = False
        self.is_exact = True
        try:
            yield
        finally:
            self._noted = None

    def reset(self) -> None:
        """Forget what was seen; called before each record."""
        self.changes = {}
        self.rows_written = 0

    def collect(self) -> None:
        """Collect what the session holds of the record that ends here."""
        self._defer_or_not()
        if self._noted is None:
            self._session.flush()
        else:
            self._note(self._noted)

    @property
    def has_changes(self) -> bool:
        """Tell whether anything was written since the last reset."""
        return bool(self.changes) or self.rows_written > 0

    @property
    def is_intact(self) -> bool:
        """Tell whether all that is deferred is as its record left it: no other one set it too, or expired it."""
        noted: dict[int, tuple[Any, dict[str, Any]]] = self._noted or {}
        return self.is_exact and all(row in self._session and row.__dict__ == held for row, held in noted.values())

    @property
    def is_settled(self) -> bool:
        """Tell, after the last flush, whether all that was deferred has been sent and has arrived, exactly."""
        return self.is_exact and not self._noted and self._updates_due <= 0

    def _defer_or_not(self) -> None:
        """From here on send each record at once, where this one cannot be deferred and none is."""
        if self._noted is not None and not self._noted:
            session = self._session
            pending: list[Any] = [*session.new, *session.dirty]
            if session.deleted or not all(self._is_deferrable(row) for row in pending):
                self._noted = None

    def _note(self, noted: dict[int, tuple[Any, dict[str, Any]]]) -> None:
        if self._session.deleted:
            self.is_exact = False
        for row in self._session.new:
            if id(row) not in noted:
                self._coerce(inspect(row))
                self.rows_written += 1
                self._keep(row, noted)
        for row in self._session.dirty:
            if id(row) not in noted:
                self._coerce(inspect(row))
                self._updates_due += self._collect(self._session, row)
                self._keep(row, noted)

    def _keep(self, row: Any, noted: dict[int, tuple[Any, dict[str, Any]]]) -> None:
        self.is_exact = self.is_exact and self._is_deferrable(row)
        noted[id(row)] = (row, dict(row.__dict__))

    def _is_deferrable(self, row: Any) -> bool:
        mapper: Any = inspect(row).mapper
        if mapper not in self._plain:
            self._plain[mapper] = _is_plain(mapper)
        return self._plain[mapper]

    def _before_flush(self, session: Session, *_: Any) -> None:
        self._defer_or_not()
        if self._noted is None:
            for row in session.new:
                self._coerce(inspect(row))
            for row in session.dirty:
                self._coerce(inspect(row))
                self._collect(session, row)
        else:
            self._note(self._noted)
            self.is_exact = self.is_intact
        self._is_flushing = True

    def _after_flush(self, *_: Any) -> None:
        self._is_flushing = False
        if self._noted is not None:
            self._noted.clear()

    def _after_rollback(self, *_: Any) -> None:
        self._is_flushing = False

    def _coerce(self, state: Any) -> None:
        for attribute in state.mapper.column_attrs:
            added = state.attrs[attribute.key].history.added
            if added and _is_value(added[0]):
                state.dict[attribute.key] = self._coercer(attribute.columns[0])(added[0])

    def _coercer(self, column: Any) -> Coercer:
        if column not in self._coercers:
            keeps = self._keeps_time_zones
            self._coercers[column] = (
                column_coercer(column, self._engine_dialect, keeps_time_zones=keeps).one
                if _is_coerced(column)
                else _as_it_is
            )
        return self._coercers[column]

    def _collect(self, session: Session, row: Any) -> bool:
        state: Any = inspect(row)
        is_changed = False
        for attribute in state.mapper.column_attrs:
            history = state.attrs[attribute.key].history
            if not history.added:
                continue
            new = history.added[0]
            old = history.deleted[0] if history.deleted else self._stored(session, state, attribute.key)
            if _is_equal(old, new):
                set_committed_value(row, attribute.key, old)
            else:
                self.changes[attribute.key] = (old, new)
                is_changed = True
        return is_changed

    def _stored(self, session: Session, state: Any, key: str) -> Any:
        self._is_reading = True
        try:
            with session.no_autoflush:
                return _stored(session, state, key)
        finally:
            self._is_reading = False

    def _before_execute(self, *arguments: Any) -> None:
        """Send what was deferred before a callback's own statement, which has to see it."""
        is_own = self._is_flushing or self._is_reading or arguments[2].startswith(_SAVEPOINTS)
        if self._noted and not is_own:
            self._session.flush()

    def _after_execute(self, *arguments: Any) -> None:
        cursor, context = arguments[1], arguments[4]
        if context is None or not (context.isinsert or context.isupdate or context.isdelete):
            return
        if self._noted is not None and self._is_flushing:
            # Of several records, which have been told apart already; a row that is gone shows by the count.
            if context.isupdate:
                self._updates_due -= cursor.rowcount if cursor.rowcount >= 0 else self._updates_due
            return
        # Attributes that were set to an equal value are put back before a flush, so what a flush sends is a change.
        self.rows_written += cursor.rowcount if cursor.rowcount >= 0 else 1


def _stored(session: Session, state: Any, key: str) -> Any:
    """Return what the database holds of an attribute that was set before it was loaded, as a deferred or expired one.

    Loads it for the session's other rows too, so that it takes one query for a chunk.
    """
    mapper = state.mapper
    others = {
        other.identity: row
        for row in session
        if (other := inspect(row)).mapper is mapper and other.persistent and key in other.unloaded
    }
    identities = [state.identity, *islice(others, _READ_AHEAD)]
    names = [mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key]
    rows = session.execute(
        select(*names, mapper.attrs[key].class_attribute).where(
            or_(*(and_(*map(operator.eq, names, identity)) for identity in identities))
        )
    )
    found: dict[Any, Any] = {tuple(row[:-1]): row[-1] for row in rows}
    for identity in found.keys() & others.keys():
        set_committed_value(others[identity], key, found[identity])
    return found.get(state.identity)


def shown_changes(
    changes: dict[str, tuple[Any, Any]], masked: Collection[str]
) -> dict[str, tuple[str | None, str | None]]:
    """Return changes as bounded text, masked attributes masked."""
    return {
        name: ("***", "***") if name in masked else (shown(old), shown(new)) for name, (old, new) in changes.items()
    }


def _is_equal(old: Any, new: Any) -> bool:
    try:
        return bool(canonical(old) == canonical(new))
    except Exception:  # noqa: BLE001 - user types may refuse to compare; then they differ
        return False


def _is_coerced(column: Any) -> bool:
    """Tell whether it is a column, not an expression, and not of JSON, which may track its own changes."""
    kind: Any = column.type
    return isinstance(column, Column) and not isinstance(kind, types.JSON)


def _is_plain(mapper: Any) -> bool:
    """Tell whether a row is one of one table, and its attributes are columns that change only by being set."""
    return (
        len(mapper.tables) == 1
        and mapper.version_id_col is None
        and len(mapper.attrs) == len(mapper.column_attrs)
        and all(isinstance(column.type, _PLAIN) for attribute in mapper.column_attrs for column in attribute.columns)
    )


def _is_value(given: Any) -> bool:
    """Tell whether it is neither None, which defaults and constraints see to, nor an expression in SQL."""
    return given is not None and not isinstance(given, ClauseElement) and not hasattr(given, "__clause_element__")


def _as_it_is(value: Any) -> Any:
    return value
