"""The writer of callback jobs: one transaction for a chunk of records, each of which undoes itself alone."""

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic, sleep
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, bindparam, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sync_defs.engine.ports import ChangeCounts, Run, StageHandle, Writer
from sync_defs.errors import RecordError, SyncError
from sync_defs.job import SyncJob
from sync_defs.policies import MissingAction
from sync_defs.results import Action, Outcome, SampledChange, SyncResults
from sync_defs.store import schema
from sync_defs.store.callback_calls import CHUNK, RecordCalls, Rows, in_chunks, raise_if_lost
from sync_defs.store.database import Database
from sync_defs.store.isolation import Done, Isolation
from sync_defs.store.mapping import RecordShaper
from sync_defs.store.rejects import Versions, has_open_rejects, settle_rejects, version_of_text
from sync_defs.store.runs import check_lease, finish_run, lock_writing
from sync_defs.store.session_watch import SessionWatch, shown_changes
from sync_defs.store.staging import MISSING, item_error, reject_all, stage_counts, staged_errors
from sync_defs.store.state_header import forget

_ROOM_EVERY_S = 1.0
_LOGGED = (Action.CREATED, Action.UPDATED, Action.DELETED, Action.MARKED)
T = TypeVar("T")


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
        handle: StageHandle,
    ) -> None:
        """Work on one connection, whose transaction the caller opened and ends."""
        self._connection = connection
        self._stage = stage
        self._job = job
        self._database = database
        self._run = run
        self._handle = handle
        self._is_complete = handle.is_complete
        self._keeps_state = handle.has_prints and not run.dry_run and not run.is_item
        self._session = Session(bind=connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        self._watch = SessionWatch(self._session, connection, keeps_time_zones=database.dialect.keeps_time_zones)
        self._version_of_text = partial(version_of_text, RecordShaper(job, database))
        self._calls = RecordCalls(job, self._session, self._version_of_text)
        self._isolation = Isolation(connection, self._session, self._watch, self._reason)
        self._counts = ChangeCounts()
        self._missing: list[str] = []
        self._tally = Counter[str]()
        self._committed = Counter[str]()
        self._sampled = frozenset({Action.UPDATED})
        self._sample_size = job.sample_size
        self._history: list[dict[str, Any]] = []
        self._has_written = self._has_rejected = False
        self._closed_since = monotonic()

    def judge_missing(self, allow: Callable[[int, int], str | None]) -> None:
        """See `Writer`."""
        if not self._is_complete or self._job.missing_policy.action is MissingAction.KEEP:
            return
        rows = 0
        of_partition = {} if self._run.partition is None else {"partition": self._run.partition}
        for ids in in_chunks(self._job.local_external_ids(self._session, **of_partition)):
            rows += len(ids)
            if not self._handle.is_sifted or self._handle.missing:
                absent = self._absent(ids)
                self._missing += [external_id for external_id in ids if external_id in absent]
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

    def write(self, progress: Callable[[int], None], judge: Callable[[], None] | None = None) -> None:
        """See `Writer`."""
        if self._keeps_state:
            from sync_defs.store.known_callbacks import doubt  # numpy: not for what only takes in messages

            doubt(self._connection, self._database, self._stage, self._job, self._run, self._handle)
        for ids in in_chunks(self._missing):
            self._remove_missing(ids)
            self._settle_chunk()
        # Deletes commit with the first records: where most of these fail, nothing is deleted, and no message comes in
        # between what was judged missing and its end.
        done = 0
        while rows := self._next_chunk(done):
            self._write_chunk(rows)
            done = rows[-1].seq
            if judge is not None:
                judge()
            self._end_chunk()
            progress(done)

    def committed(self) -> dict[str, int]:
        """See `Writer`."""
        return dict(self._committed)

    def judged(self) -> dict[str, int]:
        """See `Writer`."""
        so_far = self._committed + self._tally
        return {outcome.value: so_far[outcome.value] for outcome in Outcome}

    def settle(self) -> ChangeCounts:
        """See `Writer`."""
        found = stage_counts(self._connection, self._stage)
        counts = self._counts
        for outcome in Outcome:
            setattr(counts, outcome.value, found.get(outcome.value, 0))
        if counts.row_count is not None:
            counts.row_count += counts.created - counts.deleted
        rejected = staged_errors(self._connection, self._stage, self._database)
        self._has_rejected = bool(rejected)
        counts.errors = [*rejected, *counts.errors]
        return counts

    def finish(self, results: SyncResults, cursor_after: str | None) -> None:
        """See `Writer`."""
        if self._has_rejected or has_open_rejects(self._connection, self._job.name):
            self._settle_rejects()
        if self._keeps_state:
            from sync_defs.store.known_callbacks import remember

            remember(self._connection, self._database.dialect, self._stage, self._job, self._run, self._handle)
        finish_run(self._connection, self._run, results, cursor_after)

    def _settle_rejects(self) -> None:
        settle_rejects(
            self._connection,
            self._stage,
            self._run,
            Versions(
                column=self._stage.c.record,
                of_landed=lambda text: self._version_of_text(text) if text is not None else None,
                of_kept=self._version_of_text,
            ),
            database=self._database,
            is_complete=self._is_complete and self._run.partition is None,
        )

    def close(self) -> None:
        """Let the session go; the transaction stays with the caller."""
        self._session.close()

    def _absent(self, ids: Sequence[str]) -> set[str]:
        """Return those of a chunk of ids that a complete fetch lacked, and that no message changed since."""
        s = self._stage
        seen = set(
            self._connection.execute(
                select(s.c.external_id).where(s.c.external_id.in_(ids), ~s.c.is_deletion)
            ).scalars()
        )
        lacked = set(ids)
        if self._handle.is_sifted:
            listed = select(s.c.external_id).where(s.c.external_id.in_(ids), s.c.action == MISSING)
            lacked = set(self._connection.execute(listed).scalars())
        return lacked - seen - self._touched(ids)

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
        stale = [row for row in rows if row.external_id in touched]
        rows = [row for row in rows if row.external_id not in touched]
        deletes = any(row.is_deletion for row in rows)
        found = [{"at": row.seq, "to": Outcome.STALE.value} for row in stale]
        refused: list[tuple[int, RecordError]] = []
        for row, done in self._run_all(rows, self._calls.apply, ids, deletes=deletes):
            self._tally[done.outcome] += 1
            if done.error is not None:
                refused.append((row.seq, done.error))
            else:
                found.append({"at": row.seq, "to": str(done.outcome)})
                self._log(row.external_id, done)
        self._tally[Outcome.STALE] += len(stale)
        reject_all(self._connection, self._stage, refused)
        if found:
            self._mark(found)

    def _run_all(
        self, items: Sequence[T], act: Callable[[T, Rows | None], str], ids: Sequence[str], *, deletes: bool
    ) -> Iterator[tuple[T, Done]]:
        """Run items whose rows are looked up at once, or one by one where that look-up fails."""
        rows = self._find(ids)
        done = self._isolation.run(items, lambda item: act(item, rows), together=rows is not None, deletes=deletes)
        return zip(items, done, strict=True)

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

    def _find(self, ids: Sequence[str]) -> Rows | None:
        """Return the rows of a chunk, or None where the batched look-up fails, to look them up one by one."""
        try:
            with self._isolation.apart():
                return dict(self._job.find_local_many(self._session, ids))
        except Exception as error:  # noqa: BLE001 - user code: a bad id in the batch must not end the sync
            raise_if_lost(self._connection, error)
            return None

    def _remove_missing(self, ids: Sequence[str]) -> None:
        removed: list[dict[str, str]] = []
        for external_id, done in self._run_all(ids, self._calls.remove, ids, deletes=True):
            if done.error is not None:
                self._withhold(external_id, done.error)
            elif done.outcome in (Action.DELETED, Action.MARKED):
                setattr(self._counts, done.outcome, getattr(self._counts, done.outcome) + 1)
                self._tally[done.outcome] += 1
                self._log(external_id, done)
                removed.append({"of": external_id, "to": str(done.outcome)})
            else:
                self._counts.missing -= 1
        if removed and self._handle.is_sifted:
            s = self._stage
            listed = update(s).where(s.c.external_id == bindparam("of"), s.c.action == MISSING)
            self._connection.execute(listed.values(action=bindparam("to")), removed)

    def _withhold(self, external_id: str, error: RecordError) -> None:
        self._counts.withheld += 1
        self._counts.withheld_reason = "the database or delete() refuses some deletes"
        reason = f"cannot delete the row: {error.reason}"
        self._counts.errors.append(item_error(self._database, external_id, reason, error.code, error.field))

    def _reason(self, error: Exception) -> RecordError:
        raise_if_lost(self._connection, error)
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

    def _log(self, external_id: str, done: Done) -> None:
        if done.outcome not in _LOGGED:
            return
        self._has_written = True
        shown = shown_changes(done.changes, self._job.masked_fields)
        action = Action(done.outcome)
        if action in self._sampled and len(self._counts.samples) < self._sample_size:
            self._counts.samples.append(SampledChange(external_id=external_id, action=action, changes=shown))
        if self._job.history or self._run.is_item:
            self._history.append(
                {
                    "job": self._job.name,
                    "external_id": external_id,
                    "run_id": self._run.run_id,
                    "is_item": self._run.is_item,
                    "action": action.value,
                    "changed_at": self._database.now(),
                    "old_values": json.dumps({name: old for name, (old, _) in shown.items()}),
                    "new_values": json.dumps({name: new for name, (_, new) in shown.items()}),
                }
            )

    def _end_chunk(self) -> None:
        self._settle_chunk()
        if not (self._run.dry_run or self._run.is_item):
            self._commit_chunk()

    def _settle_chunk(self) -> None:
        if self._history:
            self._connection.execute(insert(schema.changes), self._history)
            self._history = []
        self._session.expunge_all()
        if self._has_written and not self._keeps_state and not self._run.is_item:
            forget(self._connection, self._job.name)  # what a state says of these rows is no longer so
            self._has_written = False

    def _commit_chunk(self) -> None:
        self._connection.commit()
        self._committed += self._tally
        self._tally.clear()
        self._make_room()
        self._connection.begin()
        self._database.dialect.begin_upsert(self._connection)
        lock_writing(self._database, self._connection, self._job.name)
        check_lease(self._connection, self._run)

    def _make_room(self) -> None:
        """Let in who waits to write, where the database does not queue them: the lease is renewed by such a one."""
        pause = self._database.dialect.writers_look_every_s
        if pause and monotonic() - self._closed_since > _ROOM_EVERY_S:
            sleep(pause)
            self._closed_since = monotonic()


@contextmanager
def callback_writing(
    connection: Connection, stage: Table, job: "SyncJob[Any, Any]", database: Database, run: Run, handle: StageHandle
) -> Generator[CallbackWriter]:
    """Open a callback writer and let its session go at the end."""
    writer = CallbackWriter(connection, stage, job, database, run, handle)
    try:
        yield writer
    finally:
        writer.close()
