"""Guests: jobs whose messages find no place for a run of their own, and are applied by one that stays.

A deployment lets a few runs go on at a time, and starting one takes seconds. With messages for twenty jobs at once,
each would wait until the runs of others have ended; so a run takes in the jobs that find no place, and applies their
messages beside its own until it ends. The sensor tells Dagster of what is done for them, as of all that no run
has told of.
"""

import logging
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, Self

from sqlalchemy.exc import DBAPIError

from sync_defs.inbox.attendance import Attendance
from sync_defs.inbox.inbox import Inbox
from sync_defs.inbox.worker import PAUSE_S, Worker
from sync_defs.job import Job
from sync_defs.store.database import Database

logger = logging.getLogger("sync_defs.inbox")

WAITED_S: Final = 5.0
"""How long a message has waited when its job is taken in: longer than a run takes to start where there is a place."""
LOOK_EVERY_S: Final = 1.0
TURN_S: Final = 1.0
"""How long guests wait for their turn while the host is busy."""
STUCK_S: Final = 60.0
"""After so long without a turn of the guests, nobody is attended to, the host neither, and others may take over."""


class Guests:
    """The jobs that one run has taken in, and its own job's attendance; used as a block."""

    def __init__(  # noqa: PLR0913 - what it asks of an orchestrator and of time, it is given
        self,
        host: Job,
        *,
        others: Sequence[Job] = (),
        database: Database,
        run_id: str,
        queued: Callable[[], Collection[str]] = tuple,
        is_one_for_all: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take in nobody yet.

        Args:
            host: whose run it is.
            others: who may come; one that asks its source by resources needs a run of its own.
            database: of the inbox and the targets.
            run_id: of the run, at most 50 characters.
            queued: returns the names of the jobs whose runs for messages find no place.
            is_one_for_all: whether one of them says so of all, since the runs of others are not made yet.
            monotonic: the clock.
        """
        jobs = {job.name: job for job in others if not (job.refetch and job.items_resource_names)}
        self._needy = {job.name for job in others} - jobs.keys()
        self._welcome_from = dict.fromkeys(jobs, monotonic())
        self._here: list[str] = []
        self._inbox = Inbox(database)
        self._worker = Worker(jobs, database, run_id=f"{run_id}.guests", apply_s=None)
        self._attendance = Attendance(database, host.name, token=run_id, is_stuck=self._is_stuck)
        self._queued = queued
        self._is_one_for_all = is_one_for_all
        self._monotonic = monotonic
        self._looked_at = self._served_at = monotonic()
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

    def are_waiting(self) -> bool:
        """Tell whether there are guests who have had no turn for a while."""
        return bool(self._here) and self._monotonic() - self._served_at >= TURN_S

    def serve_all(self) -> bool:
        """Give each guest a turn, and return False if none had anything due."""
        turns = [self.serve() for _ in range(max(len(self._here), 1))]
        return any(turns)

    def serve(self) -> bool:
        """Take in whom messages wait for, and apply a batch of the next guest that has one due; False: none has."""
        if self._monotonic() - self._looked_at >= LOOK_EVERY_S:
            with self._forgiving("look for others"):
                self._take_in()
            self._looked_at = self._monotonic()
        name = self._next()
        if name is not None:
            self._worker.apply(name)
        self._served_at = self._monotonic()
        if name is not None and self._worker.is_paused(name):
            self._here.remove(name)
            self._welcome_from[name] = self._monotonic() + PAUSE_S
            with self._forgiving("leave a guest"):
                self._attendance.quit(name)
        return name is not None

    def _next(self) -> str | None:
        """Return the guest with due messages whose last turn was the longest ago, and put him last."""
        due: set[str] = set()
        if self._here:
            with self._forgiving("look for messages"):
                due = set(self._inbox.due_jobs())
        found = next((name for name in self._here if name in due), None)
        if found is not None:
            self._here.remove(found)
            self._here.append(found)
        return found

    def _take_in(self) -> None:
        waiting = self._inbox.unattended_jobs(waiting_s=WAITED_S)
        queued = set(self._queued()) if waiting else set[str]()
        self.must_leave = self.must_leave or not queued.isdisjoint(self._needy.intersection(waiting))
        for name in waiting:
            is_welcome = self._welcome_from.get(name, float("inf")) <= self._monotonic() and name not in self._here
            if not is_welcome or not (queued if self._is_one_for_all else name in queued):
                continue
            if self._attendance.attend(name):
                self._here.append(name)
            else:
                # Else it would be this run's once the other has left, and nobody would serve it.
                self._attendance.quit(name)

    @contextmanager
    def _forgiving(self, what: str) -> Generator[None]:
        """Let the host go on where the database will not have it now: the next look may succeed."""
        try:
            yield
        except DBAPIError as error:
            logger.warning("guests: cannot %s: %s", what, type(error).__name__)

    def _is_stuck(self) -> bool:
        return bool(self._here) and self._monotonic() - self._served_at > STUCK_S
