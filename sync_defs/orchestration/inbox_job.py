"""The Dagster job that applies waiting webhook messages until none is due, and tells the asset about it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import dagster as dg

from sync_defs.inbox import Inbox
from sync_defs.inbox.attendance import attending
from sync_defs.inbox.drain import DrainOptions, DrainResults, drain
from sync_defs.job import Job
from sync_defs.orchestration.failures import told_plainly
from sync_defs.orchestration.metadata import check_metadata, drain_metadata, drain_summary, items_table
from sync_defs.orchestration.names import CHECK_NAME, DATABASE_KEY, HANDOFF_KEY, MAX_RUNTIME_TAG, SyncNames
from sync_defs.orchestration.stages import MOST_OPEN
from sync_defs.results import Action
from sync_defs.store import Database, SqlStore, open_rejects

MAX_RUNTIME_S: Final = 3600
"""A drain ends after 15 minutes by itself; one that does not is gone."""
_BURST = DrainOptions(linger_s=1.0, max_s=15.0)
"""What one report covers: messages that come within a second of each other, and at most 15 seconds of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a run of the inbox job stays, and the clock it lives by."""

    linger_s: float = 30.0
    """How long it waits for more once nothing is due: a process that waits is quicker than one that starts."""
    stay_s: float = 900.0
    """When it ends though more is due; the sensor starts the next one."""
    burst: DrainOptions = _BURST
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def inbox_job(job: Job, *, pace: Pace | None = None) -> dg.JobDefinition:
    """Return the job of one op that drains a sync job's inbox.

    What it applies is a materialization of the sync job's asset, so that what depends on the asset is told.
    """
    names = SyncNames(job.name)

    @dg.op(
        name=f"{job.name}_drain",
        description="Claim due messages and apply them, row, history and acknowledgement in one transaction.",
        required_resource_keys={DATABASE_KEY},
        out=dg.Out(dg.Nothing, io_manager_key=HANDOFF_KEY),
    )
    def drain_inbox(context: dg.OpExecutionContext) -> None:
        database: Database = getattr(context.resources, DATABASE_KEY)
        store = SqlStore(database)
        with told_plainly(job.name):
            database.ensure_ready()
            with attending(database, job.name, token=context.run_id):
                for results in bursts(job, store, run_id=context.run_id, pace=pace or Pace()):
                    _report(context, store, results)

    @dg.job(
        name=names.inbox_job,
        description=f"Applies webhook messages for {job.name} until none is due; its sensor starts it.",
        # Ahead of full syncs in the queue: a message is one row that somebody waits for.
        tags={MAX_RUNTIME_TAG: str(MAX_RUNTIME_S), "dagster/priority": "10"},
    )
    def run_inbox() -> None:
        drain_inbox.alias("drain")()

    return run_inbox


def bursts(job: Job, store: SqlStore, *, run_id: str, pace: Pace) -> Iterator[DrainResults]:
    """Drain whatever is due, and yield the account of each burst of messages; end once none has come for a while."""
    inbox = Inbox(store.database)
    started = idle_since = pace.monotonic()
    number = 0
    while pace.monotonic() - started < pace.stay_s:
        if inbox.has_due(job.name):
            number += 1
            yield drain(job, store, inbox, run_id=f"{run_id}.{number}", options=pace.burst)
            idle_since = pace.monotonic()
        elif pace.monotonic() - idle_since >= pace.linger_s:
            break
        else:
            pace.sleep(pace.burst.poll_s)


def _report(context: dg.OpExecutionContext, store: SqlStore, results: DrainResults) -> None:
    context.log.info(drain_summary(results))
    if results.applied:
        metadata = drain_metadata(results, row_count=_row_count(store, results))
        context.log_event(dg.AssetMaterialization(results.name, metadata=metadata))
    if results.applied or results.errors:
        context.log_event(cast("dg.AssetMaterialization", _check(store, results)))  # accepted, though not in the type


def _check(store: SqlStore, results: DrainResults) -> dg.AssetCheckEvaluation:
    still_open = len(open_rejects(store.database, results.name, limit=MOST_OPEN))
    rejected = results.retried + results.dead
    refused = [item for item in results.items if item.action is Action.REJECTED]
    metadata: dict[str, Any] = check_metadata(
        rejected=rejected, still_open=still_open, table=items_table(refused) if refused else None
    )
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(results.name),
        check_name=CHECK_NAME,
        passed=rejected == 0 and still_open == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={key: dg.MetadataValue.int(v) if isinstance(v, int) else v for key, v in metadata.items()},
    )


def _row_count(store: SqlStore, results: DrainResults) -> int | None:
    newest = store.recent_results(results.name, limit=1)
    return newest[0].row_count if newest else None
