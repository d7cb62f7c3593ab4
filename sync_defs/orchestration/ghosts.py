"""Ghosts: runs that Dagster holds to be at work though their process is gone, as after a power cut.

Dagster's own launcher does not look after the processes that it starts. Every op of ours shows a sign of life instead,
the lease `run:<run id>`. Who is not seen for a while and, where he was on this machine, is no process any more, is
reported as failed: the run then takes no place in a pool or in the queue from others.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError

from sync_defs.job import Job
from sync_defs.orchestration.names import DEFAULT_NAMES, Names
from sync_defs.store import Database
from sync_defs.store.presence import keep_presence, present
from sync_defs.store.schema import leases

LOOK_EVERY_S: Final = 30.0
LOOK_AGAIN_S: Final = 10.0
UNSEEN_S: Final = 60.0
"""After the end of the last sign: ops in processes of their own are some seconds apart."""
NEVER_SEEN_S: Final = 600.0
"""After the start of a run whose first op has not begun: to import the code and to open the resources takes a while."""
QUEUED_S: Final = 3600.0
"""For both, of runs whose ops wait for workers: such a run has no process that could show a sign meanwhile."""
FORGET: Final = timedelta(days=1)
MESSAGE: Final = (
    "The process of this run is gone: it shows no sign of life. What it had committed stays; the next run goes on."
)
_PREFIX: Final = "run:"
_ZOMBIE: Final = "Z"
_STARTED: Final = 19
"""Place of a process's start, in ticks since the boot, in `/proc/<pid>/stat` behind its name."""
_AT_WORK: Final = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def sign_of_life(database: Database, run_id: str) -> AbstractContextManager[None]:
    """Show during the block that a Dagster run is at work."""
    return present(database, _PREFIX + run_id, token=run_id, holder=_this_process(), fades=True)


def sign_of_waiting(database: Database, run_id: str, wait_s: float) -> None:
    """Show that a run waits for its next attempt; where the database is what is broken, it is left at the last sign."""
    with suppress(SQLAlchemyError, OSError):
        keep_presence(database, _PREFIX + run_id, token=run_id, for_s=wait_s)


class Ghosts:
    """Finds and reports the ghosts among the runs of the Dagster jobs that belong to sync jobs."""

    def __init__(
        self,
        jobs: Iterable[Job],
        names: Names = DEFAULT_NAMES,
        *,
        ops_are_queued: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look after the runs of these jobs: at once, and then every half minute.

        Args:
            jobs: the sync jobs.
            names: what their definitions are called.
            ops_are_queued: whether the ops of syncs wait for workers; the inbox jobs' never do.
            monotonic: a clock.
        """
        self._queued_s = QUEUED_S if ops_are_queued else 0.0
        all_names = [names.of(job.name) for job in jobs]
        self._job_names = {name for known in all_names for name in (known.job, known.inbox_job)}
        self._inbox_job_names = {known.inbox_job for known in all_names}
        self._assets = {known.asset for known in all_names}
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._look_at = monotonic()
        self._suspected = frozenset[str]()

    def report(self, context: dg.SensorEvaluationContext, database: Database) -> None:
        """Report ghosts as failed, if it is time to look: those that look like one twice, 10 s apart.

        A database that was away for long kept all of them from their signs; once it is back, they show them again.
        """
        with self._lock:
            if self._monotonic() < self._look_at:
                return
            self._look_at = self._monotonic() + LOOK_EVERY_S
            self._suspected = self._look(context, database, self._suspected)
            if self._suspected:
                self._look_at = self._monotonic() + LOOK_AGAIN_S

    def _look(
        self, context: dg.SensorEvaluationContext, database: Database, suspected: frozenset[str]
    ) -> frozenset[str]:
        """Report who was suspected before, and return who is for the first time."""
        instance = context.instance
        records = [
            record
            for record in instance.get_run_records(dg.RunsFilter(statuses=_AT_WORK))
            if self._is_ours(record.dagster_run, _location(context))
        ]
        by_id = {record.dagster_run.run_id: record for record in records}
        signs, now = _signs(database, by_id), database.now()
        ghosts = frozenset(
            run_id
            for run_id, record in by_id.items()
            if _is_ghost(record, signs.get(run_id), now, queued_s=self._queued_time(record))
        )
        for run_id in ghosts & suspected:
            run = instance.get_run_by_id(run_id)
            if run is not None and run.status in _AT_WORK:  # it may have ended in between
                instance.report_run_failed(run, MESSAGE)
        _forget(database)
        return ghosts - suspected

    def _queued_time(self, record: dg.RunRecord) -> float:
        return 0.0 if record.dagster_run.job_name in self._inbox_job_names else self._queued_s

    def _is_ours(self, run: dg.DagsterRun, location: str | None) -> bool:
        origin = run.remote_job_origin
        if location != (origin.location_name if origin is not None else None):
            return False
        # A click on Materialize runs a job of Dagster's own, also for assets of others, which show no sign.
        selection = run.asset_selection
        return run.job_name in self._job_names or (selection is not None and selection <= self._assets)


def _location(context: dg.SensorEvaluationContext) -> str | None:
    origin = context.code_location_origin
    return None if origin is None else origin.location_name


def _signs(database: Database, run_ids: Iterable[str]) -> Mapping[str, Any]:
    names = [_PREFIX + run_id for run_id in run_ids]
    if not names:
        return {}
    with database.read() as connection:
        rows = connection.execute(select(leases).where(leases.c.name.in_(names)))
        return {row.name.removeprefix(_PREFIX): row for row in rows}


def _is_ghost(record: dg.RunRecord, sign: Any, now: datetime, *, queued_s: float) -> bool:
    if sign is None:
        since = record.start_time if record.start_time is not None else record.update_timestamp.timestamp()
        return now.timestamp() - since > max(NEVER_SEEN_S, queued_s)
    return now - sign.expires_at > timedelta(seconds=max(UNSEEN_S, queued_s)) and not _is_here(sign.holder)


def _is_here(holder: str) -> bool:
    """Tell whether it is a process of this machine that still lives: a busy database may keep it from its sign."""
    host, _, process = holder.rpartition("/")
    pid, _, _ = process.partition("@")
    return host == _host() and _process(int(pid)) == process


def _this_process() -> str:
    return f"{_host()}/{_process(os.getpid())}"


def _host() -> str:
    return socket.gethostname()[:200]


def _process(pid: int) -> str | None:
    """Return a process's id and, on Linux, when it started, since ids are given out again; None: there is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if fields[0] == _ZOMBIE else f"{pid}@{fields[_STARTED]}"
    return f"{pid}@"


def _forget(database: Database) -> None:
    """Delete the signs of runs that ended long ago."""
    is_old = (leases.c.name.startswith(_PREFIX), leases.c.expires_at < database.now() - FORGET)
    with database.read() as connection:
        names = list(connection.execute(select(leases.c.name).where(*is_old).limit(1_000)).scalars())
    if names:
        with database.write() as connection:
            connection.execute(delete(leases).where(leases.c.name.in_(names)))
