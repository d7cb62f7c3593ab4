"""The sensor's side of the process that applies messages at once: starts it, gives it orders, replaces it.

What the process does is settled in the database alone. Losing it loses nothing: what it held is due again after its
lease, and the next one goes on.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from sync_defs.inbox.places import places_of
from sync_defs.inbox.worker import APPLY_S
from sync_defs.job import Job

_DEAF_S: Final = 60.0
"""How long an order may stay unanswered: the thread that answers does nothing else, once all is imported."""
_MOST_UNANSWERED: Final = 5
_LONGEST_WAIT_S: Final = 60.0


class InlineWorker:
    """A process that is started at the first order and kept; safe to share between threads."""

    def __init__(
        self,
        jobs: Iterable[Job],
        *,
        database_url: str,
        apply_s: float = APPLY_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the jobs, all of which must stand at the top level of a module, and the database; start nothing yet.

        Raises:
            ConfigurationError: a job cannot be imported by name.
        """
        self._plan = {"jobs": places_of(jobs), "database_url": database_url, "apply_s": apply_s}
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._number = 0
        self._asked_at: dict[int, float] = {}
        self._failures = 0
        self._start_at = 0.0

    @property
    def pid(self) -> int | None:
        """Return the process's id, if there is one."""
        return None if self._process is None else self._process.pid

    def order(self, names: Iterable[str], seconds: float) -> bool:
        """Have jobs worked on for so long from now, by a new process if need be; False if there is none just now."""
        with self._lock:
            if not self._is_alive() and not self._start():
                return False
            if len(self._asked_at) >= _MOST_UNANSWERED:
                return True  # it still starts, or does not listen: a full pipe would hold up the sensor
            self._number += 1
            self._asked_at[self._number] = self._monotonic()
            return self._send({"number": self._number, "jobs": list(names), "work_s": seconds})

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._process is not None:
                self._kill(self._process)

    def _is_alive(self) -> bool:
        process = self._process
        if process is None:
            return False
        if process.poll() is None:
            oldest = min(list(self._asked_at.values()), default=None)  # the listening thread takes some away
            if oldest is None or self._monotonic() - oldest < _DEAF_S:
                return True
        self._kill(process)
        self._process = None
        return False

    def _start(self) -> bool:
        if self._monotonic() < self._start_at:
            return False
        self._failures += 1  # until it says that it is ready
        self._start_at = self._monotonic() + min(2.0**self._failures, _LONGEST_WAIT_S)
        self._asked_at.clear()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sync_defs.inbox.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        threading.Thread(target=self._listen, args=(self._process,), name="inline-worker", daemon=True).start()
        return self._send({**self._plan, "path": sys.path})

    def _send(self, order: Mapping[str, Any]) -> bool:
        process = self._process
        if process is None or process.stdin is None:
            return False
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        except OSError:
            return False
        return True

    def _listen(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is None:
            return
        with process.stdout as answers:
            for line in answers:
                if not line.endswith("\n"):
                    break  # it was killed in the middle of a word
                answer: dict[str, Any] = json.loads(line)
                if "ready" in answer:
                    self._failures = 0
                    self._start_at = 0.0
                self._asked_at.pop(answer.get("seen", 0), None)
        process.wait()

    def _kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        with suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        process.wait()
