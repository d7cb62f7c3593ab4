"""Measures the cases: `python -m benchmarks --help`."""

import argparse
import signal
import tempfile
from pathlib import Path

import sqlalchemy as sa

from benchmarks.cases import CASES, Case
from benchmarks.databases import KINDS, UnavailableError, open_place
from benchmarks.peers import __main__ as peers
from benchmarks.results import FOLDER, PEERS, Results, surroundings
from benchmarks.rounds import Bench
from benchmarks.workload import Workload

SIZES = (10_000, 100_000, 1_000_000)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for, and keep each case's figures as soon as they are there."""
    options = _parser().parse_args(arguments)
    cases = [case for case in CASES if case.name in options.cases]
    results = Results(options.json)
    with tempfile.TemporaryDirectory(prefix="sync_benchmark_", dir=options.directory) as directory:
        for kind in options.database:
            try:
                _measure(kind, plan(cases, options.rows), results, options, Path(directory))
            except UnavailableError as error:
                print(f"skipped: {error}", flush=True)
    if PEERS in options.cases and "postgresql" in options.database:
        peers.measure(options, results, _given_url("postgresql", options.url))


def plan(cases: list[Case], sizes: list[int]) -> dict[int, list[Case]]:
    """Return the cases by number of rows; one that has a limit is measured once, with as many as are allowed."""
    planned: dict[int, list[Case]] = {}
    for case in cases:
        numbers = {case.rows_of(rows) for rows in sizes}
        for rows in {max(numbers)} if case.most_rows else numbers:
            planned.setdefault(rows, []).append(case)
    return dict(sorted(planned.items()))


def _measure(
    kind: str, planned: dict[int, list[Case]], results: Results, options: argparse.Namespace, directory: Path
) -> None:
    place = open_place(kind, directory / kind, _given_url(kind, options.url))
    label = place.version()
    job_options = {} if options.history else {"history": False}
    settings = {"repeat": options.repeat, "seed": options.seed, "history": options.history}
    for rows, cases in planned.items():
        workload = Workload(directory, rows, options.seed)
        try:
            bench = Bench(
                place, workload, job_options=job_options, say=lambda line, n=rows: _say(f"{label}, {n:,}: {line}")
            )
            for case in cases:
                about = surroundings(label)
                results.keep(
                    kind, rows, case.name, bench.measure(case, options.repeat) | {"settings": settings | about}
                )
        finally:
            place.close()


def _say(line: str) -> None:
    print(line, flush=True)


def _given_url(kind: str, urls: list[str]) -> str | None:
    names = {"mysql": "mariadb"}
    given = {names.get(name := sa.make_url(url).get_backend_name(), name): url for url in urls}
    return given.get(kind)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures sync_defs; see README.md.")
    names = [*(case.name for case in CASES), PEERS]
    parser.add_argument("--database", nargs="+", choices=KINDS, default=KINDS, help="default: all that answer")
    parser.add_argument("--url", nargs="+", default=[], help="servers in which databases may be made")
    parser.add_argument("--rows", nargs="+", type=int, default=SIZES, help="default: 10000 100000 1000000")
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE", help=" ".join(names))
    parser.add_argument("--repeat", type=int, default=5, help="rounds, of which the median is taken; default: 5")
    parser.add_argument("--seed", type=int, default=1, help="of the rows")
    parser.add_argument("--no-history", dest="history", action="store_false", help="run the jobs with history=False")
    parser.add_argument("--json", type=Path, default=FOLDER, help="folder for the results; default: benchmarks/results")
    parser.add_argument("--directory", type=Path, help="folder for files of some GB; default: the system's")
    peers.add_options(parser)
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was made is dropped then too
    main()
