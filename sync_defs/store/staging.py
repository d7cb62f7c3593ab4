"""What every stage shares, whichever kind of job fills it: loading, counts and the rejected records in it."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam, delete, func, select, update
from sqlalchemy.exc import DBAPIError

from sync_defs.engine.ports import StagedRecord
from sync_defs.errors import RecordError
from sync_defs.results import ItemError, Outcome
from sync_defs.store.database import Database

MAX_ERRORS = 1_000
OWN_COLUMNS = 9
"""Columns of every stage, before those of the target."""
CHANGING = (Outcome.CREATED.value, Outcome.UPDATED.value)
"""Actions of a candidate: of no other staged record that was fetched."""
MISSING = "missing"
"""Action of a row that the fetch lacked, until the guards have judged."""
_AT_ONCE = 500


def is_candidate(stage: Any) -> ColumnElement[bool]:
    """Tell whether a staged record is to be classified: its action, if it has one, is a guess or an earlier finding."""
    return stage.c.action.is_(None) | stage.c.action.in_(CHANGING)


def load(
    connection: Connection,
    database: Database,
    stage: Table,
    page: Sequence[StagedRecord],
    expected: Sequence[str | None] | None = None,
) -> None:
    """Append a page of records to a stage, each candidate with what it is expected to be; nothing of an empty page."""
    if not page:
        return
    width = len(stage.columns) - OWN_COLUMNS
    seqs, ids, values, outcomes, errors, texts, are_deletions, _, prints = zip(*page, strict=True)
    guesses = expected or [None] * len(page)
    nothing = [None] * len(page)
    columns: list[Sequence[Any]] = [
        seqs,
        ids,
        [outcome.value if outcome else guess for outcome, guess in zip(outcomes, guesses, strict=True)]
        if any(outcomes)
        else guesses,
        are_deletions,
        *(
            [[error and getattr(error, name) for error in errors] for name in ("code", "field", "message")]
            if any(errors)
            else [nothing] * 3
        ),
        texts,
        prints,
    ]
    if width:
        empty = [None] * width
        columns += zip(*[row or empty for row in values] if None in values else values, strict=True)
    try:
        database.dialect.bulk_load(connection, stage, columns)
    except DBAPIError as error:
        if not width or database.dialect.record_error(error) is None:
            raise
        connection.execute(delete(stage).where(stage.c.seq.between(seqs[0], seqs[-1])))
        for row in zip(*columns, strict=True):
            _load_one(connection, database, stage, row)


def _load_one(connection: Connection, database: Database, stage: Table, row: Sequence[Any]) -> None:
    """Append one record, as rejected if the stage itself cannot hold it: a number of more digits than there can be."""
    try:
        with connection.begin_nested():
            database.dialect.bulk_load(connection, stage, _columns([row]))
    except DBAPIError as error:
        found = database.dialect.record_error(error)
        if found is None:
            raise
        own = [row[0], row[1], Outcome.REJECTED.value, row[3], found.code, None, found.reason, row[7], None]
        key, *rest = row[OWN_COLUMNS:]
        values = [None if found.field == "v0" else key, *[None] * len(rest)]
        database.dialect.bulk_load(connection, stage, _columns([[*own, *values]]))


def load_missing(connection: Connection, database: Database, stage: Table, keys: Sequence[tuple[Any, str]]) -> None:
    """Append rows that a fetch lacked, given as key and external id, with negative numbers; a stage may have no key."""
    width = len(stage.columns) - OWN_COLUMNS
    rows = [
        [-number, external_id, MISSING, True, None, None, None, None, None, *[key, *[None] * width][:width]]
        for number, (key, external_id) in enumerate(keys, 1)
    ]
    if rows:
        database.dialect.bulk_load(connection, stage, _columns(rows))


def _columns(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True))


def stage_counts(connection: Connection, stage: Table) -> dict[str | None, int]:
    """Return how many fetched records stand at each action; None is unchanged."""
    statement = select(stage.c.action, func.count()).where(~stage.c.is_deletion).group_by(stage.c.action)
    return {action: int(count) for action, count in connection.execute(statement)}


def reject_all(connection: Connection, stage: Table, refused: Sequence[tuple[int, RecordError]]) -> None:
    """Mark staged records as rejected, by few statements: there are few ways to be refused."""
    numbers = defaultdict[tuple[str, str | None, str], list[int]](list)
    for seq, error in refused:
        numbers[error.code, error.field, error.reason].append(seq)
    why: dict[str, Any] = {name: bindparam(name) for name in ("code", "field", "reason")}
    statement = (
        update(stage)
        .where(stage.c.seq.in_(bindparam("numbers", expanding=True)))
        .values(action=Outcome.REJECTED.value, **why)
    )
    for (code, field, reason), found in numbers.items():
        for start in range(0, len(found), _AT_ONCE):
            part = found[start : start + _AT_ONCE]
            connection.execute(statement, {"numbers": part, "code": code, "field": field, "reason": reason})


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
