"""What the processes of a storm do: receive, drain, apply at once, sync in full."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sync_defs.engine import RunRequest, run_sync
from sync_defs.errors import BusyError, DatabaseNotReadyError, LeaseLostError
from sync_defs.inbox import Claimed, DrainOptions, Inbox, drain, read_message
from sync_defs.inbox.attendance import Attendance
from sync_defs.inbox.worker import Worker
from sync_defs.job import Job
from sync_defs.receiver import create_app
from sync_defs.receiver.server import server_config
from sync_defs.store.database import Database
from sync_defs.store.store import SqlStore
from tests.faults.messages import Message, call
from tests.faults.points import Points, kill_at, unarmed
from tests.faults.shop import APPLIED, FOUNDERS, JOBS, SECRET, Cards, FastClock, Source

logger = logging.getLogger("storm")

OPTIONS = DrainOptions(linger_s=0.0, max_s=60.0, batch=50)


WARM: dict[str, tuple[Database, SqlStore]] = {}
"""Databases by URL that know their statements, without a connection: most of a short life goes into compiling them."""


def warm_up(url: str, source: str) -> None:
    """Import what the roles import late, and do once what they do, so that each fork knows it."""
    import uvicorn.loops.asyncio
    import uvicorn.protocols.http.httptools_impl  # noqa: F401

    database = Database(url)
    store, inbox = SqlStore(database), Inbox(database)
    stage = Stage(database=database, store=store, source=Source(Path(source)), points=Points(unarmed))
    for name, job in JOBS.items():
        message = Message(name, f"warm-{name}", ((FOUNDERS[name], 1),))
        read = read_message(job, message_id=message.message_id, body=message.body, now=database.now())
        inbox.enqueue(read)
        sync(job, stage)
    drain_due(stage, run_id="warm")
    database.close()
    WARM[url] = database, store


def note_what_is_applied() -> None:
    """Write down, in the transaction of each acknowledgement, of which message it was."""
    acknowledge = Inbox.acknowledge

    def noting(self: Inbox, connection: Connection, claimed: Claimed) -> bool:
        is_held = acknowledge(self, connection, claimed)
        if is_held:
            row = {"job": claimed.job, "item_key": claimed.item_key, "message_id": claimed.message_id}
            connection.execute(insert(APPLIED).values(row))
        return is_held

    Inbox.acknowledge = noting


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a role plays on."""

    database: Database
    store: SqlStore
    source: Source
    points: Points


def set_up(
    url: str, source: str, clock: Mapping[str, float], kill: Sequence[Any] = (), record: str | None = None
) -> Stage:
    """Open the database, and bind the points of this process: to its death, to a record of them, or to nothing."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(process)d %(name)s: %(message)s")
    database, store = WARM[url]
    database.clock = FastClock(**clock)
    if record is not None:
        written = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        points = Points(lambda name: os.write(written, f"{name}\n".encode()))
    else:
        points = Points(kill_at(*kill) if kill else unarmed)
    points.bind(database)
    note_what_is_applied()
    return Stage(database=database, store=store, source=Source(Path(source)), points=points)


def receive(port: int, **given: Any) -> None:
    """Receive webhooks, as `sync-defs serve` does."""
    import uvicorn

    stage = set_up(**given)
    app = create_app(jobs=JOBS, database=stage.database, secrets=lambda _: [SECRET])
    uvicorn.Server(server_config(stage.points.answering(app), "127.0.0.1", port)).run()


def drain_all(**given: Any) -> None:
    """Drain all jobs for ever, as runs of the inbox jobs do one after another."""
    stage = set_up(**given)
    _for_ever(0.02, lambda: drain_due(stage, run_id=f"{os.getpid()}.{time.time_ns()}"))


def drain_due(stage: Stage, *, run_id: str) -> None:
    """Drain the jobs that have something due, as a run of each one's inbox job does."""
    inbox = Inbox(stage.database)
    for name in inbox.due_jobs():
        token = f"{name}.{run_id}"
        with stage.points.step("drain"), Attendance(stage.database, name, token=token):
            drain(JOBS[name], stage.store, inbox, run_id=token, options=OPTIONS, resources={"source": stage.source})


def drain_once(poison: str, **given: Any) -> None:
    """Drain what is due, once; the callback of a job kills the process over one item."""
    stage = set_up(**given)
    create = Cards.create

    def create_or_die(self: Cards, session: Session, record: dict[str, Any]) -> None:
        if record["sku"] == poison:
            os.kill(os.getpid(), signal.SIGKILL)
        create(self, session, record)

    Cards.create = create_or_die
    drain_due(stage, run_id=f"{os.getpid()}-once")


def apply_at_once(**given: Any) -> None:
    """Apply messages for ever, as the process behind `delivery="inline"` does."""
    stage = set_up(**given)
    jobs = {name: job for name, job in JOBS.items() if not job.refetch}
    worker = Worker(jobs, stage.database)
    _for_ever(0.02, lambda: worker.work(list(jobs)))


def sync_all(**given: Any) -> None:
    """Sync all jobs, for ever: the one time what is news, the other time in full."""
    stage = set_up(**given)
    fulls = cycle((True, False))

    def once() -> None:
        full = next(fulls)
        for job in JOBS.values():
            sync(job, stage, full=full, wait_s=5)

    _for_ever(0.2, once)


def sync(job: Job, stage: Stage, *, full: bool = True, wait_s: float = 0.0) -> None:
    """Fetch all of a job's items, and compare all of them or those alone that the last run did not know."""
    run_sync(job, stage.store, RunRequest(full=full, wait_s=wait_s), resources={"source": stage.source})


def _for_ever(pause_s: float, once: Callable[[], object]) -> None:
    """Do something again and again; what another process or the database causes ends one time of it."""
    while True:
        try:
            once()
        except (BusyError, LeaseLostError, DatabaseNotReadyError, DBAPIError) as error:
            kind = type(error.orig if isinstance(error, DBAPIError) else error).__name__
            logger.warning("%s: %s", kind, error)
        time.sleep(pause_s)


def a_day(job: str, day: list[dict[str, Any]], acknowledged: str, **given: Any) -> None:
    """Do all that there is to do for a job, once: receive, drain, receive the last message, sync in full, drain, sync.

    Ids of what was answered 202 are written to a file, as a sender would know them.
    """
    stage = set_up(**given)
    app = create_app(jobs=JOBS, database=stage.database, secrets=lambda _: [SECRET])
    answering = stage.points.answering(app)
    *messages, last = [Message(told["job"], told["message_id"], tuple(map(tuple, told["items"]))) for told in day]
    known = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def receive_all(chosen: list[Message]) -> None:
        for message in chosen:
            if asyncio.run(call(answering, message)) == 202:
                os.write(known, f"{message.message_id}\n".encode())

    receive_all(messages)
    drain_due(stage, run_id=f"{os.getpid()}-1")
    receive_all([last])
    sync(JOBS[job], stage)
    drain_due(stage, run_id=f"{os.getpid()}-2")
    sync(JOBS[job], stage, full=False)


ROLES: dict[str, Callable[..., None]] = {
    "a day": a_day,
    "receive": receive,
    "drain": drain_all,
    "drain once": drain_once,
    "inline": apply_at_once,
    "sync": sync_all,
}
