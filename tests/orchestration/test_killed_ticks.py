"""The daemon is killed at each point of a tick, and the next tick makes good for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]


def test_g17_a_tick_that_was_killed_anywhere_is_made_good_for(migrated_sqlite_url, tmp_path, request):
    step = "1" if request.config.getoption("--fault-long") else "5"
    script = Path(__file__).with_name("killed_ticks.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), migrated_sqlite_url, str(tmp_path), step]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["missed"], found["missing"]) == ([], [])
    assert found["points"] > 30  # at each statement of ours, and at what the daemon stores
    assert found["told"] >= 2 * found["kills"]  # each at least once: a tick that dies in between tells again
