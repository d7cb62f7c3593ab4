"""What is shown of messages: the receiver, the way to the row, and the runs that the sensor starts."""

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.goals import Found, Goal
from benchmarks.results import Results

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
JOBS = (1, 20, 200)
KINDS = ("receiver", "latency", "queue")
_ABOUT = """\
Latency is from the request to the changed row, at 50 messages a second; `start` is the first message, which waits for
the daemon, and `cold` one that waits for a run."""


def arrangement(database: str, jobs: int, delivery: str, messages: int | None = None) -> str:
    """Return the name of what was measured with so many jobs; of a queue, with how many messages in it."""
    return f"{database}, {jobs} jobs, {delivery}" + ("" if messages is None else f", {messages} messages")


def goals() -> Iterator[Goal]:
    """Yield what the figures of messages have to be."""
    for database, title in DATABASES.items():
        for processes in (1, 4):
            subject = f"{title}, receiver, {processes} process{'es' if processes > 1 else ''}: throughput"
            name = f"{database}, {processes} processes"
            yield _goal("receiver", name, subject, "≥ 0.7 of a bare handler", _at_least("ratio", 0.7))
        for jobs in JOBS:
            inline, run = (arrangement(database, jobs, delivery) for delivery in ("inline", "run"))
            subject = f"{title}, {jobs} job{'s' if jobs > 1 else ''}"
            yield _goal("latency", inline, f"{subject}, at once: median", "< 100 ms", _below("median_ms", 100))
            yield _goal("latency", inline, f"{subject}, at once: p99", "< 1,000 ms", _below("p99_ms", 1_000))
            yield _goal("latency", run, f"{subject}, cold run: median", "< 4,000 ms", _below("cold_median_ms", 4_000))
            yield _goal("latency", run, f"{subject}, while a run stays: median", "< 500 ms", _below("median_ms", 500))
        for messages in (1_000, 100_000):
            name = arrangement(database, 1, "run", messages)
            subject = f"{title}, {messages:,} messages in the queue: runs"
            yield _goal("queue", name, subject, "≤ drains needed", _no_more_runs_than_needed)


def tables(results: Results) -> list[str]:
    """Return all figures of messages as lines of Markdown; none, if there are none."""
    parts: list[str] = []
    receiver = {
        "Receiver, a second": "receiver_per_s",
        "Bare handler, a second": "bare_per_s",
        "Ratio": "ratio",
        "Receiver, CPU ms": "receiver_cpu_ms",
        "Bare, CPU ms": "bare_cpu_ms",
    }
    latency = {
        "Start, ms": "start_ms",
        "Cold, ms": "cold_median_ms",
        "Median, ms": "median_ms",
        "p99, ms": "p99_ms",
        "Most, ms": "max_ms",
        "Runs": "runs_started",
        "Transactions": "transactions",
    }
    queued = {"Seconds": "took_s", "Runs": "runs_started", "Needed": "drains_needed", "Transactions": "transactions"}
    for kind, title, columns in (
        ("receiver", "Receiver", receiver),
        ("latency", "Latency of messages", latency),
        ("queue", "Runs for a full queue", queued),
    ):
        if results.messages(kind):
            parts += [f"## {title}", "", *([_ABOUT, ""] if kind == "latency" else [])]
            parts += [*_table(results.messages(kind), columns), ""]
    return parts


def _table(found: dict[str, dict[str, Any]], columns: dict[str, str]) -> list[str]:
    lines = [f"| Arrangement | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name, figures in found.items():
        if "failed" in figures:
            lines.append(f"| {name} | failed: {figures['failed']} |{' |' * (len(columns) - 1)}")
            continue
        cells = ["" if figures[key] is None else f"{figures[key]:,}" for key in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _goal(kind: str, name: str, subject: str, wanted: str, judge: Callable[[dict[str, Any]], Found | None]) -> Goal:
    def find(results: Results) -> Found | None:
        figures = results.messages(kind).get(name)
        if figures is None:
            return None
        return Found(f"failed: {figures['failed']}", is_met=False) if "failed" in figures else judge(figures)

    return Goal(subject=subject, wanted=wanted, find=find)


def _below(figure: str, limit: float) -> Callable[[dict[str, Any]], Found | None]:
    def judge(figures: dict[str, Any]) -> Found | None:
        value = figures[figure]
        return None if value is None else Found(f"{value:,} ms", value < limit)

    return judge


def _at_least(figure: str, limit: float) -> Callable[[dict[str, Any]], Found | None]:
    return lambda figures: Found(f"{figures[figure]:.2f}", figures[figure] >= limit)


def _no_more_runs_than_needed(figures: dict[str, Any]) -> Found | None:
    runs, needed = figures["runs_started"], figures["drains_needed"]
    return Found(f"{runs} of {needed}", runs <= needed)
