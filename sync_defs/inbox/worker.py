"""The process that applies messages at once, as long as a sensor asks it to: `python -m sync_defs.inbox.worker`.

Lines of JSON come in: first what to work on, then orders to go on for some seconds. It answers each with a line. It
applies a small batch of each job in turn, by the same drain as a run. The job's own code has `APPLY_S` for a batch;
whatever hangs longer ends the process from a thread of the interpreter's own, which no Python code can hold up. All
items of the batch then count a death, and are tried again with ever fewer others.

A run has the messages of its guests applied by the same worker, in its own process and without that limit.
"""

import faulthandler
import json
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TextIO

from sync_defs.inbox.drain import DrainOptions, drain_batch
from sync_defs.inbox.inbox import Inbox
from sync_defs.inbox.places import job_at
from sync_defs.job import Job
from sync_defs.store.database import Database
from sync_defs.store.store import SqlStore

logger = logging.getLogger("sync_defs.inbox")

APPLY_S: Final = 15.0
BATCH: Final = 50
LOOK_S: Final = 0.02
_WATCH_ANEW_S: Final = 1.0
"""How old a limit may be when the job's code is called again; each takes a thread to be set."""
PAUSE_S: Final = 60.0
"""How long a job is left alone after trouble that is not one item's; meanwhile a run tells of it in Dagster."""
LEAVE_S: Final = 10.0
"""How long a transaction may still take once nobody is there to give orders."""


class Worker:
    """Applies what is due for the jobs that it is told to work on, in turn."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        database: Database,
        *,
        run_id: str | None = None,
        apply_s: float | None = APPLY_S,
    ) -> None:
        """Work on a database whose tables are ready.

        Args:
            jobs: by name.
            database: of the inbox and the targets.
            run_id: what the ids of its transactions in `sync_runs` begin with; default: a new id.
            apply_s: how long a batch may take before the process ends; None: as long as it takes.
        """
        self._jobs = jobs
        self._store = SqlStore(database)
        self._inbox = Inbox(database)
        self._apply_s = apply_s
        self._work_until: dict[str, float] = {}
        self._pause_until: dict[str, float] = {}
        self._changed = threading.Event()
        self._is_over = False
        self._run_id = run_id or f"inline-{uuid.uuid4().hex}"
        self._drains = 0
        self._watched_from = -_WATCH_ANEW_S
        self._options = DrainOptions(batch=BATCH, watch=self._watch)

    def order(self, names: list[str], seconds: float) -> None:
        """Work on jobs from now on for so long; called from another thread."""
        until = time.monotonic() + seconds
        self._work_until.update(dict.fromkeys(names, until))
        self._changed.set()

    def end(self) -> None:
        """Return from `run` after the transaction at hand; called from another thread."""
        self._is_over = True
        self._changed.set()

    def run(self) -> None:
        """Work until the end is told; sleep while there is no order."""
        while not self._is_over:
            names = self._ordered()
            if not names:
                self._changed.wait()
                self._changed.clear()
            elif not self.work(names):
                time.sleep(LOOK_S)

    def work(self, names: list[str]) -> bool:
        """Apply one batch of each of the jobs that have due messages; return False if none has."""
        try:
            due = [name for name in self._inbox.due_jobs() if name in names]
        except Exception as error:  # noqa: BLE001 - the database is away; an order later it may be there
            logger.warning("%s: cannot look for messages: %s", self._run_id, type(error).__name__)
            time.sleep(1.0)
            return False
        for name in due:
            self.apply(name)
        return bool(due)

    def apply(self, name: str) -> None:
        """Apply one batch of a job."""
        self._drains += 1
        run_id = f"{self._run_id}.{self._drains}"
        try:
            drain_batch(self._jobs[name], self._store, self._inbox, run_id=run_id, options=self._options)
        except Exception as error:  # noqa: BLE001 - one job's trouble must not stop the others
            logger.warning("%s: job %s: %s; a run will take over", self._run_id, name, type(error).__name__)
            self._pause_until[name] = time.monotonic() + PAUSE_S

    def is_paused(self, name: str) -> bool:
        """Tell whether a job is left alone for a while, since there was trouble that is not one item's."""
        return self._pause_until.get(name, 0.0) > time.monotonic()

    def _ordered(self) -> list[str]:
        now = time.monotonic()
        return [name for name, until in list(self._work_until.items()) if until > now and not self.is_paused(name)]

    def _watch(self, is_at_risk: bool) -> None:
        if self._apply_s is None:
            return
        if not is_at_risk:
            faulthandler.cancel_dump_traceback_later()
            self._watched_from = -_WATCH_ANEW_S
        elif time.monotonic() - self._watched_from >= _WATCH_ANEW_S:
            faulthandler.dump_traceback_later(self._apply_s, exit=True)
            self._watched_from = time.monotonic()


def main() -> None:
    """Follow the orders on the standard input until it ends."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    answers = _private_output()
    plan: dict[str, Any] = json.loads(sys.stdin.readline())
    sys.path[:] = plan["path"]
    jobs = {name: job_at(place) for name, place in plan["jobs"].items()}
    with Database(plan["database_url"]) as database:
        database.ensure_ready()
        worker = Worker(jobs, database, apply_s=plan["apply_s"])
        threading.Thread(target=_follow, args=(worker, answers), daemon=True).start()
        _say(answers, {"ready": True})
        worker.run()


def _follow(worker: Worker, answers: TextIO) -> None:
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        worker.order(order["jobs"], order["work_s"])
        _say(answers, {"seen": order["number"]})
    worker.end()
    time.sleep(LEAVE_S)
    os._exit(0)


def _say(answers: TextIO, answer: Mapping[str, object]) -> None:
    with suppress(OSError):  # nobody listens any more: the input ends too
        print(json.dumps(answer), file=answers, flush=True)


def _private_output() -> TextIO:
    """Keep the standard output for answers, and let whatever the jobs print go to the standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main()
