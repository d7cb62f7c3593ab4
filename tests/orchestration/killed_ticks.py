"""Ticks of the inbox sensor in processes of their own, each killed at a later point than the one before.

Run as: killed_ticks.py URL FOLDER STEP. Prints how many were killed, and what of each was missed, as JSON.
"""

import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
from sqlalchemy import Column, Integer, MetaData, String, Table, select

from sync_defs import Database, table_sync
from sync_defs.inbox import DrainOptions, Inbox, drain, read_message
from sync_defs.orchestration import build_sync_definitions
from sync_defs.orchestration.doorbell import RING_S, Pulse, inbox_sensors
from sync_defs.orchestration.names import DATABASE_KEY
from sync_defs.store import SqlStore
from sync_defs.store.database import utc_now
from tests.faults.points import Points

STOCK = Table("stock", MetaData(), Column("sku", String(40), primary_key=True), Column("quantity", Integer))


@table_sync(target=STOCK, key="sku", fields={"quantity": "qty"}, create_table=True)
def stock():
    """Stock levels."""
    return []


class Daemon:
    """What a daemon does with a tick: it stores the events, submits the runs, and then stores the cursor."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.inbox = Inbox(database)
        self.instance = dg.DagsterInstance.ephemeral()
        self.defs = build_sync_definitions({"stock": stock}, database_url="sqlite://")
        [self.sensor] = inbox_sensors([stock], is_shared=False, pulse=Pulse(poll_s=0))

    def tick(self, points: Points | None = None) -> None:
        """Do all of a tick; `points` has its own between each two of these steps."""

        def reach(name: str) -> None:
            if points is not None:
                points.reach(name)

        cursor = self.folder / "cursor"
        resources = {DATABASE_KEY: self.database}
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=cursor.read_text() if cursor.exists() else None,
            resources=resources,
            definitions=self.defs,
        )
        result = self.sensor.evaluate_tick(context)
        reach("evaluated")
        for event in result.asset_events or ():
            if isinstance(event, dg.AssetMaterialization):
                self.append("told", str(event.metadata["sync_defs/created"].value))
            reach("told")
        for request in result.run_requests or ():
            self.append("rung", str(request.run_key))
            reach("rung")
        new = cursor.with_suffix(".new")
        new.write_text(result.cursor or "")
        new.replace(cursor)
        reach("stored")

    def append(self, name: str, line: str) -> None:
        """Write a line to what outlives this process."""
        with (self.folder / name).open("a") as file:
            file.write(f"{line}\n")

    def lines(self, name: str) -> list[str]:
        """Return what was written there."""
        file = self.folder / name
        return file.read_text().split() if file.exists() else []

    def send(self, sku: str) -> None:
        """Accept a message."""
        body = json.dumps({"sku": sku, "qty": 1}).encode()
        self.inbox.enqueue(read_message(stock, message_id=sku, body=body, now=self.database.now()))

    def apply(self, run_id: str) -> None:
        """Apply what is due, as a run does that is killed before it tells of it."""
        drain(stock, SqlStore(self.database), self.inbox, run_id=run_id, options=DrainOptions(linger_s=0.0))

    def rows(self) -> set[str]:
        """Return the items that are there."""
        with self.database.read() as connection:
            return set(connection.execute(select(STOCK.c.sku)).scalars())


def die_at(nth: int) -> Points:
    """Return points of which the n-th kills."""
    left = [nth]

    def reach(_: str) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    return Points(reach)


def main() -> None:
    """Kill a tick at each of its points; half a minute later another one makes good for it."""
    url, folder, step = sys.argv[1:]
    ahead = timedelta()
    missed: list[str] = []
    with Database(url, clock=lambda: utc_now() + ahead) as database:
        daemon = Daemon(database, Path(folder))
        nth, was_killed, kills = 1 - int(step), True, -1
        while was_killed:
            nth, kills = nth + int(step), kills + 1
            daemon.send(f"told-{nth}")
            daemon.apply(f"dead-{nth}")
            daemon.send(f"due-{nth}")
            told, rung = len(daemon.lines("told")), len(daemon.lines("rung"))
            database.close()
            pid = os.fork()
            if pid == 0:
                points = die_at(nth)
                points.bind(database)
                daemon.tick(points)
                os._exit(0)
            was_killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
            ahead += timedelta(seconds=RING_S + 60)  # a ring and a report that led to nothing are repeated by then
            daemon.tick()
            if len(daemon.lines("told")) == told:
                missed.append(f"killed at {nth}: Dagster was not told")
            if len(daemon.lines("rung")) == rung:
                missed.append(f"killed at {nth}: nobody rang")
            daemon.apply(f"run-{nth}")
            ahead += timedelta(seconds=RING_S + 60)
            daemon.tick()
            ahead += timedelta(seconds=RING_S + 60)
        missing = {
            f"{kind}-{number}" for kind in ("told", "due") for number in range(1, nth + 1, int(step))
        } - daemon.rows()
        sum_told = sum(map(int, daemon.lines("told")))
    print(json.dumps({"kills": kills, "points": nth, "missed": missed, "missing": sorted(missing), "told": sum_told}))  # noqa: T201


main()
