"""Child processes: none is left behind, and one that ends is noticed."""

import os
import subprocess
import sys
import time

import pytest

from sync_defs.cli import children as module
from sync_defs.cli.children import Children
from sync_defs.cli.stopping import Stop
from sync_defs.errors import SyncError
from tests.cli.test_run import wait_for

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
if sys.argv[1] == "stay":
    time.sleep(60)
"""


@pytest.fixture
def children(tmp_path):
    """Children whose logs are in the test's folder; stopped after the test."""
    started = Children(folder=tmp_path, logs=tmp_path)
    yield started
    urgent = Stop()
    urgent.ask()
    urgent.ask()
    started.stop(urgent)


def logged(tmp_path, name):
    """Wait for a line in a child's log, and return the log."""
    log = tmp_path / f"{name}.log"
    wait_for(lambda: log.read_bytes().endswith(b"\n"))
    return log.read_text()


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.mark.parametrize("parent", ["stay", "leave"])
def test_descendants_are_stopped_too(children, tmp_path, parent):
    """Also those whose own parent is gone already."""
    children.start("tree", [sys.executable, "-c", PARENT, parent], dict(os.environ))
    pid = int(logged(tmp_path, "tree"))
    assert is_running(pid)
    children.stop(Stop())
    assert not is_running(pid)


def test_stubborn_child_is_killed(children, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_STEPS", tuple((number, 0.2) for number, _ in module._STEPS))
    children.start("stubborn", [sys.executable, "-c", STUBBORN], dict(os.environ))
    logged(tmp_path, "stubborn")
    children.stop(Stop())
    with pytest.raises(SyncError, match="the stubborn was killed by signal 9"):
        children.check()


def test_second_request_to_stop_kills_at_once(children, tmp_path):
    children.start("stubborn", [sys.executable, "-c", STUBBORN], dict(os.environ))
    logged(tmp_path, "stubborn")
    stop = Stop()
    stop.ask()
    stop.ask()
    began = time.monotonic()
    children.stop(stop)
    assert time.monotonic() - began < 10


def test_end_of_a_child_is_told_with_the_end_of_its_log(children, tmp_path, capsys):
    script = "import sys; print(*range(100), sep='\\n'); print('\\x1b[31mbad\\x1b[0m\\x07'); sys.exit(7)"
    children.start("worker", [sys.executable, "-c", script], dict(os.environ))
    wait_for(lambda: (tmp_path / "worker.log").read_text().endswith("\x07\n"))
    with pytest.raises(SyncError) as raised:
        wait_for(children.check)
    log = tmp_path / "worker.log"
    assert str(raised.value) == f"the worker ended with status 7; the end of its log is above ({log})"
    assert raised.value.code == "child_ended"
    assert capsys.readouterr().err.splitlines() == [*(f"  {number}" for number in range(89, 100)), "  bad\\x07"]


def test_last_log_is_kept(children, tmp_path):
    for text in ("one", "two"):
        children.start("worker", [sys.executable, "-c", f"print('{text}')"], dict(os.environ))
        logged(tmp_path, "worker")
    assert (tmp_path / "worker.log").read_text() == "two\n"
    assert (tmp_path / "worker.log.1").read_text() == "one\n"
