"""What every stage shares, whichever kind of job fills it: loading, counts and the rejected records in it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, func, select, update

from sync_defs.engine.ports import StagedRecord
from sync_defs.errors import RecordError
from sync_defs.results import ItemError, Outcome
from sync_defs.store.database import Database

MAX_ERRORS = 1_000


def load(connection: Connection, database: Database, stage: Table, page: Sequence[StagedRecord]) -> None:
    """Append a page of records to a stage."""
    width = len(stage.columns) - 8
    empty = [None] * width
    rows = [
        [
            record.seq,
            record.external_id,
            record.outcome.value if record.outcome else None,
            record.is_deletion,
            record.error.code if record.error else None,
            record.error.field if record.error else None,
            record.error.message if record.error else None,
            record.record,
            *(record.values if width and record.values is not None else empty),
        ]
        for record in page
    ]
    database.dialect.bulk_load(connection, stage, rows)


def stage_counts(connection: Connection, stage: Table) -> dict[str | None, int]:
    """Return how many fetched records stand at each action; None is unchanged."""
    statement = select(stage.c.action, func.count()).where(~stage.c.is_deletion).group_by(stage.c.action)
    return {action: int(count) for action, count in connection.execute(statement)}


def reject(connection: Connection, stage: Table, seq: int, error: RecordError) -> None:
    """Mark one staged record as rejected."""
    values = {
        "action": Outcome.REJECTED.value,
        "code": error.code,
        "field": error.field,
        "reason": error.reason,
    }
    connection.execute(update(stage).where(stage.c.seq == seq).values(values))


def staged_errors(connection: Connection, stage: Table, database: Database) -> list[ItemError]:
    """Return the first rejected records of a stage, at most 1,000."""
    rows = connection.execute(
        select(stage.c.external_id, stage.c.reason, stage.c.code, stage.c.field)
        .where(stage.c.action == Outcome.REJECTED.value)
        .order_by(stage.c.seq)
        .limit(MAX_ERRORS)
    )
    return [item_error(database, *row) for row in rows]


def item_error(database: Database, external_id: str | None, reason: str, code: str, field: str | None) -> ItemError:
    """Return an error entry, stamped with the current instant."""
    message = f"{field}: {reason}" if field else reason
    return ItemError(external_id=external_id, message=message, code=code, field=field, timestamp=database.now())


def shown(value: Any) -> str | None:
    """Return a value as bounded text for samples."""
    return None if value is None else str(value)[:200]
