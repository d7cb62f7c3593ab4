"""A sync job as a graph-backed asset, with its Dagster job and its schedule."""

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from tokenize import TokenError
from typing import Any

import dagster as dg

from sync_defs.errors import ConfigurationError
from sync_defs.job import Job, TableSync
from sync_defs.orchestration.config import LAUNCHPAD
from sync_defs.orchestration.description import definition_metadata
from sync_defs.orchestration.job_checks import check_specs, freshness_policy, run_checks, standing_checks
from sync_defs.orchestration.names import MAX_RUNTIME_TAG, TRIGGER_TAG, SyncNames
from sync_defs.orchestration.stages import diff_op, fetch_op, upsert_op
from sync_defs.results import Trigger


def asset_spec(job: Job, *, kind: str) -> dg.AssetSpec:
    """Return what the asset of a job is called and says of itself, before a translator changes it."""
    spec = dg.AssetSpec(
        SyncNames.of(job.name).asset,
        description=describe(job),
        group_name=job.group,
        kinds={kind} if job.source_kind is None else {kind, job.source_kind},
        owners=list(job.owners) or None,
        tags=dict(job.tags) or None,
        code_version=code_version(job),
        metadata=definition_metadata(job, checks=[*run_checks(job), *standing_checks(job)]),
    )
    policy = freshness_policy(job)
    return spec if policy is None else dg.apply_freshness_policy(spec, policy)


def sync_asset(job: Job, spec: dg.AssetSpec, names: SyncNames) -> dg.AssetsDefinition:
    """Return the asset of a job: the graph fetch → diff → upsert, with the checks of a run."""
    checks = run_checks(job)
    # The names of op definitions are shared by all graphs; the aliases are what the run page shows.
    fetch = fetch_op(job, names).alias("fetch")
    diff = diff_op(job, names).alias("diff")
    upsert = upsert_op(job, names).alias("upsert")

    @dg.config_mapping(config_schema=dict(LAUNCHPAD))
    def launchpad(config: Mapping) -> dict:
        # Only fetch needs the options; the run that it begins carries them to the other ops.
        return {"fetch": {"config": config}}

    @dg.graph_asset(
        key=spec.key,
        config=launchpad,
        check_specs=check_specs(spec.key, checks),
        partitions_def=partitions_of(job),
    )
    def graph() -> Mapping[str, dg.AssetsDefinition]:
        written = upsert(diff(fetch()))
        if not checks:  # an op with one output alone gives that output itself
            return {"result": written}
        return {"result": written.result, **{names.check_output(name): getattr(written, name) for name in checks}}

    return graph.map_asset_specs(lambda made: spec.replace_attributes(partitions_def=made.partitions_def))


def asset_definitions(job: Job, spec: dg.AssetSpec, names: SyncNames, *, max_runtime_s: int) -> dg.Definitions:
    """Return a job's asset, the Dagster job that materializes it, and its schedule, which runs from the start."""
    asset = sync_asset(job, spec, names)
    materialize = dg.define_asset_job(
        names.job,
        selection=dg.AssetSelection.assets(asset),
        description=spec.description,
        tags={MAX_RUNTIME_TAG: str(max_runtime_s)},
    )
    schedules = [] if job.cron_schedule is None else [_schedule(job, names, materialize)]
    return dg.Definitions(assets=[asset], jobs=[materialize], schedules=schedules)


def _schedule(job: Job, names: SyncNames, materialize: Any) -> dg.ScheduleDefinition:
    """Return the schedule; of a job with partitions it asks for a run of each, of those of a time for the newest."""
    partitions = partitions_of(job)
    tags = {TRIGGER_TAG: Trigger.SCHEDULE.value}

    def runs(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        if partitions is None:
            yield dg.RunRequest(tags=tags)
            return
        due_at = context.scheduled_execution_time
        if isinstance(partitions, dg.TimeWindowPartitionsDefinition):
            keys = partitions.get_partition_keys(current_time=due_at)[-1:]
        else:
            keys = partitions.get_partition_keys(dynamic_partitions_store=context.instance)
        yield from (dg.RunRequest(run_key=f"{due_at}:{key}", partition_key=key, tags=tags) for key in keys)

    return dg.ScheduleDefinition(
        name=names.schedule,
        job=materialize,
        cron_schedule=job.cron_schedule,
        execution_timezone=job.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        execution_fn=runs,
    )


def partitions_of(job: Job) -> dg.PartitionsDefinition | None:
    """Return the partitions of a job's asset, if it has some.

    Raises:
        ConfigurationError: what the job gives for them is something else, or nothing where its fetch wants a key.
    """
    partitions = job.partitions_def
    if partitions is None and job.is_partitioned:
        raise ConfigurationError(f"job {job.name!r}: the fetch has a parameter partition; give partitions_def= too")
    if partitions is not None and not isinstance(partitions, dg.PartitionsDefinition):
        raise ConfigurationError(
            f"job {job.name!r}: partitions_def is {type(partitions).__name__}; give one of Dagster's, such as "
            "dagster.StaticPartitionsDefinition(['de', 'fr'])"
        )
    return partitions


def describe(job: Job) -> str | None:
    """Return the job's description: its own, or its class's docstring."""
    return job.description or (None if isinstance(job, TableSync) else inspect.getdoc(type(job)))


def code_version(job: Job) -> str | None:
    """Return a fingerprint of the job's source, mapping included; None where there is no source to read."""
    code = job.fetch_external if isinstance(job, TableSync) else type(job)
    try:
        return hashlib.sha256(inspect.getsource(code).encode()).hexdigest()[:12]
    except (OSError, TypeError, TokenError):
        return None
