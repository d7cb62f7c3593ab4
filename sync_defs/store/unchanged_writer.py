"""The writer of a run that has no stage: all that the source has was known, and no row is missing."""

from collections.abc import Callable
from typing import cast

from sqlalchemy import Connection, Table

from sync_defs.engine.ports import ChangeCounts, Run, StageHandle, Writer
from sync_defs.job import Job, TableSync, is_callback_job
from sync_defs.results import SyncResults
from sync_defs.store.database import Database
from sync_defs.store.mapping import TableMapping
from sync_defs.store.runs import finish_run
from sync_defs.store.statements import TableStatements


class UnchangedWriter(Writer):
    """Leaves the target alone and writes the run's account."""

    def __init__(
        self, connection: Connection, stage: Table, job: Job, database: Database, run: Run, handle: StageHandle
    ) -> None:
        """Work inside the connection's transaction; `stage` is not in the database."""
        self._connection = connection
        self._stage = stage
        self._job = job
        self._database = database
        self._run = run
        self._handle = handle

    def judge_missing(self, allow: Callable[[int, int], str | None]) -> None:
        """See `Writer`; rows that are missing are kept, or there would be a stage."""

    def sample(self, limit: int) -> None:
        """See `Writer`."""

    def write(self, progress: Callable[[int], None], judge: Callable[[], None] | None = None) -> None:
        """See `Writer`."""
        progress(0)

    def settle(self) -> ChangeCounts:
        """See `Writer`."""
        return ChangeCounts(missing=self._handle.missing or 0, row_count=self._handle.row_count)

    def finish(self, results: SyncResults, cursor_after: str | None) -> None:
        """See `Writer`."""
        if not self._run.dry_run:
            self._remember()
        finish_run(self._connection, results, cursor_after)

    def _remember(self) -> None:
        """Keep what the next run may know by: what messages wrote meanwhile is no longer known as it was."""
        from sync_defs.store import known, known_callbacks  # numpy: not for what only takes in messages

        run, handle, database = self._run, self._handle, self._database
        if is_callback_job(self._job):
            known_callbacks.remember(self._connection, database.dialect, self._stage, self._job, run, handle)
        else:
            statements = TableStatements(
                TableMapping(cast("TableSync", self._job), database), self._stage, database, run
            )
            known.remember(self._connection, statements, run, handle, 0)
