"""`sync_rejects`: one open entry for each job and external id, closed when the record succeeds later."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from sync_defs.engine.ports import Run, Shaper
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """How a run compares the version of a record that has landed with a rejected one's."""

    column: ColumnElement[Any]
    """Of the stage: the version, or what `of_landed` reads it from."""
    of_landed: Callable[[Any], Any]
    of_kept: Callable[[str], Any]
    """From the text of a kept record to its version, or None."""


def version_of_text(shaper: Shaper, text: str) -> Any:
    """Return the version of a record that was kept as text, or None if it has none that can be read."""
    try:
        return shaper.version_of(shaper.revive(decode_record(text)), None)
    except Exception:  # noqa: BLE001 - user code: a version that cannot be read is no version
        return None


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


def has_open_rejects(connection: Connection, job: str) -> bool:
    """Tell whether a job has open entries."""
    is_open = and_(rejects.c.job == job, rejects.c.closed_at.is_(None))
    return connection.execute(select(rejects.c.id).where(is_open).limit(1)).first() is not None


def settle_rejects(
    connection: Connection,
    stage: Table,
    run: Run,
    versions: Versions | None,
    *,
    database: Database,
    is_complete: bool,
) -> None:
    """Bring the job's entries in line with a staged run: renew and open for rejected records, close the others.

    A complete fetch also closes entries whose record the source no longer has. An entry stays open while what has
    landed is an older version than what it keeps.

    Nearly always there are no open entries and no rejected records, and whoever sees that need not call it: to look
    takes a tenth of its time.
    """
    now = database.now()
    is_open = and_(rejects.c.job == run.job_name, rejects.c.closed_at.is_(None))
    newest = _newest_rejected(stage)
    newer = _newer_than_landed(connection, stage, is_open, versions) if versions is not None else []
    connection.execute(_closing(stage, is_open, run, now, is_complete=is_complete))
    if newer:
        reopening = update(rejects).values(closed_at=None).where(rejects.c.id == bindparam("at"))
        connection.execute(reopening, [{"at": number} for number in newer])
    renewed: dict[Column[Any], Any] = {
        **{rejects.c[name]: newest.c[name] for name in ("code", "field", "reason", "record")},
        rejects.c.attempts: rejects.c.attempts + 1,
        rejects.c.run_id: literal(run.run_id),
        rejects.c.last_at: literal(now, UtcDateTime()),
    }
    for is_same in _ways_to_be_same(newest):
        connection.execute(database.dialect.update_from(rejects, renewed, and_(is_open, is_same)))
    connection.execute(_opening(newest, run, now))


def _ways_to_be_same(staged: Any) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return how an entry and a staged record are of one item: by id, or by the record where it has none.

    Asked one by one, since an OR of them keeps every index and hash out.
    """
    without_id = and_(rejects.c.external_id.is_(None), staged.c.external_id.is_(None))
    return rejects.c.external_id == staged.c.external_id, and_(without_id, rejects.c.record == staged.c.record)


def _any_same(staged: Any, *where: ColumnElement[bool]) -> ColumnElement[bool]:
    """Tell whether there is a staged record of an entry's item for which the conditions hold."""
    return or_(*[exists().where(is_same, *where) for is_same in _ways_to_be_same(staged)])


def _is_superseded(stage: Table, s: Any) -> ColumnElement[bool]:
    """Tell whether a later record of the same id in this run was kept: a kept reject is tried before the fetch."""
    later = stage.alias("later")
    return exists().where(later.c.external_id == s.c.external_id, later.c.seq > s.c.seq, _is_kept(later))


def _newest_rejected(stage: Table) -> Any:
    s = stage.alias("s")
    is_rejected = and_(s.c.action == Outcome.REJECTED.value, ~_is_superseded(stage, s))
    item = func.coalesce(s.c.external_id, s.c.record, "")
    # Joined: MariaDB 10.11.19 was seen to crash, once, as it materialized this as `seq IN (SELECT max(seq) ...)`.
    last = select(func.max(s.c.seq).label("seq")).where(is_rejected).group_by(item).subquery("last")
    # The last state of what is to be deleted is no record to try again: it would come back.
    record = case((~stage.c.is_deletion, stage.c.record), else_=null()).label("record")
    columns = [stage.c[name] for name in ("external_id", "code", "field", "reason")]
    return select(*columns, record).join_from(stage, last, stage.c.seq == last.c.seq).subquery("newest")


def _newer_than_landed(connection: Connection, stage: Table, is_open: Any, versions: Versions) -> list[int]:
    """Return the entries whose record is certainly newer than the one of the same id that this run kept."""
    statement = select(rejects.c.id, rejects.c.record, versions.column).where(
        is_open, rejects.c.record.is_not(None), rejects.c.external_id == stage.c.external_id, _is_kept(stage)
    )
    newer: list[int] = []
    for number, text, value in connection.execute(statement):
        kept, written = versions.of_kept(text), versions.of_landed(value)
        try:
            if kept is not None and written is not None and kept > written:
                newer.append(number)
        except TypeError:  # a callback job's versions may be of two kinds
            continue
    return newer


def _is_kept(staged: Any) -> ColumnElement[bool]:
    return or_(staged.c.action.is_(None), staged.c.action.not_in(_NOT_CLOSING))


def _closing(stage: Table, is_open: Any, run: Run, now: datetime, *, is_complete: bool) -> Any:
    s = stage.alias("seen")
    rejected = _any_same(s, s.c.action == Outcome.REJECTED.value, ~_is_superseded(stage, s))
    by_id = s.c.external_id == rejects.c.external_id
    # A record that had no id may have got one by a change of the job; then it is known by its text.
    by_text = and_(rejects.c.external_id.is_(None), s.c.record == rejects.c.record)
    kept: ColumnElement[bool] = or_(exists().where(by_id, _is_kept(s)), exists().where(by_text, _is_kept(s)))
    if is_complete:
        # What a message brought after the fetch began is not gone because the fetch lacks it, and what the fetch has
        # in an older version is not gone at all.
        passed_over = exists().where(by_id, s.c.action.in_((Outcome.SKIPPED.value, Outcome.STALE.value)))
        kept = or_(kept, and_(rejects.c.last_at <= run.started_at, ~passed_over))
    return update(rejects).values(closed_at=now).where(is_open, kept, ~rejected)


def _opening(newest: Any, run: Run, now: datetime) -> Any:
    is_open = (rejects.c.job == run.job_name, rejects.c.closed_at.is_(None))
    there = or_(*[exists().where(*is_open, is_same) for is_same in _ways_to_be_same(newest)])
    at = literal(now, UtcDateTime())
    rows: Any = select(
        literal(run.job_name),
        newest.c.external_id,
        newest.c.code,
        newest.c.field,
        newest.c.reason,
        newest.c.record,
        literal(1),
        literal(run.run_id),
        at,
        at,
        null(),
    ).where(~there)
    names = ["job", "external_id", "code", "field", "reason", "record", "attempts", "run_id"]
    return insert(rejects).from_select([*names, "opened_at", "last_at", "closed_at"], rows)
