"""Statements for any range of a stage: built once, run for many ranges, on the server too."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Connection, Table, bindparam, event
from sqlalchemy.sql import ColumnElement

LOW, HIGH = "sync_defs_range_low", "sync_defs_range_high"
"""Names of the bound values of `in_range`."""


class _TakenError(Exception):
    """The statement is known, and does not have to be sent."""


def in_range(stage: Table) -> ColumnElement[bool]:
    """Return the condition on a stage's range of `seq`, whose bounds come with each execution."""
    low, high = (bindparam(name, type_=BigInteger) for name in (LOW, HIGH))
    return stage.c.seq.between(low, high)


def as_sent(connection: Connection, statement: Any, values: Mapping[str, Any]) -> tuple[str, Any]:
    """Return what the driver would get of a statement, text and values, defaults of columns included; sends nothing."""
    taken: list[tuple[str, Any]] = []

    def take(_connection: Any, _cursor: Any, text: str, parameters: Any, _context: Any, _is_many: bool) -> None:
        taken.append((text, parameters))
        raise _TakenError

    event.listen(connection, "before_cursor_execute", take)
    try:
        connection.execute(statement, values)
    except _TakenError:
        pass
    finally:
        event.remove(connection, "before_cursor_execute", take)
    return taken[0]
