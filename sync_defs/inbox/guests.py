"""Guests: jobs whose messages find no place for a run of their own, and are applied by one that stays.

A deployment lets a few runs go on at a time, and starting one takes seconds. With messages for twenty jobs at once,
each would wait until the runs of others have ended; so a run takes in the jobs of which messages have waited, and
applies theirs beside its own until it ends. The sensor tells Dagster of what is done for them, as of all that no run
has told of.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, Self

from sync_defs.inbox.attendance import Attendance
from sync_defs.inbox.inbox import Inbox
from sync_defs.inbox.worker import Worker
from sync_defs.job import Job
from sync_defs.store.database import Database

WAITED_S: Final = 5.0
"""How long a message has waited when its job is taken in: longer than a run takes to start where there is a place."""
LOOK_EVERY_S: Final = 1.0
STUCK_S: Final = 60.0
"""After so long in one round of the guests, host and guests are attended to no longer, and others may take over."""


class Guests:
    """The jobs that one run has taken in, the host's own attendance included; used as a block."""

    def __init__(
        self,
        host: Job,
        others: Sequence[Job],
        database: Database,
        *,
        run_id: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take in nobody yet.

        Args:
            host: whose run it is.
            others: who may come; one that asks its source by resources needs a run of its own.
            database: of the inbox and the targets.
            run_id: of the run, at most 50 characters.
            monotonic: the clock.
        """
        jobs = {job.name: job for job in others if not (job.refetch and job.items_resource_names)}
        self._needy = {job.name for job in others} - jobs.keys()
        self._welcome = set(jobs)
        self._here: list[str] = []
        self._inbox = Inbox(database)
        self._worker = Worker(jobs, database, run_id=f"{run_id}.guests", apply_s=None)
        self._attendance = Attendance(database, host.name, token=run_id, is_stuck=self._is_stuck)
        self._monotonic = monotonic
        self._looked_at = monotonic()
        self._busy_since: float | None = None
        self._exit = ExitStack()
        self.must_leave = False
        """Messages wait that need a run of their own, and this one takes the place."""

    def __enter__(self) -> Self:
        """Attend to the host."""
        self._exit.enter_context(self._attendance)
        return self

    def __exit__(self, *exc: object) -> None:
        """Attend to nobody any longer; whoever has messages left gets a run."""
        self._exit.close()

    def serve(self) -> bool:
        """Take in whom messages wait for, and apply a batch for each guest; return False if nothing was due."""
        self._busy_since = self._monotonic()
        try:
            if self._busy_since - self._looked_at >= LOOK_EVERY_S:
                self._looked_at = self._busy_since
                self._take_in()
            was_busy = bool(self._here) and self._worker.work(self._here)
        finally:
            self._busy_since = None
        for name in [name for name in self._here if self._worker.is_paused(name)]:
            self._here.remove(name)
            self._welcome.discard(name)
            self._needy.add(name)
            self._attendance.quit(name)
        return was_busy

    def _take_in(self) -> None:
        for name in self._inbox.unattended_jobs(waiting_s=WAITED_S):
            if name in self._needy:
                self.must_leave = True
            elif name in self._welcome and name not in self._here:
                self._attendance.attend(name)
                self._here.append(name)

    def _is_stuck(self) -> bool:
        since = self._busy_since
        return since is not None and self._monotonic() - since > STUCK_S
