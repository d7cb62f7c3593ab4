"""The work of `product` as a run of Dagster, in one process, its history in SQLite as on a fresh start."""

import tempfile
from typing import Any

import dagster as dg

from benchmarks.product import fetch_of, product_job, told_of, warm_up
from benchmarks.tasks import Task, Work
from sync_defs import Database, Job
from sync_defs.orchestration import build_sync_definitions
from sync_defs.store import SqlStore


def sync_in_dagster(task: Task) -> Work:
    """Sync `product` by launching its Dagster job in this process."""
    instance = dg.DagsterInstance.local_temp(tempfile.mkdtemp(prefix="sync_benchmark_dagster_"))
    job = product_job(**task.options.get("job", {}))
    if task.warm_url:
        warm_up(task.warm_url, lambda url, fetch: _run(job, url, fetch, instance))
    fetch, url = fetch_of(task), str(task.url)

    def work() -> dict[str, Any]:
        _run(job, url, fetch, instance)
        with Database(url) as database:
            [results] = SqlStore(database).recent_results(job.name, limit=1)
        return told_of(results)

    return work


def _run(job: Job, url: str, fetch: Any, instance: dg.DagsterInstance) -> None:
    definitions = build_sync_definitions({job.name: job}, database_url=url, resources={"source": fetch})
    definitions.resolve_job_def(f"sync_{job.name}").execute_in_process(instance=instance)
