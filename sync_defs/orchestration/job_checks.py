"""The checks of a job's asset: those of each run, and the standing ones, which can change without a run."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

import dagster as dg

from sync_defs.checks import SCHEDULE
from sync_defs.inbox import Inbox
from sync_defs.job import Job
from sync_defs.orchestration.failures import told_plainly
from sync_defs.orchestration.metadata import rejects_table
from sync_defs.orchestration.names import (
    CHECK_NAME,
    DATABASE_KEY,
    FETCHED_CHECK,
    FRESHNESS_CHECK,
    INBOX_CHECK_NAME,
    INBOX_LAG_CHECK,
    OUTCOMES_CHECK,
    WITHHELD_CHECK,
    SyncNames,
)
from sync_defs.orchestration.ticks import ticks_of
from sync_defs.orchestration.verdicts import (
    EARLIER,
    Verdict,
    grace,
    judge_dead,
    judge_fetched,
    judge_freshness,
    judge_lag,
    judge_outcomes,
    judge_rejects,
    judge_withheld,
)
from sync_defs.policies import MissingAction
from sync_defs.results import SyncResults
from sync_defs.store import Database, open_rejects
from sync_defs.store.run_history import last_syncs

MOST_OPEN: Final = 1_000
"""Open rejects are counted no further."""
DESCRIPTIONS: Final = {
    OUTCOMES_CHECK: "Each fetched record has exactly one outcome; an error, since the account of the run is wrong.",
    CHECK_NAME: "No record of the source waits for retry; fails as a warning, since the others are in, and as an error "
    "where more than the job's limit of a run's records were rejected.",
    WITHHELD_CHECK: "No guard, and no foreign key, held back a delete or mark in the newest full fetch; a warning.",
    FETCHED_CHECK: "The newest full fetch brought about as many records as the ones before it; a warning.",
    FRESHNESS_CHECK: "The sync that was due last has succeeded; a warning if one is missing, an error if two are. "
    "Messages and chosen ids do not count.",
    INBOX_CHECK_NAME: "No webhook message waits for a person; fails as a warning, since the others are applied.",
    INBOX_LAG_CHECK: "No webhook message has been due for longer than the job's limit; a warning, an error at twelve "
    "times as long.",
}


def run_checks(job: Job) -> list[str]:
    """Return the names of the checks that the end of a run evaluates."""
    wanted = {
        OUTCOMES_CHECK: job.checks.outcomes,
        CHECK_NAME: job.checks.rejected is not None,
        WITHHELD_CHECK: job.checks.withheld and job.missing_policy.action is not MissingAction.KEEP,
        FETCHED_CHECK: job.checks.fetched is not None and not job.is_incremental and not job.is_partitioned,
    }
    return [name for name, is_wanted in wanted.items() if is_wanted]


def standing_checks(job: Job) -> list[str]:
    """Return the names of the checks that can change without a run."""
    is_scheduled = job.cron_schedule is not None or job.checks.freshness != SCHEDULE
    listens = job.webhook is not None
    wanted = {
        FRESHNESS_CHECK: job.checks.freshness is not None and is_scheduled,
        INBOX_CHECK_NAME: listens and job.checks.dead_messages,
        INBOX_LAG_CHECK: listens and job.checks.inbox_lag is not None,
    }
    return [name for name, is_wanted in wanted.items() if is_wanted]


def check_specs(asset: dg.AssetKey, names: Sequence[str]) -> list[dg.AssetCheckSpec]:
    """Return the specs of an asset's checks, each with what it says and when it fails."""
    return [dg.AssetCheckSpec(name, asset=asset, description=DESCRIPTIONS[name]) for name in names]


def freshness_policy(job: Job) -> dg.FreshnessPolicy | None:
    """Return Dagster's own policy for the asset, which counts whatever materializes it, messages too."""
    limit, ticks = job.checks.freshness, ticks_of(job)
    if isinstance(limit, timedelta):
        return dg.FreshnessPolicy.time_window(warn_window=limit, fail_window=2 * limit)
    if limit is None or ticks is None:
        return None
    warn_window = ticks.longest_gap + grace(ticks.longest_gap)
    return dg.FreshnessPolicy.time_window(warn_window=warn_window, fail_window=warn_window + ticks.longest_gap)


def run_verdicts(job: Job, database: Database, results: SyncResults) -> Iterator[Verdict]:
    """Yield what the checks of a run say, once it is committed."""
    names = run_checks(job)
    if OUTCOMES_CHECK in names:
        yield judge_outcomes(results)
    if job.checks.rejected is not None:
        table = rejects_table(results) if results.errors else None
        yield rejects_verdict(job, database, rejected=results.rejected, fetched=results.fetched, table=table)
    if {WITHHELD_CHECK, FETCHED_CHECK}.isdisjoint(names):
        return
    full = last_syncs(database, job.name, limit=EARLIER + 1, is_full=True)
    if WITHHELD_CHECK in names:
        yield judge_withheld(full[0] if full else None)
    if FETCHED_CHECK in names:
        yield judge_fetched(full, limit=job.checks.fetched or 0.0)


def rejects_verdict(
    job: Job, database: Database, *, rejected: int, fetched: int, table: dg.TableMetadataValue | None
) -> Verdict:
    """Return what the check of rejected records says after a run, or after messages were applied."""
    return judge_rejects(
        rejected=rejected,
        fetched=fetched,
        still_open=len(open_rejects(database, job.name, limit=MOST_OPEN)),
        limit=1.0 if job.checks.rejected is None else job.checks.rejected,
        table=table,
    )


def standing_verdicts(job: Job, database: Database, names: Sequence[str] | None = None) -> Iterator[Verdict]:
    """Yield what the standing checks say now; `names` chooses some of them."""
    wanted = [name for name in standing_checks(job) if names is None or name in names]
    if FRESHNESS_CHECK in wanted:
        newest = last_syncs(database, job.name, limit=1)
        limit = job.checks.freshness
        yield judge_freshness(
            newest[0].started_at if newest else None,
            now=database.now(),
            ticks=ticks_of(job),
            age=None if isinstance(limit, str) else limit,
        )
    if {INBOX_CHECK_NAME, INBOX_LAG_CHECK}.isdisjoint(wanted):
        return
    inbox = Inbox(database)
    counts = inbox.counts(job.name)
    if INBOX_CHECK_NAME in wanted:
        yield judge_dead(counts, inbox.list_messages(job.name, dead_only=True) if counts.dead else [])
    if INBOX_LAG_CHECK in wanted and job.checks.inbox_lag is not None:
        yield judge_lag(counts, limit=job.checks.inbox_lag)


def standing_check(job: Job, names: SyncNames) -> dg.AssetChecksDefinition | None:
    """Return the definition of the standing checks, which a run evaluates at its end and a person by a click."""
    specs = check_specs(names.asset, standing_checks(job))
    if not specs:
        return None

    @dg.multi_asset_check(
        name=names.standing_checks,
        specs=specs,
        can_subset=True,
        description="Judge what can change without a run: how old the last sync is, and what waits in the inbox.",
        required_resource_keys={DATABASE_KEY},
    )
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        database: Database = getattr(context.resources, DATABASE_KEY)
        chosen = [key.name for key in context.selected_asset_check_keys]
        with told_plainly(job.name):
            database.ensure_ready()
            found = list(standing_verdicts(job, database, chosen))
        for verdict in found:
            yield verdict.result(names.asset)

    return check
