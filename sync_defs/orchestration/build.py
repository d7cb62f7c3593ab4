"""All definitions of a deployment's jobs."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from sync_defs.errors import ConfigurationError
from sync_defs.job import Job
from sync_defs.orchestration.asset import asset_definitions
from sync_defs.orchestration.doorbell import inbox_sensor, poll_seconds
from sync_defs.orchestration.handoff import handoff_io_manager
from sync_defs.orchestration.inbox_job import inbox_job
from sync_defs.orchestration.names import DATABASE_KEY, HANDOFF_KEY
from sync_defs.store import Database


def build_sync_definitions(
    jobs: Mapping[str, Job],
    *,
    database_url: str,
    resources: Mapping[str, Any] | None = None,
    max_runtime_s: int = 6 * 3600,
    executor: dg.ExecutorDefinition = dg.in_process_executor,
) -> dg.Definitions:
    """Return an asset, a job, a schedule, a sensor and an inbox job for each sync job; opens no connection.

    Args:
        jobs: the sync jobs by name, as `load_jobs` returns them.
        database_url: the database that holds targets and bookkeeping; not shown anywhere in Dagster with its password.
        resources: what the jobs' fetches need, by parameter name: Dagster resources or plain objects.
        max_runtime_s: after so many seconds Dagster gives a run up, also one whose process is gone.
        executor: runs the ops; a process for each op takes 7 to 13 s where one process for all takes 3.

    Raises:
        ConfigurationError: a job is not valid, a resource is absent or has a reserved name, or the URL is malformed.

    Example:
        ```python
        defs = build_sync_definitions(
            load_jobs("my_project.jobs"), database_url="sqlite:///shop.db", resources={"erp": ErpResource()}
        )
        ```
    """
    given = dict(resources or {})
    _check(jobs, given)
    with Database(database_url) as database:
        kind, label = database.dialect.name, database.label
    kind = _KINDS.get(kind, kind)
    parts = [asset_definitions(job, kind=kind, max_runtime_s=max_runtime_s) for job in jobs.values()]
    listening = [job for job in jobs.values() if job.webhook is not None]
    parts += [inbox_definitions(job, poll_s=poll_seconds(len(listening))) for job in listening]
    return dg.Definitions.merge(
        *parts,
        dg.Definitions(
            resources={DATABASE_KEY: database_resource(database_url, label), HANDOFF_KEY: handoff_io_manager, **given},
            executor=executor,
        ),
    )


def inbox_definitions(job: Job, *, poll_s: float) -> dg.Definitions:
    """Return a job's inbox job and the sensor that starts it."""
    return dg.Definitions(jobs=[inbox_job(job)], sensors=[inbox_sensor(job, poll_s=poll_s)])


_KINDS = {"postgresql": "postgres"}
"""Names under which Dagster has an icon."""


def database_resource(url: str, label: str) -> dg.ResourceDefinition:
    """Return the resource whose value is an open `Database`; it has no config, so that no page shows the URL."""

    @dg.resource(description=f"The database of targets and bookkeeping: {label}")
    def database(_context: dg.InitResourceContext) -> Iterator[Database]:
        with Database(url) as opened:
            yield opened

    return database


def _check(jobs: Mapping[str, Job], resources: Mapping[str, Any]) -> None:
    taken = {DATABASE_KEY, HANDOFF_KEY} & resources.keys()
    if taken:
        raise ConfigurationError(f"the resource name {min(taken)!r} is reserved; choose another one")
    for job in jobs.values():
        job.validate()
        absent = job.resource_names - resources.keys()
        if absent:
            raise ConfigurationError(
                f"job {job.name!r} needs the resource {min(absent)!r}; pass it in resources=", code="missing_resource"
            )
