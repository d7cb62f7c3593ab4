"""The writer of callback jobs: record by record, each in a savepoint, one transaction for a chunk."""

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sync_defs.engine.ports import ChangeCounts, Run, Writer
from sync_defs.errors import RecordError, SyncError
from sync_defs.job import SyncJob
from sync_defs.policies import MissingAction
from sync_defs.results import Action, Outcome, SampledChange, SyncResults
from sync_defs.store import schema
from sync_defs.store.coerce import canonical, decode_record
from sync_defs.store.database import Database
from sync_defs.store.mapping import reviver
from sync_defs.store.rejects import settle_rejects
from sync_defs.store.runs import check_lease, finish_run, lock_writing
from sync_defs.store.session_watch import SessionWatch, shown_changes
from sync_defs.store.staging import item_error, reject, stage_counts, staged_errors

CHUNK = 500
_DONE = (Outcome.CREATED, Outcome.UPDATED)


class CallbackWriter(Writer):
    """Runs a callback job's staged records through its callbacks.

    Each chunk is one transaction, so a killed run keeps whole chunks and the next run finds them unchanged. A dry run,
    and a batch of single items, is one transaction in all.
    """

    def __init__(
        self,
        connection: Connection,
        stage: Table,
        job: "SyncJob[Any, Any]",
        database: Database,
        run: Run,
        *,
        is_complete: bool,
    ) -> None:
        """Work on one connection, whose transaction the caller opened and ends."""
        self._connection = connection
        self._stage = stage
        self._job = job
        self._database = database
        self._run = run
        self._is_complete = is_complete
        self._session = Session(bind=connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        self._watch = SessionWatch(self._session, connection)
        self._revive = reviver(job)
        self._counts = ChangeCounts()
        self._missing: list[str] = []
        self._tally = Counter[str]()
        self._committed = Counter[str]()
        self._sampled = frozenset({Action.UPDATED})
        self._sample_size = job.sample_size
        self._history: list[dict[str, Any]] = []

    def judge_missing(self, allow: Callable[[int, int], str | None]) -> None:
        """See `Writer`."""
        if not self._is_complete or self._job.missing_policy.action is MissingAction.KEEP:
            return
        rows = 0
        for ids in _chunks(self._job.local_external_ids(self._session)):
            rows += len(ids)
            seen = self._seen(ids)
            self._missing += [external_id for external_id in ids if external_id not in seen]
        self._session.commit()  # ends its savepoint, so that the records' own ones are not inside it
        self._counts.missing = len(self._missing)
        self._counts.row_count = rows
        if self._missing:
            self._counts.withheld_reason = allow(len(self._missing), rows)
            if self._counts.withheld_reason is not None:
                self._counts.withheld, self._missing = len(self._missing), []

    def sample(self, limit: int) -> None:
        """See `Writer`."""
        self._sampled = frozenset({Action.CREATED, Action.UPDATED, Action.DELETED, Action.MARKED})
        self._sample_size = limit

    def write(self, progress: Callable[[int], None]) -> None:
        """See `Writer`."""
        for ids in _chunks(self._missing):
            self._remove_missing(ids)
            self._end_chunk()
        done = 0
        while rows := self._next_chunk(done):
            self._write_chunk(rows)
            done = rows[-1].seq
            self._end_chunk()
            progress(done)

    def committed(self) -> dict[str, int]:
        """See `Writer`."""
        return dict(self._committed)

    def settle(self) -> ChangeCounts:
        """See `Writer`."""
        found = stage_counts(self._connection, self._stage)
        counts = self._counts
        for outcome in Outcome:
            setattr(counts, outcome.value, found.get(outcome.value, 0))
        if counts.row_count is not None:
            counts.row_count += counts.created - counts.deleted
        counts.errors = [*staged_errors(self._connection, self._stage, self._database), *counts.errors]
        return counts

    def finish(self, results: SyncResults, cursor_after: str | None) -> None:
        """See `Writer`."""
        settle_rejects(
            self._connection,
            self._stage,
            job=self._run.job_name,
            run_id=self._run.run_id,
            now=self._database.now(),
            is_complete=self._is_complete,
        )
        finish_run(self._connection, results, cursor_after)

    def close(self) -> None:
        """Let the session go; the transaction stays with the caller."""
        self._session.close()

    def _seen(self, ids: Sequence[str]) -> set[str]:
        s = self._stage
        fetched = select(s.c.external_id).where(s.c.external_id.in_(ids), ~s.c.is_deletion)
        return set(self._connection.execute(fetched).scalars()) | self._touched(ids)

    def _next_chunk(self, after: int) -> Sequence[Any]:
        s = self._stage
        return self._connection.execute(
            select(s.c.seq, s.c.external_id, s.c.record, s.c.is_deletion)
            .where(s.c.seq > after, s.c.action.is_(None))
            .order_by(s.c.seq)
            .limit(CHUNK)
        ).all()

    def _write_chunk(self, rows: Sequence[Any]) -> None:
        ids = [row.external_id for row in rows]
        touched = set[str]() if self._run.is_item else self._touched(ids)
        locals_ = self._find(ids)
        found: list[dict[str, Any]] = []
        for row in rows:
            outcome: str = Outcome.STALE
            if row.external_id not in touched:
                outcome = self._one(row, locals_)
            self._tally[str(outcome)] += 1
            if outcome != Outcome.REJECTED:
                found.append({"at": row.seq, "to": str(outcome)})
        if found:
            self._mark(found)

    def _mark(self, found: list[dict[str, Any]]) -> None:
        s = self._stage
        statement = update(s).where(s.c.seq == bindparam("at")).values(action=bindparam("to"))
        self._connection.execute(statement, found)

    def _touched(self, ids: Sequence[str]) -> set[str]:
        """Return the ids that a single-item sync changed after the fetch began."""
        c = schema.changes
        statement = select(c.c.external_id).where(
            c.c.job == self._job.name, c.c.external_id.in_(ids), c.c.is_item, c.c.id > self._run.watermark
        )
        return set(self._connection.execute(statement).scalars())

    def _find(self, ids: Sequence[str]) -> dict[str, Any] | None:
        """Return the rows of a chunk, or None where the batched look-up fails, to look them up one by one."""
        try:
            with self._apart():
                return dict(self._job.find_local_many(self._session, ids))
        except Exception:  # noqa: BLE001 - user code: a bad id in the batch must not end the sync
            return None

    @contextmanager
    def _apart(self) -> Generator[None]:
        """Undo the block alone if it raises, also where a callback has committed or rolled back its session.

        The savepoint is the connection's, out of the session's reach; the session's own one is inside it.
        """
        savepoint = self._connection.begin_nested()
        try:
            yield
            self._session.commit()
        except BaseException:
            self._session.rollback()
            savepoint.rollback()
            raise
        savepoint.commit()

    def _one(self, row: Any, locals_: dict[str, Any] | None) -> str:
        self._watch.reset()
        try:
            with self._apart():
                outcome = self._dispatch(row, locals_)
                self._session.flush()
                if outcome == Outcome.UPDATED and not self._watch.has_changes:
                    outcome = Outcome.UNCHANGED
        except Exception as error:  # noqa: BLE001 - user code: one record's callback must not end the sync
            reject(self._connection, self._stage, row.seq, self._reason(error))
            return Outcome.REJECTED
        self._log(row.external_id, outcome)
        return outcome

    def _dispatch(self, row: Any, locals_: dict[str, Any] | None) -> str:
        job, session = self._job, self._session
        local = job.find_local(session, row.external_id) if locals_ is None else locals_.get(row.external_id)
        record = self._record(row.record) if row.record is not None else None
        if local is None:
            if row.is_deletion:
                return Outcome.UNCHANGED
            job.create(session, record)
            return Outcome.CREATED
        if record is not None and self._is_older(record, local):
            return Outcome.STALE
        if row.is_deletion:
            return self._remove(local)
        policy = job.missing_policy
        if policy.restores and policy.column:
            setattr(local, policy.column, policy.otherwise)
        job.update(session, local, record)
        return Outcome.UPDATED

    def _is_older(self, record: Any, local: Any) -> bool:
        given, held = canonical(self._job.get_version(record)), canonical(self._job.get_local_version(local))
        return held is not None and (given is None or given < held)

    def _record(self, text: str) -> Any:
        return self._revive(decode_record(text))

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

    def _remove_missing(self, ids: Sequence[str]) -> None:
        locals_ = self._find(ids)
        for external_id in ids:
            self._watch.reset()
            try:
                with self._apart():
                    local = (
                        self._job.find_local(self._session, external_id)
                        if locals_ is None
                        else locals_.get(external_id)
                    )
                    action = self._remove(local) if local is not None else Outcome.UNCHANGED
                    self._session.flush()
            except Exception as error:  # noqa: BLE001 - user code and constraints: other deletes go on
                self._withhold(external_id, self._reason(error))
                continue
            if action in (Action.DELETED, Action.MARKED):
                setattr(self._counts, action, getattr(self._counts, action) + 1)
                self._log(external_id, action)
            else:
                self._counts.missing -= 1

    def _withhold(self, external_id: str, error: RecordError) -> None:
        self._counts.withheld += 1
        self._counts.withheld_reason = "the database or delete() refuses some deletes"
        reason = f"cannot delete the row: {error.reason}"
        self._counts.errors.append(item_error(self._database, external_id, reason, error.code, error.field))

    def _reason(self, error: Exception) -> RecordError:
        if isinstance(error, RecordError):
            return error
        if isinstance(error, DBAPIError):
            found = self._database.dialect.record_error(error)
            if found is None:
                raise error
            return found
        if isinstance(error, SyncError):
            return RecordError(error.message, code=error.code)
        return RecordError(f"a callback raised {type(error).__name__}", code="callback_failed")

    def _log(self, external_id: str, action: str) -> None:
        if action not in (*_DONE, Action.DELETED, Action.MARKED):
            return
        shown = shown_changes(self._watch.changes, self._job.masked_fields)
        if action in self._sampled and len(self._counts.samples) < self._sample_size:
            self._counts.samples.append(SampledChange(external_id=external_id, action=Action(action), changes=shown))
        if self._job.history or self._run.is_item:
            self._history.append(
                {
                    "job": self._job.name,
                    "external_id": external_id,
                    "run_id": self._run.run_id,
                    "is_item": self._run.is_item,
                    "action": str(action),
                    "changed_at": self._database.now(),
                    "old_values": json.dumps({name: old for name, (old, _) in shown.items()}),
                    "new_values": json.dumps({name: new for name, (_, new) in shown.items()}),
                }
            )

    def _end_chunk(self) -> None:
        if self._history:
            self._connection.execute(insert(schema.changes), self._history)
            self._history = []
        self._session.expunge_all()
        if self._run.dry_run or self._run.is_item:
            return
        self._connection.commit()
        self._committed += self._tally
        self._tally.clear()
        self._connection.begin()
        self._database.dialect.begin_upsert(self._connection)
        lock_writing(self._database, self._connection, self._job.name)
        check_lease(self._connection, self._run)


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
        for chunk in _chunks(ids):
            with session.begin_nested() as savepoint:
                found = len(job.find_local_many(session, chunk))
                savepoint.rollback()
            counts.unchanged += found
            counts.created += len(chunk) - found
    except SyncError:
        raise
    except Exception:  # noqa: BLE001 - user code: a bad id in the batch; the upsert judges record by record
        counts.unchanged, counts.created = 0, 0
    finally:
        session.close()
    found_counts = stage_counts(connection, stage)
    counts.skipped = found_counts.get(Outcome.SKIPPED.value, 0)
    counts.rejected = found_counts.get(Outcome.REJECTED.value, 0)
    return counts


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
        version = canonical(job.get_version(revive(decode_record(record))))
        held = best.get(external_id, (None, 0))[0]
        if held is None or (version is not None and version >= held):
            best[external_id] = (version, seq)
    skipped = [{"at": seq} for external_id, seq, _ in rows if best[external_id][1] != seq]
    if skipped:
        statement = update(stage).where(stage.c.seq == bindparam("at")).values(action=Outcome.SKIPPED.value)
        connection.execute(statement, skipped)


def _chunks(ids: Any) -> Iterator[list[str]]:
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


@contextmanager
def callback_writing(
    connection: Connection, stage: Table, job: "SyncJob[Any, Any]", database: Database, run: Run, *, is_complete: bool
) -> Generator[CallbackWriter]:
    """Open a callback writer and let its session go at the end."""
    writer = CallbackWriter(connection, stage, job, database, run, is_complete=is_complete)
    try:
        yield writer
    finally:
        writer.close()
