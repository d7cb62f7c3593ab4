"""The records of a callback job: what is called for each of them, in chunks, and what a run would do."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sync_defs.engine.ports import ChangeCounts
from sync_defs.engine.records import is_older
from sync_defs.errors import SyncError
from sync_defs.job import SyncJob
from sync_defs.policies import MissingAction
from sync_defs.results import Action, Outcome
from sync_defs.store.coerce import canonical, decode_record
from sync_defs.store.database import Database
from sync_defs.store.mapping import reviver
from sync_defs.store.staging import stage_counts

CHUNK = 500
"""Records of one transaction, whose rows are looked up at once."""
Rows = Mapping[str, Any]
"""The rows that are there, by external id."""


class RecordCalls:
    """Calls a job's callbacks for one staged record, or one missing row, inside the caller's savepoint."""

    def __init__(self, job: "SyncJob[Any, Any]", session: Session, version_of_text: Callable[[str], Any]) -> None:
        """Call with a session; `version_of_text` reads the version of a record that was kept as text."""
        self._job = job
        self._session = session
        self._revive = reviver(job)
        self._version_of_text = version_of_text

    def apply(self, row: Any, rows: Rows | None) -> str:
        """Create, update or delete what a row of the stage says, and return the outcome or action.

        `rows` are those that are there; None: it is asked for this one. `updated` means that `update` was called.
        """
        job, session = self._job, self._session
        local = self._local(row.external_id, rows)
        if row.is_deletion:
            if local is None:
                return Outcome.UNCHANGED
            return Outcome.STALE if self._is_late(row.record, local) else self._remove(local)
        record = self._revive(decode_record(row.record))
        if local is None:
            job.create(session, record)
            return Outcome.CREATED
        if self._is_older(record, local):
            return Outcome.STALE
        policy = job.missing_policy
        if policy.restores and policy.column:
            setattr(local, policy.column, policy.otherwise)
        job.update(session, local, record)
        return Outcome.UPDATED

    def remove(self, external_id: str, rows: Rows | None) -> str:
        """Do with a missing row what the job's policy says."""
        local = self._local(external_id, rows)
        return self._remove(local) if local is not None else Outcome.UNCHANGED

    def _local(self, external_id: str, rows: Rows | None) -> Any:
        return self._job.find_local(self._session, external_id) if rows is None else rows.get(external_id)

    def _is_older(self, record: Any, local: Any) -> bool:
        given, held = canonical(self._job.get_version(record)), canonical(self._job.get_local_version(local))
        return held is not None and (given is None or given < held)

    def _is_late(self, last: str | None, local: Any) -> bool:
        """Tell whether the row is newer than the state that a deletion knows; without a version it is not."""
        given = self._version_of_text(last) if last is not None else None
        held = canonical(self._job.get_local_version(local))
        return held is not None and given is not None and given < held

    def _remove(self, local: Any) -> str:
        policy = self._job.missing_policy
        if policy.action is MissingAction.KEEP:
            return Outcome.SKIPPED
        if policy.action is MissingAction.DELETE:
            self._job.delete(self._session, local)
            return Action.DELETED
        column = str(policy.column)
        if getattr(local, column) == policy.value:
            return Outcome.UNCHANGED
        setattr(local, column, policy.value)
        return Action.MARKED


def diff_callbacks(connection: Connection, stage: Table, job: "SyncJob[Any, Any]", database: Database) -> ChangeCounts:
    """Skip earlier duplicates and tell records to create from those to compare; runs no callback that writes."""
    database.dialect.prepare_stage(connection, stage, ["external_id"])
    _skip_duplicates(connection, stage, job)
    session = Session(bind=connection, join_transaction_mode="create_savepoint")
    pending = select(stage.c.external_id).where(stage.c.action.is_(None), ~stage.c.is_deletion)
    counts = ChangeCounts(is_exact=False)
    try:
        with connection.execute(pending.order_by(stage.c.seq)) as result:
            ids = list(result.scalars())
        for chunk in in_chunks(ids):
            with session.begin_nested() as savepoint:
                found = len(job.find_local_many(session, chunk))
                savepoint.rollback()
            counts.unchanged += found
            counts.created += len(chunk) - found
    except SyncError:
        raise
    except Exception as error:  # noqa: BLE001 - user code: a bad id in the batch; the upsert judges record by record
        raise_if_lost(connection, error)
        counts.unchanged, counts.created = 0, 0
    finally:
        session.close()
    found_counts = stage_counts(connection, stage)
    counts.skipped = found_counts.get(Outcome.SKIPPED.value, 0)
    counts.rejected = found_counts.get(Outcome.REJECTED.value, 0)
    return counts


def raise_if_lost(connection: Connection, error: Exception) -> None:
    """Raise what cut the connection, where it is gone: whatever is sent after that fails by another name."""
    if connection.invalidated:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, DBAPIError):
            cause = cause.__context__
        raise cause or error


def _skip_duplicates(connection: Connection, stage: Table, job: "SyncJob[Any, Any]") -> None:
    """Skip all but the newest (then last) record of each id."""
    s = stage.alias("s")
    several = select(s.c.external_id).where(s.c.action.is_(None)).group_by(s.c.external_id).having(func.count() > 1)
    rows = connection.execute(
        select(stage.c.external_id, stage.c.seq, stage.c.record)
        .where(stage.c.action.is_(None), stage.c.external_id.in_(several))
        .order_by(stage.c.seq)
    ).all()
    revive = reviver(job)
    best: dict[str, tuple[Any, int]] = {}
    for external_id, seq, record in rows:
        version = _version(job, revive(decode_record(record)))
        held = best.get(external_id, (None, 0))[0]
        if held is None or (version is not None and not is_older(version, held)):
            best[external_id] = (version, seq)
    skipped = [{"at": seq} for external_id, seq, _ in rows if best[external_id][1] != seq]
    if skipped:
        statement = update(stage).where(stage.c.seq == bindparam("at")).values(action=Outcome.SKIPPED.value)
        connection.execute(statement, skipped)


def _version(job: "SyncJob[Any, Any]", record: Any) -> Any:
    try:
        return canonical(job.get_version(record))
    except Exception:  # noqa: BLE001 - user code: the record is judged, and rejected, where it is written
        return None


def in_chunks(ids: Iterable[Any]) -> Iterator[list[str]]:
    """Yield external ids in chunks."""
    chunk: list[str] = []
    for external_id in ids:
        if external_id is None:
            continue  # a row that never had an id is no row of this source
        chunk.append(str(external_id))
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
