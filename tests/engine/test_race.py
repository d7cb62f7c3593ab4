"""Four processes outside Dagster sync one job at once: they take turns, and one that is killed holds up nobody."""

import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync_defs import Database, run_sync
from sync_defs.store.database import utc_now
from sync_defs.store.schema import leases

pytestmark = pytest.mark.each_database

SCRIPT = Path(__file__).with_name("racing_run.py")
ROUNDS = 3


def test_four_processes_take_turns_and_a_killed_one_lets_go(table_world, tmp_path):
    log = tmp_path / "log"
    url = table_world.database.engine.url.render_as_string(hide_password=False)
    environment = {**os.environ, "SYNC_DATABASE_URL": url}
    commands = [[sys.executable, SCRIPT, log, str(rounds)] for rounds in (ROUNDS, ROUNDS, ROUNDS, 0)]
    processes = [subprocess.Popen(command, env=environment) for command in commands]
    try:
        codes = [process.wait(timeout=90) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0, 0, 0, -signal.SIGKILL]
    lines = [tuple(line.split()) for line in log.read_text().splitlines()]
    pids = [str(process.pid) for process in processes]
    lines.remove(("in", pids[-1]))  # it never came out, and nobody was inside when it came in
    assert Counter(lines) == {(word, pid): ROUNDS for word in ("in", "out") for pid in pids[:-1]}
    turns = list(zip(lines[::2], lines[1::2], strict=True))
    assert all((first, last, pid) == ("in", "out", other) for (first, pid), (last, other) in turns)
    with Database(url, clock=lambda: utc_now() + timedelta(seconds=61)) as later:  # the dead one may have been the last
        assert run_sync(table_world.job(), database=later, resources={"source": lambda _: []}).missing == 0
    nothing_is_left(table_world)


def nothing_is_left(world):
    with world.database.read() as connection:
        held = connection.execute(sa.select(leases.c.token).where(leases.c.name == "sync:variants")).scalar()
        names = sa.inspect(connection).get_table_names(schema=world.database.dialect.schema)
        if world.database.dialect.name == "postgresql":
            assert connection.exec_driver_sql("SELECT * FROM pg_locks WHERE locktype = 'advisory'").all() == []
    assert (held, [name for name in names if name.startswith("sync_stage_")]) == (None, [])
