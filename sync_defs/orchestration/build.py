"""All definitions of a deployment's jobs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import dagster as dg

from sync_defs.errors import ConfigurationError
from sync_defs.inbox.inline import InlineWorker
from sync_defs.job import Job
from sync_defs.options import CRON_HINT
from sync_defs.orchestration.asset import asset_definitions
from sync_defs.orchestration.doorbell import inbox_sensors
from sync_defs.orchestration.ghosts import Ghosts
from sync_defs.orchestration.handoff import handoff_io_manager
from sync_defs.orchestration.inbox_job import inbox_job
from sync_defs.orchestration.job_checks import standing_check, standing_checks
from sync_defs.orchestration.names import (
    DATABASE_KEY,
    HANDOFF_KEY,
    INBOX_CHECK_JOB,
    INBOX_CHECKS,
    MAX_RUNTIME_TAG,
    Names,
    SyncNames,
)
from sync_defs.orchestration.operator_jobs import MAX_RUNTIME_S, operator_jobs
from sync_defs.orchestration.prune_job import prune_definitions
from sync_defs.orchestration.ticks import Ticks
from sync_defs.orchestration.translator import SyncTranslator, SyncTranslatorData
from sync_defs.orchestration.watch import Alerting, watch_sensor
from sync_defs.policies import Delivery
from sync_defs.store import Database

Sensors = Literal["auto", "each", "shared"]
MAX_SYNC_S: Final = 6 * 3600
SHARED_ABOVE: Final = 4
"""Each sensor takes a thread for most of the time, and `dagster.yaml` gives four: more jobs would wait in turn."""

_AT_ONCE: Final = {dg.in_process_executor.name, dg.multiprocess_executor.name}
"""Executors that begin an op as soon as the one before has ended."""
_KINDS: Final = {"postgresql": "postgres"}


def build_sync_definitions(  # noqa: PLR0913 - the settings of a deployment, by name
    jobs: Mapping[str, Job],
    *,
    database_url: str,
    resources: Mapping[str, Any] | None = None,
    max_runtime_s: int = MAX_SYNC_S,
    history_days: int = 90,
    executor: dg.ExecutorDefinition = dg.in_process_executor,
    sensors: Sensors = "auto",
    alerting: Alerting | None = None,
    translator: SyncTranslator | None = None,
) -> dg.Definitions:
    """Return an asset, a job, a schedule, a sensor and an inbox job for each sync job; opens no connection.

    The checks of each job come with them, a daily job that prunes the bookkeeping, and the jobs with which a person
    sees, retries and discards messages.

    Args:
        jobs: the sync jobs by name, as `load_jobs` returns them.
        database_url: the database that holds targets and bookkeeping; not shown anywhere in Dagster with its password.
        resources: what the jobs' fetches need, by parameter name: Dagster resources or plain objects.
        max_runtime_s: after so many seconds Dagster gives a run up, also one whose process is gone.
        history_days: how long the daily job keeps changes and runs; 0 for ever.
        executor: runs the ops of syncs; a process for each op takes 7 to 13 s where one process for all takes 3.
            Inbox jobs stay in one process.
        sensors: `each` gives every job that takes webhooks an inbox sensor of its own, `shared` one for all; `auto`:
            one for all where there are more jobs than the four threads that Dagster evaluates sensors with.
        translator: what the definitions of a job are called; default: what follows from the job's name.
        alerting: whom to tell of jobs whose state has changed; default: nobody, the watch only reports checks.

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
    translated = _translate(jobs, translator or SyncTranslator(), kind=target_kind(database_url))
    names = Names(found for _, found in translated.values())
    parts = [
        job_definitions(jobs[name], spec, found, max_runtime_s=max_runtime_s)
        for name, (spec, found) in translated.items()
    ]
    listening = [job for job in jobs.values() if job.webhook is not None]
    if listening:
        parts.append(
            inbox_definitions(
                listening,
                names,
                database_url=database_url,
                sensors=sensors,
                ops_are_queued=executor.name not in _AT_ONCE,
            )
        )
    shared = shared_definitions(
        jobs, names, database_url=database_url, history_days=history_days, alerting=alerting, executor=executor
    )
    return dg.Definitions.merge(*parts, shared, dg.Definitions(resources=given))


def job_definitions(
    job: Job, spec: dg.AssetSpec, names: SyncNames, *, max_runtime_s: int = MAX_SYNC_S
) -> dg.Definitions:
    """Return a job's asset with all its checks, the Dagster job that materializes it, and its schedule."""
    standing = standing_check(job, names)
    checks = dg.Definitions(asset_checks=[] if standing is None else [standing])
    return dg.Definitions.merge(asset_definitions(job, spec, names, max_runtime_s=max_runtime_s), checks)


