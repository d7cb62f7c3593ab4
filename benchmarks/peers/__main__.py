"""Measures the tools: `python -m benchmarks.peers --help`."""

import argparse
import signal
import tempfile
from pathlib import Path

from benchmarks.databases import PostgresqlPlace, UnavailableError, open_place
from benchmarks.peers.catalogue import PEERS, Peer
from benchmarks.peers.contest import Contest
from benchmarks.peers.environments import InstallError, python_of
from benchmarks.results import FOLDER, Results, surroundings
from benchmarks.results import PEERS as WHOLE_PROCESSES
from benchmarks.workload import Workload

SIZES = (10_000, 100_000, 1_000_000)


def main(arguments: list[str] | None = None) -> None:
    """Measure the tools that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Measures whole processes.")
    parser.add_argument("--url", help="PostgreSQL server in which databases may be made")
    parser.add_argument("--rows", nargs="+", type=int, default=SIZES, help="default: 10000 100000 1000000")
    parser.add_argument("--repeat", type=int, default=5, help="rounds, of which the median is taken; default: 5")
    parser.add_argument("--seed", type=int, default=1, help="of the rows")
    parser.add_argument("--json", type=Path, default=FOLDER, help="folder for the results; default: benchmarks/results")
    parser.add_argument("--directory", type=Path, help="folder for files of some GB; default: the system's")
    add_options(parser)
    options = parser.parse_args(arguments)
    measure(options, Results(options.json), options.url)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only the comparison of tools has."""
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peers", nargs="+", choices=names, default=names, metavar="PEER", help=" ".join(names))
    parser.add_argument(
        "--environments", type=Path, help="folder that keeps the installed tools; default: none is kept"
    )


def measure(options: argparse.Namespace, results: Results, url: str | None) -> None:
    """Install the tools and measure them, and keep the figures of each size."""
    with tempfile.TemporaryDirectory(prefix="sync_benchmark_", dir=options.directory) as folder:
        place = open_place("postgresql", Path(folder), url)
        assert isinstance(place, PostgresqlPlace)
        try:
            label = place.version()
        except UnavailableError as error:
            print(f"skipped: {error}", flush=True)
            return
        pythons, failed = _install(options, Path(folder))
        for rows in options.rows:
            contest = Contest(
                place, Workload(Path(folder), rows, options.seed), lambda line, n=rows: _say(f"{n:,}: {line}")
            )
            about = {"repeat": options.repeat, "seed": options.seed} | surroundings(label)
            taking_part = {peer: python for peer, python in pythons.items() if rows <= (peer.most_rows or rows)}
            try:
                accounts = contest.measure(taking_part, options.repeat)
            finally:
                place.close()
            for name, account in (accounts | failed).items():
                results.keep(WHOLE_PROCESSES, rows, name, account | {"settings": about})


def _install(options: argparse.Namespace, folder: Path) -> tuple[dict[Peer, str], dict[str, dict[str, str]]]:
    pythons: dict[Peer, str] = {}
    failed: dict[str, dict[str, str]] = {}
    for peer in PEERS:
        if peer.name in options.peers:
            try:
                pythons[peer] = python_of(peer, (options.environments or folder).resolve())
            except InstallError as error:
                failed[peer.name] = {"title": peer.title, "failed": str(error)}
                _say(f"{peer.name}: {error}")
    return pythons, failed


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was made is dropped then too
    main()
