"""`sync_rejects`: one open entry for each job and external id, closed when the record succeeds later."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, exists, func, insert, literal, null, or_, select, update

from sync_defs.results import Outcome
from sync_defs.store.coerce import decode_record
from sync_defs.store.database import Database
from sync_defs.store.schema import UtcDateTime, rejects

_NOT_CLOSING = (Outcome.REJECTED.value, Outcome.SKIPPED.value, Outcome.STALE.value)
"""Outcomes that do not close an entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """One entry of `sync_rejects`, without the record."""

    job: str
    external_id: str | None
    code: str
    field: str | None
    reason: str
    attempts: int
    run_id: str
    opened_at: datetime
    last_at: datetime


def open_rejects(database: Database, job: str | None = None, *, limit: int = 100) -> list[Reject]:
    """Return open entries, the newest first."""
    columns = [rejects.c[name] for name in Reject.__slots__]
    statement = select(*columns).where(rejects.c.closed_at.is_(None))
    if job is not None:
        statement = statement.where(rejects.c.job == job)
    with database.read() as connection:
        rows = connection.execute(statement.order_by(rejects.c.last_at.desc(), rejects.c.id.desc()).limit(limit))
        return [Reject(**row) for row in rows.mappings()]


def kept_records(database: Database, job: str) -> Iterator[Any]:
    """Yield the records of the job's open entries, the oldest first."""
    statement = (
        select(rejects.c.record)
        .where(rejects.c.job == job, rejects.c.closed_at.is_(None), rejects.c.record.is_not(None))
        .order_by(rejects.c.id)
    )
    with database.read() as connection:
        texts = list(connection.execute(statement).scalars())
    return (decode_record(text) for text in texts)


def settle_rejects(
    connection: Connection, stage: Table, *, job: str, run_id: str, now: datetime, is_complete: bool
) -> None:
    """Bring the job's entries in line with a staged run: renew and open for rejected records, close the others.

    A complete fetch also closes entries whose record the source no longer has.
    """
    is_open = and_(rejects.c.job == job, rejects.c.closed_at.is_(None))
    newest = _newest_rejected(stage)
    connection.execute(_closing(stage, is_open, now, is_complete=is_complete))
    connection.execute(
        update(rejects)
        .values(
            code=newest.c.code,
            field=newest.c.field,
            reason=newest.c.reason,
            record=newest.c.record,
            attempts=rejects.c.attempts + 1,
            run_id=run_id,
            last_at=now,
        )
        .where(is_open, _is_same(newest))
    )
    connection.execute(_opening(newest, job, run_id, now))


def _is_same(staged: Any) -> ColumnElement[bool]:
    """Tell whether an entry and a staged record are of one item: by id, or by the record where it has none."""
    without_id = and_(
        rejects.c.external_id.is_(None), staged.c.external_id.is_(None), rejects.c.record == staged.c.record
    )
    return or_(rejects.c.external_id == staged.c.external_id, without_id)


def _is_superseded(stage: Table, s: Any) -> ColumnElement[bool]:
    """Tell whether a later record of the same id in this run was kept: a kept reject is tried before the fetch."""
    later = stage.alias("later")
    is_kept = or_(later.c.action.is_(None), later.c.action.not_in(_NOT_CLOSING))
    return exists().where(later.c.external_id == s.c.external_id, later.c.seq > s.c.seq, is_kept)


def _newest_rejected(stage: Table) -> Any:
    s = stage.alias("s")
    is_rejected = and_(s.c.action == Outcome.REJECTED.value, ~_is_superseded(stage, s))
    last = select(func.max(s.c.seq)).where(is_rejected).group_by(func.coalesce(s.c.external_id, s.c.record, ""))
    columns = [stage.c[name] for name in ("external_id", "code", "field", "reason", "record")]
    return select(*columns).where(stage.c.seq.in_(last)).subquery("newest")


def _closing(stage: Table, is_open: Any, now: datetime, *, is_complete: bool) -> Any:
    s = stage.alias("seen")
    rejected = exists().where(_is_same(s), s.c.action == Outcome.REJECTED.value, ~_is_superseded(stage, s))
    # A record that had no id may have got one by a change of the job; then it is known by its text.
    is_known = or_(s.c.external_id == rejects.c.external_id, s.c.record == rejects.c.record)
    kept = exists().where(is_known, or_(s.c.action.is_(None), s.c.action.not_in(_NOT_CLOSING)))
    closes = ~rejected if is_complete else and_(kept, ~rejected)
    return update(rejects).values(closed_at=now).where(is_open, closes)


def _opening(newest: Any, job: str, run_id: str, now: datetime) -> Any:
    there = exists().where(rejects.c.job == job, rejects.c.closed_at.is_(None), _is_same(newest))
    at = literal(now, UtcDateTime())
    rows: Any = select(
        literal(job),
        newest.c.external_id,
        newest.c.code,
        newest.c.field,
        newest.c.reason,
        newest.c.record,
        literal(1),
        literal(run_id),
        at,
        at,
        null(),
    ).where(~there)
    names = ["job", "external_id", "code", "field", "reason", "record", "attempts", "run_id"]
    return insert(rejects).from_select([*names, "opened_at", "last_at", "closed_at"], rows)
