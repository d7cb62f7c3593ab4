"""Measures the way of a message from the request to the changed row: `python -m benchmarks.latency --help`.

A real Dagster daemon with the repository's `dagster.yaml` runs the sensors; messages go through the receiver's app. A
reader of its own looks for the rows every 5 ms, so that a latency is what somebody else would see. With `--queue`, so
many messages wait already when the daemon starts, and the runs are counted that it takes to apply them.
"""

import argparse
import asyncio
import importlib
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from benchmarks.databases import UnavailableError, open_place
from benchmarks.messages import JOBS, arrangement
from benchmarks.results import FOLDER, Results, surroundings
from sync_defs import Database
from sync_defs.inbox import Inbox, Message, MessageItem
from sync_defs.orchestration.inbox_job import Pace
from sync_defs.receiver import create_app
from sync_defs.store.schema import runs

ROOT = Path(__file__).parents[1]
PATIENCE_S = 180.0
QUEUE_PATIENCE_S = 3_600.0
ENQUEUED_AT_ONCE = 1_000
MODULE = """
import os
from sqlalchemy import Column, Integer, MetaData, String, Table
from sync_defs import TableSync
from sync_defs.orchestration import build_sync_definitions

table = Table("arrivals", MetaData(), Column("id", String(40), primary_key=True), Column("n", Integer, index=True))

def nothing():
    return []

for number in range(int(os.environ["LATENCY_JOBS"])):
    globals()[f"job_{number}"] = TableSync(
        nothing, name=f"job_{number}", target=table, key="id", fields={"n": "n"}, create_table=True,
        delivery=os.environ["LATENCY_DELIVERY"],
    )
jobs = {name: job for name, job in globals().items() if isinstance(job, TableSync)}
defs = build_sync_definitions(jobs, database_url=os.environ["LATENCY_URL"])
"""


class Arrivals:
    """Notes when each numbered row is seen first."""

    def __init__(self, url: str) -> None:
        self.seen: dict[int, float] = {}
        self._url = url
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        table = sa.table("arrivals", sa.column("n"))
        with Database(self._url) as database:
            last = -1
            while not self._is_over.wait(0.005):
                with suppress(DBAPIError), database.read() as connection:
                    # Newer numbers may commit before older ones: look a while back.
                    found = connection.execute(sa.select(table.c.n).where(table.c.n > last - 2_000)).scalars()
                    now = time.perf_counter()
                    for number in found:
                        self.seen.setdefault(number, now)
                        last = max(last, number)

    def wait(self, numbers: range) -> None:
        """Wait until all are seen."""
        give_up = time.monotonic() + PATIENCE_S
        while not self.seen.keys() >= set(numbers):
            if time.monotonic() > give_up:
                raise TimeoutError(f"{len(set(numbers) - self.seen.keys())} rows did not arrive")
            time.sleep(0.01)

    def close(self) -> None:
        """Stop looking."""
        self._is_over.set()
        self._thread.join()


@contextmanager
def daemon(folder: Path, url: str, *, jobs: int, delivery: str) -> Iterator[dict[str, Any]]:
    """Run a daemon in a process group of its own, and give the jobs that it serves."""
    (folder / "latency_jobs.py").write_text(MODULE, encoding="utf-8")
    shutil.copy(ROOT / "dagster.yaml", folder)
    settings = {"LATENCY_JOBS": str(jobs), "LATENCY_DELIVERY": delivery, "LATENCY_URL": url}
    path = f"{folder}{os.pathsep}{ROOT}"
    environment = os.environ | settings | {"DAGSTER_HOME": str(folder), "PYTHONPATH": path}
    command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-m", "latency_jobs"]
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    os.environ.update(settings)
    sys.modules.pop("latency_jobs", None)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("latency_jobs").jobs
    finally:
        sys.path.remove(str(folder))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def send(app: Any, jobs: list[str], numbers: range, *, per_second: float) -> dict[int, float]:
    """Send one message for each number, in turn to each job, at a steady pace; return when each was sent."""
    sent: dict[int, float] = {}

    async def one(client: httpx.AsyncClient, number: int) -> None:
        sent[number] = time.perf_counter()
        body = {"id": f"item-{number}", "n": number}
        answer = await client.post(f"/webhooks/{jobs[number % len(jobs)]}", json=body)
        answer.raise_for_status()

    transport = httpx.ASGITransport(app=app)
    client = httpx.AsyncClient(transport=transport, base_url="http://receiver")
    async with client, asyncio.TaskGroup() as group:
        start = time.perf_counter()
        for place, number in enumerate(numbers):
            await asyncio.sleep(max(0.0, start + place / per_second - time.perf_counter()))
            group.create_task(one(client, number))
    return sent


