"""Full syncs of one job in a process of its own, as fast as its rivals let it.

Run as: racing_run.py LOG ROUNDS; says in LOG when it is inside a fetch. With 0 rounds it kills itself in the first one.
"""

import importlib.util
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

from sync_defs import Database, run_sync
from sync_defs.store.database import utc_now

spec = importlib.util.spec_from_file_location("world", Path(__file__).with_name("conftest.py"))
assert spec is not None
assert spec.loader is not None
world_module = importlib.util.module_from_spec(spec)
sys.modules["world"] = world_module
spec.loader.exec_module(world_module)


def say(log: str, word: str) -> None:
    """Append a line in one write, which no other process can come between."""
    with open(log, "ab", buffering=0) as file:  # noqa: PTH123 - unbuffered
        file.write(f"{word} {os.getpid()}\n".encode())


def main() -> None:
    """Sync so many times."""
    log, rounds = sys.argv[1], int(sys.argv[2])

    def fetch(_cursor: object) -> list[dict[str, object]]:
        say(log, "in")
        if not rounds:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        say(log, "out")
        return [{"sku": "A", "quantity": os.getpid()}]

    # A lease lives for 60 s: one of a process whose clock is behind ends soon after its death.
    behind = timedelta(seconds=0 if rounds else 57)
    with Database(os.environ["SYNC_DATABASE_URL"], clock=lambda: utc_now() - behind) as database:
        world = world_module.World(database, "table")
        for _ in range(rounds or 1):
            run_sync(world.job(), database=database, resources={"source": fetch}, full=True, wait_s=60)


main()
