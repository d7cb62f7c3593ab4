"""History of a table job where the database cannot build JSON: the values go through this process."""

import json
from collections.abc import Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, and_, insert

from sync_defs.results import Action
from sync_defs.store import schema
from sync_defs.store.statements import MASK, TableStatements

_PAGE = 1_000


def write_history(
    connection: Connection, statements: TableStatements, actions: Sequence[Action], where: ColumnElement[bool]
) -> None:
    """Write old and new values of the rows about to change into `sync_changes`, page by page."""
    after: ColumnElement[bool] = where
    while rows := connection.execute(statements.history_rows(actions, after, _PAGE)).all():
        connection.execute(insert(schema.changes), [_entry(statements, row) for row in rows])
        after = and_(where, statements.stage.c.seq > rows[-1][0])


def _entry(statements: TableStatements, row: Any) -> dict[str, Any]:
    _, external_id, action, *values = row
    width = len(statements.mapping.names)
    return {
        **statements.history_facts,
        "external_id": external_id,
        "action": action,
        "old_values": None if action == Action.CREATED else _object(statements, values[:width]),
        "new_values": _object(statements, values[width:]) if action in (Action.CREATED, Action.UPDATED) else None,
    }


def _object(statements: TableStatements, values: Sequence[Any]) -> str:
    masked = statements.mapping.masked
    parts = [
        f"{json.dumps(name)}: {_text(MASK if name in masked else value)}"
        for name, value in zip(statements.mapping.names, values, strict=True)
    ]
    return f"{{{', '.join(parts)}}}"


def _text(value: Any) -> str:
    """Return a value as JSON, numbers with all their digits and bytes as PostgreSQL writes them."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes | bytearray | memoryview):
        return json.dumps(f"\\x{bytes(cast('bytes', value)).hex()}")
    if isinstance(value, date | time):
        return json.dumps(value.isoformat())
    return json.dumps(value, default=lambda other: getattr(other, "name", str(other)))
