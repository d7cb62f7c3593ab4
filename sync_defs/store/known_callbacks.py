"""The filter of callback jobs whose callbacks depend on the record alone.

There is no checksum, and no count of rows: where the job lists its rows, an entry is believed only while its row is
there; what else others did to rows is found when everything is compared, in every so-manieth run.
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, or_, select
from sqlalchemy.orm import Session

from sync_defs.engine.ports import Run, StageHandle
from sync_defs.job import SyncJob
from sync_defs.policies import MissingAction
from sync_defs.store.callback_calls import in_chunks
from sync_defs.store.database import Database
from sync_defs.store.dialects import SqlDialect
from sync_defs.store.fingerprint import RecordFingerprinter, callbacks_digest, key_hash
from sync_defs.store.known import DIGEST_VERSION, JobState, KnownByPrint, StageMissing
from sync_defs.store.mapping import RecordShaper
from sync_defs.store.staging import MISSING
from sync_defs.store.state import State, load_state, save_parts, unknown
from sync_defs.store.state_header import forget, load_header, save_header


class CallbackState(JobState):
    """A callback job's state: an entry for each row that a record stood for."""

    def __init__(
        self,
        connection: Connection,
        dialect: SqlDialect,
        stage: Table,
        job: "SyncJob[Any, Any]",
        *,
        present: NDArray[np.uint64] | None = None,
    ) -> None:
        """See `JobState`; `present` has the hashes of the ids whose rows are there, None where that is not known."""
        super().__init__(connection, dialect, job, stage, digest=callbacks_digest(job, DIGEST_VERSION))
        self._present = present

    def _fitting(self, state: State) -> State | None:
        if self._present is None:
            return state
        return State(state.entries[np.isin(state.keys, self._present)])


class KnownCallbackRows(KnownByPrint):
    """The filter of a callback job."""

    def __init__(
        self, database: Database, stage: Table, job: "SyncJob[Any, Any]", *, is_full: bool, stage_missing: StageMissing
    ) -> None:
        """Load what is known, unless everything is to be compared."""
        self._database = database
        self._stage_missing = stage_missing
        self._stage = stage
        self._job = job
        self._present: NDArray[np.uint64] | None = None
        self._listed = 0
        state = None
        if not is_full:
            if job.lists_rows:
                with _local_ids(database, job) as ids:
                    hashes = np.fromiter(map(key_hash, ids), np.uint64)
                self._present, self._listed = np.unique(hashes), len(hashes)
            with database.read() as connection:
                held = CallbackState(connection, database.dialect, stage, job, present=self._present)
                state = held.load(None)
        shaper = RecordShaper(job, database)
        super().__init__(job, state, RecordFingerprinter(job, shaper).page, shaper.revive)

    def find_missing(self) -> int | None:
        """See `KnownRecords`."""
        if not self.is_sifted:
            return None
        if self._present is None or self._job.missing_policy.action is MissingAction.KEEP:
            return 0
        self.row_count = self._listed
        fetched = self._fetched()
        if np.all(np.isin(self._present, fetched)):
            return 0
        there = set(fetched.tolist())
        with _local_ids(self._database, self._job) as ids:
            found = [(None, external_id) for external_id in ids if key_hash(external_id) not in there]
        self._stage_missing(found)
        return len(found)


def doubt(
    connection: Connection, database: Database, stage: Table, job: "SyncJob[Any, Any]", run: Run, handle: StageHandle
) -> None:
    """No longer know what a run is about to write; in the transaction of the first rows that it writes.

    Each chunk is a transaction, and the last one alone brings the state in line again: a killed run leaves rows that
    are not known.
    """
    header = load_header(connection, job.name)
    if header is None:
        return
    state = load_state(connection, database.dialect, job.name, header) if handle.is_sifted else None
    if state is None:
        forget(connection, job.name)
        return
    pending = select(stage.c.external_id).where(or_(stage.c.action.is_(None), stage.c.action == MISSING))
    ids = list(connection.execute(pending).scalars())
    keys = np.unique(np.fromiter(map(key_hash, ids), np.uint64, len(ids)))
    doubted = state.changed(unknown(keys[state.find(keys)[1]]), unknown([])["key"])
    if len(keys):
        parts = save_parts(connection, job.name, doubted, state)
        save_header(connection, job.name, replace(header, parts=parts, entries=len(doubted)), run.started_at)


def remember(
    connection: Connection, dialect: SqlDialect, stage: Table, job: "SyncJob[Any, Any]", run: Run, handle: StageHandle
) -> None:
    """Keep what a run has brought in step, in its last transaction, so that the next one knows it."""
    CallbackState(connection, dialect, stage, job).save(run, handle, None, run.started_at)


@contextmanager
def _local_ids(database: Database, job: "SyncJob[Any, Any]") -> Generator[Iterable[str]]:
    """Give the ids of all rows, in a session of their own that is rolled back."""
    with database.read() as connection, Session(bind=connection) as session:
        yield (external_id for ids in in_chunks(job.local_external_ids(session)) for external_id in ids)
