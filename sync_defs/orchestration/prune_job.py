"""The Dagster job that prunes the bookkeeping once a day."""

from collections.abc import Collection
from typing import Final

import dagster as dg

from sync_defs.maintenance import prune
from sync_defs.orchestration.failures import told_plainly
from sync_defs.orchestration.names import DATABASE_KEY, HANDOFF_KEY, MAX_RUNTIME_TAG, PRUNE_JOB, PRUNE_SCHEDULE
from sync_defs.store import Database

MAX_RUNTIME_S: Final = 3600
_DAILY: Final = "17 2 * * *"


def prune_definitions(jobs: Collection[str], *, history_days: int) -> dg.Definitions:
    """Return the job that prunes the bookkeeping, and its schedule, which runs from the start.

    Args:
        jobs: the names of all sync jobs; waiting messages of others become dead letters.
        history_days: how long changes and runs are kept; 0 for ever.
    """
    known = frozenset(jobs)

    # No sync job begins with an underscore, so that no graph of one has the op's name.
    @dg.op(
        name=f"_{PRUNE_JOB}",
        description="Delete old changes, runs, handoffs and message ids; bury messages of jobs that are gone.",
        required_resource_keys={DATABASE_KEY},
        out=dg.Out(dg.Nothing, io_manager_key=HANDOFF_KEY),
    )
    def prune_op(context: dg.OpExecutionContext) -> None:
        database: Database = getattr(context.resources, DATABASE_KEY)
        with told_plainly(PRUNE_JOB):
            database.ensure_ready()
            pruned = prune(database, jobs=known, history_days=history_days)
        context.log.info(pruned.summary())

    @dg.job(
        name=PRUNE_JOB,
        description="Deletes what the bookkeeping keeps no longer; `sync-defs db prune` does the same.",
        tags={MAX_RUNTIME_TAG: str(MAX_RUNTIME_S)},
    )
    def run_prune() -> None:
        prune_op.alias("prune")()

    schedule = dg.ScheduleDefinition(
        name=PRUNE_SCHEDULE,
        job=run_prune,
        cron_schedule=_DAILY,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return dg.Definitions(jobs=[run_prune], schedules=[schedule])
