"""Measures how long a code location with many jobs takes to load: `python -m benchmarks.definitions --help`.

Each number of jobs is loaded in a fresh process, whose clock starts when everything is imported.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

MOST_S = 5.0
MOST_MS_EACH = 10.0
URL = "postgresql://nowhere.invalid/shop"
"""Nothing may be asked of it: there is no such server."""


def main(arguments: list[str] | None = None) -> None:
    """Print the time that each number of jobs takes, and what each job adds."""
    options = _parser().parse_args(arguments)
    if options.child:
        print(json.dumps(load(options.jobs[0])))
        return
    sizes = sorted(options.jobs)
    rounds = [{jobs: _loaded(jobs) for jobs in sizes} for _ in range(options.repeat)]
    figures = {jobs: {key: median(key, jobs, rounds) for key in rounds[0][jobs]} for jobs in sizes}
    print(f"{'jobs':>6}  {'load s':>8}  {'cpu s':>8}  {'snapshot s':>10}")
    for jobs, found in figures.items():
        print(f"{jobs:6}  {found['load_s']:8.2f}  {found['cpu_s']:8.2f}  {found['snapshot_s']:10.2f}")
    few, many = sizes[0], sizes[-1]
    whole_s = figures[many]["load_s"]
    each_ms = (whole_s - figures[few]["load_s"]) / (many - few) * 1000
    print(f"{many} jobs load in {whole_s:.2f} s, wanted < {MOST_S:g} s: {_verdict(whole_s < MOST_S)}")
    print(f"each adds {each_ms:.1f} ms, wanted < {MOST_MS_EACH:g} ms: {_verdict(each_ms < MOST_MS_EACH)}")


def load(number: int) -> dict[str, float]:
    """Load that many jobs, each with schedule, webhook and checks, and return the times in seconds."""
    from dagster._core.remote_representation.external_data import RepositorySnap
    from sqlalchemy import Column, Integer, MetaData, String, Table

    from sync_defs import TableSync
    from sync_defs.orchestration import build_sync_definitions

    def fetch() -> list[dict[str, object]]:
        return []

    table = Table("stock", MetaData(), Column("sku", String(40), primary_key=True), Column("n", Integer))
    jobs = {
        f"job_{index}": TableSync(
            fetch, name=f"job_{index}", target=table, key="sku", fields={"n": "n"}, on_missing="delete", every="1h"
        )
        for index in range(number)
    }
    began, cpu_began = time.perf_counter(), time.process_time()
    repository = build_sync_definitions(jobs, database_url=URL).get_repository_def()
    loaded, cpu = time.perf_counter(), time.process_time()
    RepositorySnap.from_def(repository)
    return {
        "load_s": loaded - began,
        "cpu_s": cpu - cpu_began,
        "snapshot_s": time.perf_counter() - loaded,
    }


def median(key: str, jobs: int, rounds: list[dict[int, dict[str, float]]]) -> float:
    return statistics.median(found[jobs][key] for found in rounds)


def _loaded(jobs: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.definitions", "--child", "--jobs", str(jobs)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "missed"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.definitions", description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 100, 200], help="numbers of jobs: 1 100 200")
    parser.add_argument("--repeat", type=int, default=5, help="rounds, of which the median counts (default: 5)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
