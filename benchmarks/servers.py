"""Measures what a server does: its processor time, its log, the rows that it counts."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, ProgrammingError

from benchmarks.measure import MB, Meter

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_FLUSH_TIMEOUT_S = 10


class ServerMeter(Meter):
    """Reads a server's counters through a connection of its own."""

    def __init__(self, url: str, table: str) -> None:
        super().__init__()
        self._table = table
        self._connection = sa.create_engine(url, isolation_level="AUTOCOMMIT").connect()

    def _do(self, statement: str) -> None:
        self._connection.exec_driver_sql(statement)

    def _all(self, statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._connection.exec_driver_sql(statement)]


class PostgresqlMeter(ServerMeter):
    """Sums all processes of the server, so that those which end meanwhile are counted too."""

    def start(self) -> None:
        """Begin behind a checkpoint: the first change of each page is then in the log as a whole page."""
        with suppress(ProgrammingError):
            self._do("CHECKPOINT")
        [(backend,)] = self._all("SELECT pg_backend_pid()")
        self._postmaster = _parent_of(backend, "postgres")
        self._written = self._counters()
        super().start()

    def _read(self) -> dict[str, float]:
        [(position,)] = self._all("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
        used = {"log_mb": float(position) / MB}
        if self._postmaster is not None:
            used["server_cpu_s"] = _group_cpu_s(self._postmaster)
        return used

    def _rows(self) -> dict[str, Any]:
        self._wait_until_counted()
        before, after = self._written, self._counters()
        used = {name: [n - m for n, m in zip(after[name], before.get(name, (0, 0, 0)), strict=True)] for name in after}
        inserted, updated, deleted = used.pop(self._table, (0, 0, 0))
        other = sum(map(sum, used.values()))
        kinds = {"inserted": inserted, "updated": updated, "deleted": deleted}
        return kinds | {"rows_written": inserted + updated + deleted, "other_rows": other}

    def _counters(self) -> dict[str, tuple[int, int, int]]:
        rows = self._all("SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables")
        return {name: (inserted, updated, deleted) for name, inserted, updated, deleted in rows}

    def _wait_until_counted(self) -> None:
        """Wait for the other connections to end: a process hands in its counts at the latest when it does."""
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        give_up = time.monotonic() + _FLUSH_TIMEOUT_S
        while self._all(others) != [(0,)] and time.monotonic() < give_up:
            time.sleep(0.01)
        self._do("SELECT pg_stat_clear_snapshot()")


class MariadbMeter(ServerMeter):
    """Reads the one process of the server, its redo log, and its counters by table where it may switch them on."""

    _counts_rows = False

    def start(self) -> None:
        """Find the process, and begin with a clean slate."""
        self._server = _only_process(("mariadbd", "mysqld"))
        [(self._userstat,)] = self._all("SELECT @@GLOBAL.userstat")
        with suppress(DBAPIError):
            self._do("SET GLOBAL userstat = ON")
            self._do("FLUSH TABLE_STATISTICS")
            self._counts_rows = True
        super().start()

    def _read(self) -> dict[str, float]:
        [(_, written)] = self._all("SHOW GLOBAL STATUS LIKE 'Innodb_os_log_written'")
        used = {"log_mb": int(written) / MB}
        if self._server is not None:
            used["server_cpu_s"] = _cpu_s(self._server)
        return used

    def _rows(self) -> dict[str, Any]:
        if not self._counts_rows:
            return {}
        counted = dict(
            self._all(
                "SELECT table_name, rows_changed FROM information_schema.table_statistics "
                "WHERE table_schema = DATABASE()"
            )
        )
        self._do(f"SET GLOBAL userstat = {self._userstat:d}")
        return {"rows_written": int(counted.pop(self._table, 0)), "other_rows": int(sum(counted.values()))}


def _stat(pid: int) -> list[str] | None:
    """Return the fields of a process from its state on; the name before may hold blanks."""
    with suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return None


def _name(pid: int) -> str:
    with suppress(OSError):
        return (_PROC / str(pid) / "comm").read_text().strip()
    return ""


def _parent_of(pid: int, name: str) -> int | None:
    """Return the parent of a server's process, or None where that process is not on this machine."""
    fields = _stat(pid)
    return int(fields[1]) if fields and _name(pid) == name == _name(int(fields[1])) else None


def _only_process(names: tuple[str, ...]) -> int | None:
    pids = [int(path.name) for path in _PROC.glob("[0-9]*") if _name(int(path.name)) in names]
    return pids[0] if len(pids) == 1 else None


def _cpu_s(pid: int, *, with_ended_children: bool = False) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[11 : 15 if with_ended_children else 13])) / _TICKS if fields else 0.0


def _group_cpu_s(parent: int) -> float:
    """Sum a process, its children, and those that have ended."""
    children = [int(path.name) for path in _PROC.glob("[0-9]*") if (f := _stat(int(path.name))) and int(f[1]) == parent]
    return sum(map(_cpu_s, children)) + _cpu_s(parent, with_ended_children=True)
