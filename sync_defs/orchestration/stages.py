"""The three ops of an asset: fetch, diff, upsert. Each can be retried, or run in another process, from a handle."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import dagster as dg

from sync_defs import engine
from sync_defs.engine import RunRequest, StageHandle
from sync_defs.errors import ConfigurationError
from sync_defs.job import Job
from sync_defs.orchestration.config import LAUNCHPAD, request_for
from sync_defs.orchestration.failures import told_plainly
from sync_defs.orchestration.ghosts import sign_of_life, sign_of_waiting
from sync_defs.orchestration.job_checks import run_checks, run_verdicts
from sync_defs.orchestration.metadata import results_metadata
from sync_defs.orchestration.names import (
    DATABASE_KEY,
    GRAPH_OUTPUT_KEY,
    HANDOFF_KEY,
    TRIGGER_TAG,
    SyncNames,
    sync_run_id,
)
from sync_defs.orchestration.progress import LogProgress
from sync_defs.orchestration.retries import Attempts
from sync_defs.results import RunStatus, SampledChange, Trigger
from sync_defs.store import Database, SqlStore
from sync_defs.store.run_history import last_syncs

LEASE_WAIT_S: Final = 75.0
"""Longer than a killed run's lease lives, so that the next run gets it."""


def fetch_op(job: Job, names: SyncNames) -> dg.OpDefinition:
    """Return the op that stages what the source has."""

    @dg.op(
        name=f"{job.name}_fetch",
        description="Fetch the records and stage them in the database; the target is not touched.",
        out=dg.Out(dict, description="Where the records wait, and their number.", io_manager_key=HANDOFF_KEY),
        config_schema=dict(LAUNCHPAD),
        required_resource_keys={DATABASE_KEY, *job.resource_names},
        pool=names.pool,
    )
    def fetch(context: dg.OpExecutionContext) -> dict:
        with _told(job, context, attempts_of(job, context)):
            request = request_for(
                context.op_config,
                run_id=sync_run_id(context.run_id, job.name),
                trigger=_trigger(context.run.tags),
                wait_s=LEASE_WAIT_S,
                holder=f"Dagster run {context.run_id}",
                partition=context.partition_key if context.has_partition_key else None,
            )
            resources = {name: getattr(context.resources, name) for name in job.resource_names}
            with _ready_store(context) as store:
                observer = LogProgress(context.log, expected=_expected(job, store.database, request))
                handle = engine.fetch(job, store, request, resources=resources, observer=observer)
        return handle.to_dict()

    return fetch


def diff_op(job: Job, names: SyncNames) -> dg.OpDefinition:
    """Return the op that compares stage and target."""

    @dg.op(
        name=f"{job.name}_diff",
        description="Compare the staged records with the target: what is to be created, updated, left alone.",
        ins={"staged": dg.In(dict)},
        out=dg.Out(dict, description="The same handle, and a bounded sample.", io_manager_key=HANDOFF_KEY),
        required_resource_keys={DATABASE_KEY},
        pool=names.pool,
    )
    def diff(context: dg.OpExecutionContext, staged: dict) -> dict:
        attempts = attempts_of(job, context)
        with _told(job, context, attempts):
            handle = StageHandle.from_dict(staged)
            observer = LogProgress(context.log)
            with _ready_store(context) as store:
                _require_stage(store, handle)
                counts = engine.diff(job, store, handle, observer=observer, is_tried_again=attempts.will_follow)
        return {"handle": staged, "samples": [asdict(sample) for sample in counts.samples]}

    return diff


def upsert_op(job: Job, names: SyncNames) -> dg.OpDefinition:
    """Return the op that writes what differs; a dry run yields neither materialization nor check."""

    @dg.op(
        name=f"{job.name}_upsert",
        description="Write what differs in one transaction, with the history and the account of it.",
        ins={"diffed": dg.In(dict)},
        out={
            "result": dg.Out(
                dg.Nothing,
                is_required=False,
                description="The target, in step with the source.",
                io_manager_key=HANDOFF_KEY,
            ),
            **{name: dg.Out(dg.Nothing, is_required=False, io_manager_key=HANDOFF_KEY) for name in run_checks(job)},
        },
        required_resource_keys={DATABASE_KEY, HANDOFF_KEY, GRAPH_OUTPUT_KEY},
        pool=names.pool,
    )
    def upsert(context: dg.OpExecutionContext, diffed: dict) -> Iterator[Any]:
        attempts = attempts_of(job, context)
        with _told(job, context, attempts):
            handle = StageHandle.from_dict(diffed["handle"])
            samples = [_sample(plain) for plain in diffed["samples"]]
            observer = LogProgress(context.log, expected=handle.fetched)
            with _ready_store(context) as store:
                _require_stage(store, handle)
                results = engine.upsert(
                    job, store, handle, samples=samples, observer=observer, is_tried_again=attempts.will_follow
                )
                verdicts = [] if results.dry_run else list(run_verdicts(job, store.database, results))
        getattr(context.resources, HANDOFF_KEY).forget(context.run_id, names.graph)
        told = results_metadata(results, names.asset)
        if results.dry_run:
            context.log_event(dg.AssetObservation(names.asset, partition=results.partition, metadata=told))
            return
        yield dg.Output(None, "result", metadata=told)
        for verdict in verdicts:
            yield verdict.result(names.asset)

    return upsert


def _expected(job: Job, database: Database, request: RunRequest) -> int | None:
    """Return how many records the last full fetch brought, where this one is to bring all of them too."""
    if request.external_ids or request.partition is not None or (job.is_incremental and not request.full):
        return len(request.external_ids) or None
    newest = last_syncs(database, job.name, limit=1, is_full=True)
    return newest[0].fetched if newest else None


def attempts_of(job: Job, context: dg.OpExecutionContext) -> Attempts:
    """Return where an op stands with the attempts that its job allows."""
    return Attempts(policy=job.retries, failed=context.retry_number)


@contextmanager
def _told(job: Job, context: dg.OpExecutionContext, attempts: Attempts) -> Generator[None]:
    """Tell errors plainly, and show that the run is not gone while it waits for the next attempt."""
    database: Database = getattr(context.resources, DATABASE_KEY)
    with told_plainly(job.name, attempts, on_wait=partial(sign_of_waiting, database, context.run_id)):
        yield


@contextmanager
def _ready_store(context: dg.OpExecutionContext) -> Generator[SqlStore]:
    """Give the store for an op, and show meanwhile that the run is at work."""
    database: Database = getattr(context.resources, DATABASE_KEY)
    database.ensure_ready()
    with sign_of_life(database, context.run_id):
        yield SqlStore(database)


def _trigger(tags: Mapping[str, str]) -> Trigger:
    return Trigger(tags.get(TRIGGER_TAG, Trigger.MANUAL))


def _require_stage(store: SqlStore, handle: StageHandle) -> None:
    if store.load_run(handle.run_id).status is RunStatus.FAILED:
        raise ConfigurationError(
            "the run failed before, so its staged records are gone; re-execute all steps, not only failed ones",
            code="stage_gone",
        )


def _sample(plain: Mapping[str, Any]) -> SampledChange:
    changes = {column: (old, new) for column, (old, new) in plain["changes"].items()}
    return SampledChange(external_id=plain["external_id"], changes=changes)
