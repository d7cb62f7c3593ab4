"""The writer of a run that has no stage: all that the source has was known, and no row is missing."""

from collections.abc import Callable

from sqlalchemy import Connection

from sync_defs.engine.ports import ChangeCounts, Run, StageHandle, Writer
from sync_defs.results import SyncResults
from sync_defs.store.runs import finish_run


class UnchangedWriter(Writer):
    """Leaves the target alone and writes the run's account."""

    def __init__(self, connection: Connection, run: Run, handle: StageHandle, remember: Callable[[], None]) -> None:
        """Work inside the connection's transaction; `remember` keeps what the next run may know by."""
        self._connection = connection
        self._run = run
        self._handle = handle
        self._remember = remember

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
        finish_run(self._connection, self._run, results, cursor_after)
