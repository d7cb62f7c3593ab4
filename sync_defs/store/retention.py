"""Retention: how `sync_changes` and `sync_runs` are kept from growing for ever."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Delete, Select, delete, exists, func, select

from sync_defs.results import RunStatus
from sync_defs.store.database import Database
from sync_defs.store.schema import changes, runs, state_parts, states

BATCH = 1_000
"""Rows of one transaction, so that no writer waits long for its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedHistory:
    """How many rows were deleted."""

    changes: int
    runs: int


def prune_history(database: Database, older_than: timedelta, *, batch: int = BATCH) -> PrunedHistory:
    """Delete changes and ended runs from longer ago, in transactions of `batch` rows; may be repeated and killed.

    These stay, whatever their age: runs that have not ended, and changes newer than the watermark of one of the same
    job, by which it knows what outranks its fetch; the newest ended run of each job, and the newest that has results;
    and the very newest change, since SQLite gives its id out again and a watermark would then be too high. A killed
    run counts as one that has not ended until the next run of its job ends it.
    """
    before = database.now() - older_than
    with database.write() as connection:
        # A job's state is worth something only beside the changes that messages have made since.
        connection.execute(delete(state_parts).where(state_parts.c.job.in_(_old_states(before))))
        connection.execute(delete(states).where(states.c.updated_at < before))
    return PrunedHistory(
        changes=_prune_changes(database, before, batch),
        runs=sum(_prune_runs(database, job, before, batch) for job in _jobs(database)),
    )


def _prune_changes(database: Database, before: datetime, batch: int) -> int:
    """Walk from the oldest id on until a whole batch is young: ids grow with time, and times have no index."""
    with database.read() as connection:
        newest = connection.execute(select(func.max(changes.c.id))).scalar() or 0
    deleted = after = 0
    while True:
        with database.write() as connection:
            last, oldest_at = connection.execute(_range(after, batch)).one()
            if oldest_at is None or oldest_at >= before:
                return deleted
            deleted += database.dialect.count_written(connection, _old_changes(after, min(last, newest - 1), before))
        after = last


def _old_states(before: datetime) -> Select[Any]:
    return select(states.c.job).where(states.c.updated_at < before)


def _range(after: int, batch: int) -> Select[Any, Any]:
    c = changes.c
    rows = select(c.id, c.changed_at).where(c.id > after).order_by(c.id).limit(batch).subquery()
    return select(func.max(rows.c.id), func.min(rows.c.changed_at))


def _old_changes(after: int, last: int, before: datetime) -> Delete:
    c = changes.c
    is_needed = exists().where(runs.c.job == c.job, runs.c.status == RunStatus.RUNNING.value, runs.c.watermark < c.id)
    return delete(changes).where(c.id > after, c.id <= last, c.changed_at < before, ~is_needed)


def _jobs(database: Database) -> list[str]:
    with database.read() as connection:
        return sorted(connection.execute(select(runs.c.job).distinct()).scalars())


def _prune_runs(database: Database, job: str, before: datetime, batch: int) -> int:
    has_ended = (runs.c.job == job, runs.c.status != RunStatus.RUNNING.value)
    deleted = 0
    while True:
        with database.write() as connection:
            kept = _newest(connection, *has_ended) | _newest(connection, *has_ended, runs.c.results.is_not(None))
            old = select(runs.c.run_id).where(
                *has_ended, runs.c.started_at < before, runs.c.completed_at < before, runs.c.run_id.not_in(kept)
            )
            ids = list(connection.execute(old.order_by(runs.c.started_at).limit(batch)).scalars())
            if not ids:
                return deleted
            statement = delete(runs).where(runs.c.run_id.in_(ids), *has_ended)
            deleted += database.dialect.count_written(connection, statement)


def _newest(connection: Connection, *where: Any) -> set[str]:
    statement = select(runs.c.run_id).where(*where).order_by(runs.c.started_at.desc(), runs.c.run_id.desc()).limit(1)
    return set(connection.execute(statement).scalars())