def measure(folder: Path, url: str, options: argparse.Namespace, *, jobs: int, delivery: str) -> dict[str, Any]:
    """Return the figures of one arrangement, in milliseconds."""
    with Database(url) as database, daemon(folder, url, jobs=jobs, delivery=delivery) as known:
        database.upgrade()
        app = create_app(jobs=known, database=database, secrets=lambda _: [], insecure=True)
        arrivals = Arrivals(url)
        names = list(known)
        try:
            # What starts the daemon, the code and all else is told apart.
            first = _latencies(app, names, range(1), arrivals, per_second=50)
            cold: list[float] = []
            for place in range(1, 1 + (options.cold if delivery == "run" else 0)):
                _wait_for_idle(database)
                cold += _latencies(app, names[:1], range(place, place + 1), arrivals, per_second=50)
            begin = 1_000
            steady = _latencies(app, names, range(begin, begin + options.messages), arrivals, per_second=50)
            return {
                "start_ms": round(first[0]),
                "cold_median_ms": round(statistics.median(cold)) if cold else None,
                "median_ms": round(statistics.median(steady)),
                "p99_ms": round(sorted(steady)[int(len(steady) * 0.99)]),
                "max_ms": round(max(steady)),
                "runs_started": _runs_started(folder, names),
                "transactions": _transactions(database),
            }
        finally:
            arrivals.close()


