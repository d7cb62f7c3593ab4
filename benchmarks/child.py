"""Entry of a measured process: reads a task from its input, does it, and prints what it cost."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module

from benchmarks.measure import Meter, SqliteMeter
from benchmarks.tasks import Task, Work

# By name, so that a process loads no more than its task needs.
_TASKS = {
    "parse": "sources.parse",
    "bulk_load": "references.bulk_load",
    "update_all": "references.update_all",
    "upsert": "references.upsert",
    "orm_once": "references.orm_once",
    "orm_each": "references.orm_each",
    "product": "product.sync_product",
    "articles": "product.sync_article",
    "callbacks": "product.sync_callbacks",
    "known_callbacks": "product.sync_known_callbacks",
    "dagster": "dagster_run.sync_in_dagster",
}


def main() -> None:
    """Measure one task; what the work itself prints goes to the errors, so that the answer stands alone."""
    answer, sys.stdout = sys.stdout, sys.stderr
    task = Task(**json.load(sys.stdin))
    module, _, name = _TASKS[task.name].partition(".")
    prepare: Callable[[Task], Work] = getattr(import_module(f"benchmarks.{module}"), name)
    meter = _meter_for(task)
    work = prepare(task)
    meter.start()
    told = work()
    json.dump({"figures": asdict(meter.stop()), "told": told}, answer)


def _meter_for(task: Task) -> Meter:
    if task.url is None:
        return Meter()
    if task.kind == "sqlite":
        return SqliteMeter()
    from benchmarks.servers import MariadbMeter, PostgresqlMeter

    return (PostgresqlMeter if task.kind == "postgresql" else MariadbMeter)(task.url, task.table)


if __name__ == "__main__":
    main()
