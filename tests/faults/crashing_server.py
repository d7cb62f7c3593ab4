"""A database server that is killed, all of it at once, and started again."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import sqlalchemy.exc


@dataclass(slots=True)
class CrashingServer:
    """A running server of this test's own, of a kind that is one process, or one with children."""

    url: sa.URL
    home: Path
    """The server's folder, to whose file `log` it writes."""
    pid_file: Path
    """In whose first line the server's process is named."""
    ends_by: int
    """The signal that ends it in good order."""
    times_killed: int = 0
    _command: list[bytes] = field(default_factory=list)
    _process: subprocess.Popen[Any] | None = None

    @property
    def crashes(self) -> Iterator[Callable[[], None]]:
        """Yield for ever what kills the server and starts it again."""
        while True:
            yield self.crash

    def crash(self) -> None:
        """Kill the server with all its processes, and start it again; it has recovered when this returns."""
        pid = int(self.pid_file.read_text().split()[0])
        self._command = self._command or Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        owner = Path(f"/proc/{pid}").stat()
        for victim in (pid, *_children(pid)):
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self.times_killed += 1
        self._start(owner)

    def stop(self) -> None:
        """End the server, if it was started here."""
        if self._process is not None:
            self._process.send_signal(self.ends_by)
            self._process.wait(30)

    def _start(self, owner: Any) -> None:
        user: dict[str, Any] = {}
        if os.geteuid() != owner.st_uid:
            user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": ()}
        give_up = time.monotonic() + 60
        while True:
            if self._process is None or self._process.poll() is not None:  # at first another's memory is in its way
                with (self.home / "log").open("ab") as log:
                    self._process = subprocess.Popen(
                        self._command, cwd="/tmp", stdin=subprocess.DEVNULL, stdout=log, stderr=log, **user
                    )
            try:
                with sa.create_engine(self.url, poolclass=sa.NullPool).connect():
                    return
            except sqlalchemy.exc.OperationalError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.02)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