def measure_queue(folder: Path, url: str, messages: int, *, jobs: int, delivery: str) -> dict[str, Any]:
    """Return how many runs it took to apply messages that had come before the daemon was started.

    A run stays for 15 minutes at most, so every job needs one for each quarter of an hour that it has messages.
    """
    with Database(url) as database:
        database.upgrade()
        inbox, names = Inbox(database), [f"job_{number}" for number in range(jobs)]
        for start in range(0, messages, ENQUEUED_AT_ONCE):
            inbox.enqueue_all([_message(names, n) for n in range(start, min(start + ENQUEUED_AT_ONCE, messages))])
        with daemon(folder, url, jobs=jobs, delivery=delivery):
            begun_at = time.monotonic()
            while inbox.depth():
                if time.monotonic() - begun_at > QUEUE_PATIENCE_S:
                    raise TimeoutError(f"the queue was not empty after {QUEUE_PATIENCE_S:.0f} s")
                time.sleep(0.5)
            took_s = time.monotonic() - begun_at
            _wait_for_idle(database)  # a bell that rings for nothing would ring meanwhile
            started = _runs_started(folder, names)
        _check_rows(database, messages)
        return {
            "took_s": round(took_s),
            "runs_started": started,
            "drains_needed": min(jobs, messages) * (1 + int(took_s // Pace().stay_s)),
            "transactions": _transactions(database),
        }


def _message(names: list[str], number: int) -> Message:
    payload = json.dumps({"id": f"item-{number}", "n": number}).encode()
    item = MessageItem(external_id=f"item-{number}", payload=payload)
    return Message(job=names[number % len(names)], message_id=f"m{number}", items=(item,))


def _check_rows(database: Database, expected: int) -> None:
    with database.read() as connection:
        found = connection.execute(sa.select(sa.func.count()).select_from(sa.table("arrivals"))).scalar_one()
    assert found == expected, f"{found} rows of {expected}"


def _latencies(app: Any, jobs: list[str], numbers: range, arrivals: Arrivals, *, per_second: float) -> list[float]:
    sent = asyncio.run(send(app, jobs, numbers, per_second=per_second))
    arrivals.wait(numbers)
    return [(arrivals.seen[number] - at) * 1_000 for number, at in sent.items()]


def _wait_for_idle(database: Database) -> None:
    """Wait until no drain lingers any more, and the bell may ring again."""
    leases = sa.table("sync_leases", sa.column("name"), sa.column("token"), schema=database.dialect.schema)
    at_work = sa.select(leases.c.name).where(leases.c.name.startswith("drain:"), leases.c.token.is_not(None))
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        with database.read() as connection:
            if connection.execute(at_work).first() is None:
                return
        time.sleep(0.5)
    raise TimeoutError("a drain did not end")


def _runs_started(folder: Path, names: list[str]) -> int:
    import dagster as dg

    with dg.DagsterInstance.from_config(str(folder)) as instance:
        return sum(instance.get_runs_count(dg.RunsFilter(job_name=f"{name}_inbox")) for name in names)


def _transactions(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(runs)).scalar_one()


def main(arguments: list[str] | None = None) -> None:
    """Measure every arrangement that is asked for, print a line of JSON for each, and keep its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--database", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"])
    parser.add_argument("--delivery", nargs="+", choices=["inline", "run"], default=["inline", "run"])
    parser.add_argument("--jobs", nargs="+", type=int, default=list(JOBS))
    parser.add_argument("--messages", type=int, default=1_000, help="at 50 a second; default: 1000")
    parser.add_argument("--cold", type=int, default=3, help="single messages to a drain that has to start; default: 3")
    parser.add_argument("--queue", nargs="+", type=int, default=[], help="count runs for so many waiting messages")
    parser.add_argument("--repeat", type=int, default=1, help="rounds, of which the medians are taken; default: 1")
    parser.add_argument("--json", type=Path, default=FOLDER, help="folder for the results; default: benchmarks/results")
    options = parser.parse_args(arguments)
    kept = options.json.resolve()
    for kind, jobs, delivery in itertools.product(options.database, options.jobs, options.delivery):
        for queued in options.queue or [None]:
            try:
                version, figures = _measure_all(kind, options, queued, jobs=jobs, delivery=delivery)
            except UnavailableError as error:
                print(f"skipped: {error}", flush=True)
                break
            name = arrangement(kind, jobs, delivery, queued)
            settings = surroundings(version) | {"repeat": options.repeat, "messages": options.messages}
            group = "latency" if queued is None else "queue"
            Results(kept).keep_messages(group, name, figures | {"settings": settings})
            print(json.dumps({"arrangement": name} | figures), flush=True)


def _measure_all(
    kind: str, options: argparse.Namespace, queued: int | None, *, jobs: int, delivery: str
) -> tuple[str, dict[str, Any]]:
    """Return what the database is, and the medians of the rounds, each with a daemon and a database of its own."""
    rounds: list[dict[str, Any]] = []
    version = kind
    for _ in range(options.repeat):
        with tempfile.TemporaryDirectory(prefix="sync_latency_") as directory:
            folder = Path(directory)
            place = open_place(kind, folder / "databases")
            version = place.version()
            os.chdir(folder)  # dagster.yaml names folders from where one stands
            try:
                if queued is None:
                    rounds.append(measure(folder, place.create(), options, jobs=jobs, delivery=delivery))
                else:
                    rounds.append(measure_queue(folder, place.create(), queued, jobs=jobs, delivery=delivery))
            except TimeoutError as error:
                return version, {"failed": str(error)}
            finally:
                os.chdir(ROOT)
                place.close()
    return version, {name: _median([each[name] for each in rounds]) for name in rounds[0]}


def _median(values: list[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return statistics.median(numbers) if numbers else None


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
