"""Reading a session: what a callback really changed, so that users need not say it."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, event, inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from sync_defs.store.coerce import canonical
from sync_defs.store.staging import shown


class SessionWatch:
    """Collects, for one record at a time, the net changes that a session sends.

    An attribute that was set to an equal value (1.10 for 1.1, the same instant in another zone) is put back, so that
    no UPDATE is sent for it. Core statements are counted by the rows they report.
    """

    def __init__(self, session: Session, connection: Connection) -> None:
        """Listen to the session's flushes and to the connection's statements."""
        self.changes: dict[str, tuple[Any, Any]] = {}
        self.rows_written = 0
        event.listen(session, "before_flush", self._before_flush)
        event.listen(connection, "after_cursor_execute", self._after_execute)

    def reset(self) -> None:
        """Forget what was seen; called before each record."""
        self.changes = {}
        self.rows_written = 0

    @property
    def has_changes(self) -> bool:
        """Tell whether anything was written since the last reset."""
        return bool(self.changes) or self.rows_written > 0

    def _before_flush(self, session: Session, *_: Any) -> None:
        for row in session.dirty:
            self._collect(row)

    def _collect(self, row: Any) -> None:
        state: Any = inspect(row)
        for attribute in state.mapper.column_attrs:
            history = state.attrs[attribute.key].history
            if not history.added:
                continue
            new = history.added[0]
            if not history.deleted:
                self.changes[attribute.key] = (None, new)
                continue
            old = history.deleted[0]
            if _is_equal(old, new):
                set_committed_value(row, attribute.key, old)
            else:
                self.changes[attribute.key] = (old, new)

    def _after_execute(self, *arguments: Any) -> None:
        cursor, context = arguments[1], arguments[4]
        if context is not None and (context.isinsert or context.isupdate or context.isdelete):
            # Attributes that were set to an equal value are put back before a flush, so what a flush sends is a change.
            self.rows_written += cursor.rowcount if cursor.rowcount >= 0 else 1


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
