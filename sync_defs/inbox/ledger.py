"""What a person sees of the queue and does with its dead letters; reads and small writes, no leases."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Update, and_, case, func, or_, select, true, update
from sqlalchemy.sql import ColumnElement

from sync_defs.inbox.message import Counts, MessageState, QueuedMessage, item_key
from sync_defs.store.schema import queue

IS_DEAD = queue.c.due_at.is_(None)


def state_of(due_at: datetime | None, token: str | None, *, now: datetime) -> MessageState:
    """Return the word for a row's `due_at` and `token`; a lease that has run out is pending."""
    if due_at is None:
        return MessageState.DEAD
    return MessageState.CLAIMED if token is not None and due_at > now else MessageState.PENDING


def counts(connection: Connection, *, job: str | None, now: datetime) -> dict[str, Counts]:
    """Return how many rows of each job stand where, in one statement; jobs without rows are absent."""
    is_due = queue.c.due_at <= now
    is_ahead = queue.c.due_at > now
    statement = select(
        queue.c.job,
        _count(is_due).label("ready"),
        _count(and_(is_ahead, queue.c.token.is_not(None))).label("leased"),
        _count(and_(is_ahead, queue.c.token.is_(None))).label("later"),
        _count(IS_DEAD).label("dead"),
        func.min(queue.c.due_at).label("oldest"),
    ).group_by(queue.c.job)
    if job is not None:
        statement = statement.where(queue.c.job == job)
    return {row.job: _counts(row, now) for row in connection.execute(statement)}


def list_messages(
    connection: Connection, *chosen: ColumnElement[bool], limit: int, now: datetime
) -> list[QueuedMessage]:
    """Return the queue rows that fulfil all conditions, the latest received first."""
    newest_first = (queue.c.received_at.desc(), queue.c.job, queue.c.item_key)
    statement = select(queue).where(*chosen).order_by(*newest_first).limit(limit)
    return [_message(row, now) for row in connection.execute(statement)]


def rows_of(
    job: str | None, *, external_id: str | None, message_id: str | None, dead_only: bool
) -> ColumnElement[bool]:
    """Return the condition for rows: of a job, of one item, of one message, or all."""
    chosen: list[ColumnElement[bool]] = [IS_DEAD] if dead_only else []
    if job is not None:
        chosen.append(queue.c.job == job)
    if external_id is not None:
        chosen.append(queue.c.item_key == item_key(external_id))
    if message_id is not None:
        chosen.append(queue.c.message_id == message_id)
    return and_(true(), *chosen)


def bury_unknown_jobs(known: Iterable[str], *, now: datetime, due_for: timedelta | None) -> Update:
    """Return the UPDATE that makes rows dead whose job there is not; leases that still run are left alone."""
    is_free = or_(queue.c.token.is_(None), queue.c.due_at <= now)
    return (
        update(queue)
        .where(
            queue.c.job.not_in(sorted(known)),
            queue.c.due_at.is_not(None),
            is_free if due_for is None else queue.c.due_at <= now - due_for,
        )
        .values(due_at=None, token=None, code="unknown_job", error="there is no job of this name (any more)")
    )


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


def _counts(row: Row[*tuple[Any, ...]], now: datetime) -> Counts:
    age_s = (now - row.oldest).total_seconds() if row.ready else 0.0
    return Counts(
        ready=int(row.ready),
        leased=int(row.leased),
        later=int(row.later),
        dead=int(row.dead),
        oldest_due_age_s=age_s,
    )


def _message(row: Row[*tuple[Any, ...]], now: datetime) -> QueuedMessage:
    return QueuedMessage(
        job=row.job,
        external_id=row.external_id,
        message_id=row.message_id,
        state=state_of(row.due_at, row.token, now=now),
        due_at=row.due_at,
        attempts=row.attempts,
        deaths=row.deaths,
        code=row.code,
        error=row.error,
        received_at=row.received_at,
        payload=row.payload,
    )
