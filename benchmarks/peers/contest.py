"""Measures the tools: round by round, and in each one after the other the same three syncs into a new database."""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError

from benchmarks.databases import PostgresqlPlace
from benchmarks.peers.catalogue import OURS, Peer
from benchmarks.rounds import ROOT, TIMEOUT_S, WorkError, medians
from benchmarks.workload import State, Workload, percent_changes, read_pages, stored_row

SYNCS = {"load": State.BASE, "unchanged": State.BASE, "percent": State.PERCENT}
_SCRIPTS = Path(__file__).parent / "scripts"
# No tool reports home what it does here.
_SILENCE = {"DO_NOT_TRACK": "1", "RUNTIME__DLTHUB_TELEMETRY": "false", "SLING_DISABLE_TELEMETRY": "TRUE"}

Runs = dict[str, list[dict[str, Any]]]


class Contest:
    """Measures tools with one workload on one PostgreSQL server."""

    def __init__(self, place: PostgresqlPlace, workload: Workload, say: Callable[[str], None]) -> None:
        self._place = place
        self._workload = workload
        self._say = say
        self._totals: dict[State, tuple[int, int]] = {}

    def measure(self, pythons: Mapping[Peer, str], repeat: int) -> dict[str, dict[str, Any]]:
        """Return the figures of each tool as plain JSON types, with how many times as long as sync_defs it took."""
        runs: dict[str, Runs] = {}
        failed: dict[str, str] = {}
        for turn in range(repeat):
            peers = [peer for peer in pythons if peer.name not in failed]
            for peer in peers if turn % 2 == 0 else reversed(peers):
                try:
                    self._round(peer, pythons[peer], runs.setdefault(peer.name, {sync: [] for sync in SYNCS}))
                except WorkError as error:
                    failed[peer.name] = str(error)
                    self._say(f"{peer.name}: failed, {error}")
        return {
            peer.name: {"title": peer.title}
            | ({"failed": failed[peer.name]} if peer.name in failed else _account(runs[peer.name], runs.get(OURS)))
            for peer in pythons
        }

    def _round(self, peer: Peer, python: str, runs: Runs) -> None:
        url = self._place.prepare() if peer.needs_table or peer.name == OURS else self._place.create()
        try:
            with tempfile.TemporaryDirectory(dir=self._workload.directory) as folder:
                for sync, state in SYNCS.items():
                    figures = self._sync(peer, python, url, state, folder)
                    runs[sync].append(figures)
                    self._say(f"{peer.name}, {sync}: {figures['wall_s']:.2f} s")
        finally:
            self._place.drop(url)

    def _sync(self, peer: Peer, python: str, url: str, state: State, folder: str) -> dict[str, Any]:
        source = self._source(peer.form, state)
        address = url if peer.name == OURS else _plain_address(url)
        script = _SCRIPTS / f"{peer.script}.py"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | _SILENCE
        if peer.name == OURS:
            environment["PYTHONPATH"] = str(ROOT)
        launcher = [sys.executable, "-I", "-S", Path(__file__).with_name("launch.py")]
        with _Written(url) as written:
            done = subprocess.run(
                [*launcher, python, script, source, address, folder],
                capture_output=True,
                text=True,
                check=False,
                cwd=folder,
                env=environment,
                timeout=TIMEOUT_S,
            )
        answer: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"exit": done.returncode}
        if answer["exit"] != 0:
            told = done.stderr.strip().splitlines() or [f"exit code {answer['exit']}"]
            print("\n".join(told[-20:]), file=sys.stderr)
            raise WorkError(told[-1][:200])
        self._check(peer, url, state)
        return answer["figures"] | {"log_mb": round(written.mb, 3)}

    def _source(self, form: str, state: State) -> Path:
        if form == "parquet":
            return self._workload.parquet(state)
        pages = self._workload.pages(state)
        path = pages.with_suffix(f".{form}")
        if form == "jsonl" and not path.exists():
            with path.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for page in read_pages(pages) for record in page)
        if form == "sqlite" and not path.exists():
            _write_sqlite(path, pages)
        return path if form in ("jsonl", "sqlite") else pages

    def _check(self, peer: Peer, url: str, state: State) -> None:
        """Raise unless the target has as many rows, and as many pieces in all, as it should."""
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            found = tuple(connection.exec_driver_sql("SELECT count(*), sum(quantity) FROM product").one())
        expected = self._expected(state, deletes=peer.deletes)
        if found != expected:
            raise WorkError(f"wrong result: {found} rows and pieces instead of {expected}")

    def _expected(self, state: State, *, deletes: bool) -> tuple[int, int]:
        """Return the number of rows and the sum of quantities; a tool that does not delete keeps what is gone."""
        if state not in self._totals:
            quantities = [row.quantity for row in self._workload.stored(state, is_shuffled=False)]
            self._totals[state] = (len(quantities), sum(quantities))
        rows, pieces = self._totals[state]
        if state is State.PERCENT and not deletes:
            gone = percent_changes(self._workload.seed, self._workload.rows).gone
            return rows + len(gone), pieces + sum(stored_row(self._workload.seed, number).quantity for number in gone)
        return rows, pieces


class _Written:
    """The WAL of the server during a block, in MB."""

    mb = 0.0

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def __enter__(self) -> "_Written":
        with self._engine.connect() as connection, suppress(ProgrammingError):
            connection.exec_driver_sql("CHECKPOINT")
        self._start = self._position()
        return self

    def __exit__(self, *_: object) -> None:
        self.mb = (self._position() - self._start) / 1_000_000

    def _position(self) -> float:
        with self._engine.connect() as connection:
            return float(connection.exec_driver_sql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").scalar_one())


def _plain_address(url: str) -> str:
    """Return a URL as any tool reads it; dlt insists on a password."""
    plain = sa.make_url(url).set(drivername="postgresql")
    return plain.set(password=plain.password or "none").render_as_string(hide_password=False)


def _write_sqlite(path: Path, pages: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE product (sku, quantity, price, name, active, updated_at, attributes)")
        for page in read_pages(pages):
            rows = [tuple((record | {"active": str(record["active"])}).values()) for record in page]
            connection.executemany("INSERT INTO product VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _account(runs: Runs, ours: Runs | None) -> dict[str, Any]:
    ratios = {
        sync: {
            "wall": round(median(a["wall_s"] / b["wall_s"] for a, b in zip(runs[sync], ours[sync], strict=False)), 2)
        }
        for sync in (SYNCS if ours else ())
        if ours and ours[sync]
    }
    return {"medians": {sync: medians(runs[sync]) for sync in SYNCS}, "ratios": ratios, "runs": runs}