def shared_definitions(
    jobs: Mapping[str, Job],
    names: Names,
    *,
    database_url: str,
    history_days: int = 90,
    alerting: Alerting | None = None,
    executor: dg.ExecutorDefinition = dg.in_process_executor,
) -> dg.Definitions:
    """Return what all jobs of a deployment share: watch, jobs of operators, pruning, the database and the executor."""
    listening = [job for job in jobs.values() if job.webhook is not None]
    watch = [watch_sensor(list(jobs.values()), alerting or Alerting(), names)] if jobs else []
    with Database(database_url) as database:
        label = database.label
    return dg.Definitions.merge(
        operator_definitions(jobs, names, listening=listening),
        prune_definitions(jobs, history_days=history_days),
        dg.Definitions(
            sensors=watch,
            resources={DATABASE_KEY: database_resource(database_url, label), HANDOFF_KEY: handoff_io_manager},
            executor=executor,
        ),
    )


def target_kind(database_url: str) -> str:
    """Return the kind of a database, by the name under which Dagster has an icon."""
    with Database(database_url) as database:
        kind = database.dialect.name
    return _KINDS.get(kind, kind)


def _translate(
    jobs: Mapping[str, Job], translator: SyncTranslator, *, kind: str
) -> dict[str, tuple[dg.AssetSpec, SyncNames]]:
    translated: dict[str, tuple[dg.AssetSpec, SyncNames]] = {}
    owner: dict[object, str] = {}
    for name, job in jobs.items():
        spec, names = translated[name] = translator.translate(SyncTranslatorData(job=job, target_kind=kind))
        for what in (spec.key, names.job, names.inbox_job, names.schedule, names.inbox_sensor):
            shown = what.to_user_string() if isinstance(what, dg.AssetKey) else what
            if owner.setdefault(what, name) != name:
                raise ConfigurationError(
                    f"the translator gives {shown!r} to the jobs {owner[what]!r} and {name!r}; each needs its own"
                )
    return translated


def inbox_definitions(
    jobs: Sequence[Job], names: Names, *, database_url: str, sensors: Sensors, ops_are_queued: bool = False
) -> dg.Definitions:
    """Return the inbox jobs, and the sensors or the one sensor that starts them."""
    if sensors not in get_args(Sensors):
        raise ConfigurationError(f"sensors={sensors!r}; use {', '.join(map(repr, get_args(Sensors)))}")
    inline = [job for job in jobs if job.delivery == Delivery.INLINE]
    in_runs = [job for job in jobs if job not in inline]
    is_shared = sensors == "shared" or (sensors == "auto" and len(jobs) > SHARED_ABOVE)
    inbox_jobs = [
        inbox_job(
            job,
            names=names.of(job.name),
            is_shared=is_shared,
            others={names.of(other.name).inbox_job: other for other in in_runs if other is not job},
        )
        for job in jobs
    ]
    bells = inbox_sensors(
        jobs,
        names=names,
        is_shared=is_shared,
        ghosts=Ghosts(jobs, names, ops_are_queued=ops_are_queued),
        worker=InlineWorker(inline, database_url=database_url) if inline else None,
    )
    return dg.Definitions(jobs=inbox_jobs, sensors=bells)


def operator_definitions(jobs: Mapping[str, Job], names: Names, *, listening: Sequence[Job]) -> dg.Definitions:
    """Return the jobs with which a person sees, retries and discards messages, and checks all inboxes."""
    checks = [
        dg.AssetCheckKey(names.of(job.name).asset, name)
        for job in listening
        for name in standing_checks(job)
        if name in INBOX_CHECKS
    ]
    check_all = dg.define_asset_job(
        INBOX_CHECK_JOB,
        selection=dg.AssetSelection.checks(*checks),
        description="Checks every inbox for dead and late messages; runs of asset and inbox check their own.",
        tags={MAX_RUNTIME_TAG: str(MAX_RUNTIME_S)},
    )
    return dg.Definitions(jobs=[*operator_jobs(jobs), *([check_all] if checks else [])])


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
        _check_cron(job)
        absent = job.resource_names - resources.keys()
        if absent:
            raise ConfigurationError(
                f"job {job.name!r} needs the resource {min(absent)!r}; pass it in resources=", code="missing_resource"
            )


def _check_cron(job: Job) -> None:
    """Ask Dagster's scheduler itself what it makes of a cron expression."""
    cron = job.cron
    if cron is None:
        return
    try:
        Ticks(cron, job.timezone).newest(datetime.now(UTC), 1)
    except dg.DagsterInvalidDefinitionError:
        raise ConfigurationError(f"job {job.name!r}: cron={cron!r} {CRON_HINT}") from None
    except ValueError:
        raise ConfigurationError(
            f"job {job.name!r}: cron={cron!r} names a date that never comes, such as 31 April; correct day or month"
        ) from None
