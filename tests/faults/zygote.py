"""A warm process that forks others: each costs some milliseconds, where a fresh Python takes a second.

It has imported what a receiver, a drain and a sync need, and neither Dagster nor pandas; it has one thread and no
connection, so that a fork of it is as good as a new process. Lines of JSON go both ways: orders to it, and the pids and
exit statuses of its children back.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# numpy's own threads, and the measuring of coverage, do not survive a fork.
_QUIET = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
_MEASURING = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


class Child:
    """A forked process, as its tests see it."""

    def __init__(self, role: str, log: Path) -> None:
        self.role = role
        self.log = log
        self.pid = 0
        self.status: int | None = None
        """What `os.waitstatus_to_exitcode` says: -9 for SIGKILL."""
        self._born = threading.Event()
        self._ended = threading.Event()

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if not self._ended.is_set():
            with suppress(ProcessLookupError):  # it has, and the news of it is on its way
                os.kill(self.pid, number)

    def wait(self, within_s: float = 60.0) -> int:
        """Return the exit status, as soon as there is one."""
        if not self._ended.wait(within_s) or self.status is None:
            raise TimeoutError(f"{self.role} ({self.pid}) is still at work after {within_s} s")
        return self.status

    def wait_until_stopped(self) -> None:
        """Return as soon as SIGSTOP has stopped the process."""
        give_up = time.monotonic() + 20
        while Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            if time.monotonic() > give_up or not self.is_alive:
                raise TimeoutError(f"{self.role} ({self.pid}) did not stop")
            time.sleep(0.005)

    @property
    def is_alive(self) -> bool:
        """Tell whether the process has not ended."""
        return not self._ended.is_set()

    def is_born(self, pid: int) -> None:
        """Note that the process is there."""
        self.pid = pid
        self._born.set()

    def has_ended(self, status: int) -> None:
        """Note the end."""
        self.status = status
        self._ended.set()

    def wait_until_born(self) -> None:
        """Return as soon as there is a pid."""
        if not self._born.wait(60):
            raise TimeoutError(f"{self.role} was not started within 60 s")


class Zygote:
    """The test's side of the warm process."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _MEASURING} | _QUIET
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._children: dict[int, Child] = {}
        self._unborn: deque[Child] = deque()
        self._lock = threading.Lock()
        self._is_warm = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def start(self, role: str, log: Path, **arguments: Any) -> Child:
        """Fork a process that plays a role of `tests.faults.roles`, and return it; its output goes to a log."""
        child = Child(role, log)
        with self._lock:
            self._unborn.append(child)
            self._send({"role": role, "log": str(log), "arguments": arguments})
        child.wait_until_born()
        return child

    def warm_up(self, url: str, source: str) -> None:
        """Have what is forked from now on know a database, which holds an open shop."""
        with self._lock:
            self._is_warm.clear()
            self._send({"role": "warm up", "arguments": {"url": url, "source": source}})
        if not self._is_warm.wait(60):
            raise TimeoutError("the warm process is not ready within 60 s")

    def _send(self, order: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Kill all children, and end."""
        for child in list(self._children.values()):
            child.signal(signal.SIGKILL)
        self._process.communicate(timeout=30)
        self._listener.join()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            news: dict[str, int] = json.loads(line)
            if not news:
                self._is_warm.set()
            elif "status" in news:
                self._children.pop(news["pid"]).has_ended(news["status"])
            else:
                child = self._children[news["pid"]] = self._unborn.popleft()
                child.is_born(news["pid"])


def main() -> None:
    """Fork a child for each order on the standard input, and tell of each that ends."""
    from tests.faults import roles

    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    living: set[int] = set()
    for line in _lines(reading):
        if line is not None:
            order = json.loads(line)
            if order["role"] == "warm up":
                roles.warm_up(**order["arguments"])
                _tell({})
                continue
            pid = os.fork()
            if pid == 0:
                _live(roles.ROLES[order["role"]], order["log"], order["arguments"])
            living.add(pid)
            _tell({"pid": pid})
        while (ended := _reap()) is not None:
            living.discard(ended["pid"])
            _tell(ended)
    for pid in living:  # whichever way the test's process has ended
        os.kill(pid, signal.SIGKILL)


def _lines(woken: socket.socket) -> Any:
    """Yield orders, and None when a child has ended; end with the input."""
    import selectors

    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        rest = b""
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if woken in ready:
                woken.recv(4096)
                yield None
            if 0 in ready:
                read = os.read(0, 65_536)
                if not read:
                    return
                *lines, rest = (rest + read).split(b"\n")
                yield from lines


def _reap() -> dict[str, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return {"pid": pid, "status": os.waitstatus_to_exitcode(status)} if pid else None


def _tell(news: Mapping[str, int]) -> None:
    os.write(1, (json.dumps(news) + "\n").encode())


def _live(play: Any, log: str, arguments: Mapping[str, Any]) -> None:
    """Play a role in a forked process, which ends with it."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    status = 1
    try:
        play(**arguments)
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the status tells of it and the log holds it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
