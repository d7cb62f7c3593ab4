"""A sync in a process of its own that kills itself before the n-th statement of its upsert.

Run as: killed_run.py table|callbacks n
"""

import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event

from sync_defs import Database, Observer, run_sync

spec = importlib.util.spec_from_file_location("world", Path(__file__).with_name("conftest.py"))
assert spec is not None
assert spec.loader is not None
world_module = importlib.util.module_from_spec(spec)
sys.modules["world"] = world_module
spec.loader.exec_module(world_module)


class Killer(Observer):
    """Kills the process before the n-th statement after the diff."""

    def __init__(self, database: Database, point: int) -> None:
        self.database = database
        self.left = point

    def on_diffed(self, counts: Any) -> None:
        event.listen(self.database.engine, "before_cursor_execute", self.count)

    def count(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Sync the changed source, and die on the way."""
    kind, point = sys.argv[1:]
    items = [{"sku": f"S{number:04}", "quantity": number + 1} for number in range(10, 610)]
    with Database(os.environ["SYNC_DATABASE_URL"]) as database:
        world = world_module.World(database, kind, items)
        run_sync(
            world.job(on_missing="delete"),
            database=database,
            resources={"source": world.source},
            full=True,
            observer=Killer(database, int(point)),
        )


main()
