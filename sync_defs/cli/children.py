"""Child processes, each in a process group of its own, so that none of its descendants is left behind."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sync_defs.cli.output import tell
from sync_defs.cli.stopping import Stop
from sync_defs.errors import SyncError

_TAIL_LINES = 12
_TAIL_BYTES = 16_384
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STEPS = ((signal.SIGINT, 20.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
"""How a group is stopped: a signal, and how many seconds it has before the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A started child."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Children:
    """Starts children in one folder, notices when one ends, and stops them all."""

    def __init__(self, *, folder: Path, logs: Path) -> None:
        """Take the folder in which they run, and the one for their logs, which exists."""
        self._folder = folder
        self._logs = logs
        self._children: list[Child] = []

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a child; its output goes to `<name>.log`, the last one is kept as `<name>.log.1`."""
        log = self._logs / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children.append(Child(name=name, process=process, log=log))

    def check(self) -> None:
        """Make sure that all children run; of one that has ended, show the end of its log on stderr.

        Raises:
            SyncError: one has ended; says which and how.
        """
        for child in self._children:
            status = child.process.poll()
            if status is not None:
                how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
                for line in _tail(child.log):
                    tell(f"  {line}")
                raise SyncError(
                    f"the {child.name} {how}; the end of its log is above ({child.log})", code="child_ended"
                )

    def stop(self, stop: Stop) -> None:
        """Stop all groups, the last started first: politely, then less so, and at once if it is urgent."""
        self._stop_groups(stop)
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(1.0)  # its group is gone: this takes its status, and no time

    def _stop_groups(self, stop: Stop) -> None:
        left = [child.process.pid for child in reversed(self._children)]
        for number, seconds in _STEPS:
            if number is not signal.SIGKILL and stop.is_urgent:
                continue
            for group in left:
                _signal(group, number)
            left = self._wait(left, seconds, None if number is signal.SIGKILL else stop)
            if not left:
                return

    def _wait(self, groups: list[int], seconds: float, stop: Stop | None) -> list[int]:
        """Return the groups that still have members after so many seconds, or when `stop` becomes urgent."""
        deadline = time.monotonic() + seconds
        while groups and time.monotonic() < deadline and not (stop and stop.is_urgent):
            for child in self._children:
                child.process.poll()
            groups = [group for group in groups if _has_members(group)]
            if groups:
                time.sleep(0.05)
        return groups


def _signal(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return  # gone, or on macOS nothing but zombies


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return not Path("/proc/self/stat").exists() or _has_living_members(group)


def _has_living_members(group: int) -> bool:
    """Tell zombies apart: in a container whose first process does not reap them, they stay for ever."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, its_group = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # it ended meanwhile
        if int(its_group) == group and state not in "ZX":
            return True
    return False


def _tail(log: Path) -> list[str]:
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - _TAIL_BYTES, 0))
        lines = file.read().decode(errors="replace").splitlines()
    return [_COLOUR.sub("", line) for line in lines[-_TAIL_LINES:]]
