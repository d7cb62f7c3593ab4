"""The check of a job's inbox: it warns while messages are dead, whether or not anything runs."""

from typing import Any

import dagster as dg

from sync_defs.inbox import Inbox
from sync_defs.job import Job
from sync_defs.orchestration.failures import told_plainly
from sync_defs.orchestration.metadata import inbox_metadata
from sync_defs.orchestration.names import DATABASE_KEY, INBOX_CHECK_NAME, SyncNames
from sync_defs.store import Database


def inbox_check(job: Job) -> dg.AssetChecksDefinition:
    """Return the check; it runs at the end of each run that materializes the asset, and by itself.

    The inbox job evaluates it too, by `inbox_evaluation`.
    """

    @dg.asset_check(
        asset=SyncNames(job.name).asset,
        name=INBOX_CHECK_NAME,
        description="No webhook message waits for a person; fails as a warning, since the others are applied.",
        required_resource_keys={DATABASE_KEY},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        database: Database = getattr(context.resources, DATABASE_KEY)
        with told_plainly(job.name):
            database.ensure_ready()
            return dg.AssetCheckResult(**_verdict(Inbox(database), job.name))

    return check


def inbox_evaluation(inbox: Inbox, job: str) -> dg.AssetCheckEvaluation:
    """Return the check's verdict on a job's inbox as it is now, as an event to be logged."""
    return dg.AssetCheckEvaluation(asset_key=dg.AssetKey(job), check_name=INBOX_CHECK_NAME, **_verdict(inbox, job))


def _verdict(inbox: Inbox, job: str) -> dict[str, Any]:
    counts = inbox.counts(job)
    return {
        "passed": counts.dead == 0,
        "severity": dg.AssetCheckSeverity.WARN,
        "metadata": inbox_metadata(counts, inbox.list_messages(job, dead_only=True) if counts.dead else []),
    }
