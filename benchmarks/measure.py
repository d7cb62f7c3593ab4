"""What a piece of work costs: time, processor of client and server, memory, log and rows written.

The server has to be on this machine, and nobody else may use it meanwhile: its processor time and its log are those
of the whole server. What cannot be read is None.
"""

import gc
import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The cost of one run."""

    wall_s: float
    client_cpu_s: float
    server_cpu_s: float | None = None
    base_mb: float
    """Memory before the work, all imports done."""
    peak_mb: float
    """The most memory during the work above `base_mb`."""
    log_mb: float | None = None
    """PostgreSQL: WAL. MariaDB: redo log. SQLite: bytes written to files."""
    rows_written: int | None = None
    """Rows of the target that were written, as the server counts them."""
    inserted: int | None = None
    updated: int | None = None
    deleted: int | None = None
    other_rows: int | None = None
    """Rows written to all other tables that are still there."""


class Meter:
    """Measures what happens between `start` and `stop` in this process; without a database."""

    def start(self) -> None:
        """Note where everything stands. Imports and connections are made before."""
        gc.collect()
        self._base_mb = _memory_mb("VmRSS")
        _forget_peak()
        self._before = self._read()
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def stop(self) -> Figures:
        """Return what was used since `start`."""
        wall_s, client_cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu
        peak_mb = _memory_mb("VmHWM")
        after = self._read()
        used = {name: round(after[name] - before, 3) for name, before in self._before.items() if name in after}
        return Figures(
            wall_s=round(wall_s, 4),
            client_cpu_s=round(client_cpu_s, 4),
            base_mb=round(self._base_mb, 1),
            peak_mb=round(peak_mb - self._base_mb, 1),
            server_cpu_s=used.get("server_cpu_s"),
            log_mb=used.get("log_mb"),
            **self._rows(),
        )

    def _read(self) -> dict[str, float]:
        return {}

    def _rows(self) -> dict[str, Any]:
        return {}


class SqliteMeter(Meter):
    """Adds what this process wrote to files."""

    def _read(self) -> dict[str, float]:
        with suppress(OSError):
            counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
            return {"log_mb": int(counters["wchar"]) / MB}
        return {}


def _memory_mb(name: str) -> float:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024 / MB
    # Elsewhere only the highest is known, so what imports took for a moment hides what the work takes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
