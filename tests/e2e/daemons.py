"""Dagster's daemon as the tests run it, and how they wait for what it does."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@contextmanager
def running_daemon(
    command: Sequence[str], *, folder: Path, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon in a deployment's folder, with the code server and the runs that it starts; kill them at the end.

    The folder is `DAGSTER_HOME` and holds the code location's module; what is printed goes to `daemon.log` in it.
    """
    path = f"{folder}{os.pathsep}{ROOT}"
    environment = os.environ | {"DAGSTER_HOME": str(folder), "PYTHONPATH": path} | dict(variables)
    with (folder / "daemon.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(is_so: Callable[[], Any], what: str, *, within_s: float = 180) -> None:
    """Return as soon as something is so; fail, naming it, if that takes too long."""
    give_up = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < give_up, f"{what}: not within {within_s} s"
        time.sleep(0.2)
