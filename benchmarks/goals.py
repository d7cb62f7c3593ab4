"""What the figures have to be, and whether they are."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.peers.catalogue import OURS
from benchmarks.results import PEERS, Results

M = 1_000_000
_NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite", "mariadb": "MariaDB"}
_LETTERS = {"parse": "P", "bulk_load": "C", "update_all": "U", "upsert": "unprotected"}


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured, in words, and whether it is good enough."""

    text: str
    is_met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One goal; `find` returns None where nothing was measured."""

    subject: str
    wanted: str
    find: Callable[[Results], Found | None]


def _times(database: str, rows: int, case: str, reference: str, limit: float, subject: str) -> Goal:
    """Wall time as a multiple of a reference's."""
    letter = _LETTERS[reference]

    def find(results: Results) -> Found | None:
        ratio = results.ratio(database, rows, case, reference)
        wall = results.figure(database, rows, case, "wall_s")
        if ratio is None or wall is None:
            return None
        return Found(f"{ratio:.2f} {letter} ({seconds(wall)})", ratio <= limit)

    return Goal(subject=f"{_where(database, rows)}: {subject}", wanted=f"≤ {limit:g} {letter}", find=find)


def _most(case: str, figure: str, limit: float, unit: str, subject: str) -> Goal:
    """A figure of PostgreSQL with a million rows."""

    def find(results: Results) -> Found | None:
        value = results.figure("postgresql", M, case, figure)
        return None if value is None else Found(f"{value:.3g} {unit}".strip(), value <= limit)

    wanted = f"≤ {limit:g} {unit}" if limit else "0"
    return Goal(subject=f"{_where('postgresql', M)}: {subject}", wanted=wanted, find=find)


def _written() -> Goal:
    """Of 1 %, exactly the changed rows."""
    wanted = (M // 1_000, 8 * M // 1_000, M // 1_000)

    def find(results: Results) -> Found | None:
        kinds = [results.figure("postgresql", M, "percent", kind) for kind in ("inserted", "updated", "deleted")]
        if None in kinds:
            return None
        return Found(" + ".join(f"{kind:,.0f}" for kind in kinds if kind is not None), tuple(kinds) == wanted)

    text = " + ".join(f"{count:,}" for count in wanted)
    return Goal(subject=f"{_where('postgresql', M)}, 1 %: rows inserted, updated, deleted", wanted=text, find=find)


def _memory(database: str, rows: int) -> Goal:
    """Nothing changed: memory that grows by 45 B a record."""
    limit = 45 * rows / 1_000_000 + 20

    def find(results: Results) -> Found | None:
        value = results.figure(database, rows, "unchanged", "peak_mb")
        return None if value is None else Found(f"{value:.0f} MB", value <= limit)

    subject = f"{_where(database, rows)}: memory above imports"
    return Goal(subject=subject, wanted=f"≤ 45 B a record + 20 MB = {limit:.0f} MB", find=find)


def _linear() -> Goal:
    """A record of five million costs as much as one of a million."""

    def find(results: Results) -> Found | None:
        one, five = (results.figure("postgresql", rows, "unchanged", "wall_s") for rows in (M, 5 * M))
        return None if one is None or five is None else Found(f"{five / 5 / one:.2f} times", five / 5 / one <= 1.2)

    return Goal(
        subject="PostgreSQL, 5,000,000 rows: time a record, of that with 1,000,000", wanted="≤ 1.2 times", find=find
    )


def _exact() -> Goal:
    """A case of bad records that was measured was exact: a run is failed where one record is reported wrongly."""

    def find(results: Results) -> Found | None:
        cases = [results.cases("postgresql", 100_000).get(f"faults_{bad}") for bad in (0, 10, 1_000)]
        if any(case is None or "skipped" in case for case in cases):
            return None
        failed = [str(case["failed"]) for case in cases if case and "failed" in case]
        return Found(failed[0] if failed else "exact", not failed)

    subject = "PostgreSQL, 0, 10 and 1,000 bad records of 100,000"
    return Goal(subject=subject, wanted="each one reported, each other one written", find=find)


def _faster_than(peer: str, title: str, limit: float) -> Goal:
    """Whole process with nothing changed, against another tool's."""

    def find(results: Results) -> Found | None:
        ratio = results.ratio(PEERS, M, peer, "unchanged")
        wall = results.figure(PEERS, M, peer, "wall_s", of="unchanged")
        if ratio is None or wall is None:
            return None
        return Found(f"{ratio:.1f} times ({title}: {seconds(wall)})", ratio >= limit)

    subject = f"PostgreSQL, 1,000,000 rows, whole process: times as fast as {title}"
    return Goal(subject=subject, wanted=f"≥ {limit:g} times", find=find)


def _faster_than_items() -> Goal:
    """Whole process with nothing changed, against the loop with the ORM, scaled from 10,000 rows."""

    def find(results: Results) -> Found | None:
        loop = results.figure("postgresql", 10_000, "items", "wall_s", of="orm_once")
        wall = results.figure(PEERS, M, OURS, "wall_s", of="unchanged")
        if loop is None or wall is None:
            return None
        ratio = loop * M / 10_000 / wall
        return Found(f"{ratio:.0f} times (loop: {seconds(loop * M / 10_000)}, scaled)", ratio >= 100)

    subject = "PostgreSQL, 1,000,000 rows, whole process: times as fast as a loop with the ORM that commits once"
    return Goal(subject=subject, wanted="≥ 100 times", find=find)


def seconds(value: float) -> str:
    """Return a duration to read."""
    return f"{value:,.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def _where(database: str, rows: int) -> str:
    return f"{_NAMES[database]}, {rows:,} rows"


_PG = "postgresql"
GOALS = (
    _times(_PG, M, "unchanged", "parse", 2.5, "nothing changed"),
    _most("unchanged", "server_cpu_s", 0.15, "s", "nothing changed, processor time of the server"),
    _most("unchanged", "rows_written", 0, "", "nothing changed, rows written"),
    _most("unchanged", "log_mb", 0.1, "MB", "nothing changed, WAL"),
    _times(_PG, M, "drift", "parse", 3, "nothing changed, with the proof against drift"),
    _times(_PG, M, "percent", "parse", 3.5, "1 % changed"),
    _written(),
    _times(_PG, M, "load", "bulk_load", 1.5, "first load"),
    _most("load", "peak_mb", 150, "MB", "first load, memory above imports"),
    _times(_PG, M, "changed", "update_all", 3, "every row changed"),
    _most("changed", "peak_mb", 150, "MB", "every row changed, memory above imports"),
    _times(_PG, M, "full", "parse", 5, "full compare"),
    _most("full", "peak_mb", 60, "MB", "full compare, memory above imports"),
    _times("sqlite", M, "unchanged", "parse", 2.5, "nothing changed"),
    _times("mariadb", M, "unchanged", "parse", 2.5, "nothing changed"),
    _times("sqlite", M, "load", "bulk_load", 1.6, "first load"),
    _times("mariadb", M, "load", "bulk_load", 1.2, "first load"),
    _memory(_PG, M),
    _memory("sqlite", M),
    _memory("mariadb", M),
    _linear(),
    _times(_PG, 100_000, "faults_0", "upsert", 1.2, "articles, none bad"),
    _times(_PG, 100_000, "faults_1000", "upsert", 1.6, "articles, 1,000 bad"),
    _exact(),
    _faster_than("dlt_parquet", "dlt from Parquet", 5),
    _faster_than("sling", "Sling", 5),
    _faster_than_items(),
)
"""All goals, in the order in which they are shown."""
