"""What Dagster is told of applied messages: a materialization of the asset and its check, one of each for many."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import dagster as dg

from sync_defs.inbox.drain import DrainResults
from sync_defs.job import Job
from sync_defs.orchestration.job_checks import rejects_verdict, standing_verdicts
from sync_defs.orchestration.metadata import drain_metadata, items_table
from sync_defs.orchestration.names import DEFAULT_NAMES, INBOX_CHECKS, Names
from sync_defs.results import Action, ItemResult, SyncResults, Trigger
from sync_defs.store import SqlStore
from sync_defs.store.reports import take_reports

TELL_S: Final = 60.0
"""How long whoever applies messages has for telling of them; then the sensor does, in case he has died."""

AssetEvent = dg.AssetMaterialization | dg.AssetCheckEvaluation | dg.AssetObservation
AssetEvents = list[AssetEvent]


def drain_events(job: Job, asset: dg.AssetKey, store: SqlStore, results: DrainResults) -> AssetEvents:
    """Return the events of a drain: none if it did nothing, and no materialization if it applied nothing."""
    events: AssetEvents = []
    if results.applied:
        metadata = drain_metadata(results)
        events.append(dg.AssetMaterialization(asset, metadata=metadata))
    if (results.applied or results.errors) and job.checks.rejected is not None:
        refused = [item for item in results.items if item.action is Action.REJECTED]
        verdict = rejects_verdict(
            job,
            store.database,
            rejected=results.rejected,
            fetched=results.applied + results.rejected,
            table=items_table(refused) if refused else None,
        )
        events.append(verdict.evaluation(asset))
    return events


def inbox_events(job: Job, asset: dg.AssetKey, store: SqlStore) -> list[dg.AssetCheckEvaluation]:
    """Return what the checks of a job's inbox say now."""
    verdicts = standing_verdicts(job, store.database, INBOX_CHECKS)
    return [verdict.evaluation(asset) for verdict in verdicts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidings:
    """What a tick of the inbox sensor tells of."""

    events: AssetEvents
    receipt: str | None
    """To confirm them by, an instant in ISO 8601: without it they come again after a minute. None: there are none."""
    unwell: Sequence[str]
    """Jobs of whose inbox a check fails."""


def tidings(
    store: SqlStore,
    jobs: Iterable[Job],
    names: Names = DEFAULT_NAMES,
    *,
    unwell: Sequence[str] = (),
    passed: Callable[[dg.AssetCheckKey], bool] = lambda _: True,
) -> Tidings:
    """Return the events of item syncs of which nobody has told so far, and of inboxes that are not well, or again are.

    Of one that was well and is, nothing is told, since each event takes Dagster as long as the sync of an item.

    Args:
        store: where the syncs are.
        jobs: whose syncs and inboxes.
        names: what the definitions of the jobs are called.
        unwell: what the last tick returned of it.
        passed: tells whether a check passed by what was told last, whoever did.
    """
    jobs_by_name = {job.name: job for job in jobs}
    until = store.now() + timedelta(seconds=TELL_S)
    by_job: dict[str, list[SyncResults]] = {}
    for told in take_reports(store.database, list(jobs_by_name), until=until):
        by_job.setdefault(told.name, []).append(told)
    events: AssetEvents = []
    for name, told in by_job.items():
        events += drain_events(jobs_by_name[name], names.of(name).asset, store, joined(told))
    failing: list[str] = []
    for name in by_job | dict.fromkeys(name for name in unwell if name in jobs_by_name):
        found = inbox_events(jobs_by_name[name], names.of(name).asset, store)
        is_well = all(event.passed for event in found)
        if not is_well:
            failing.append(name)
        if is_well:
            events += found if name in unwell else [event for event in found if not passed(event.asset_check_key)]
        elif name in by_job:
            events += found
    return Tidings(events=events, receipt=until.isoformat() if by_job else None, unwell=failing)


def joined(told: Sequence[SyncResults]) -> DrainResults:
    """Return several item syncs of one job as one account; which of the rejected are dead is not known any more."""
    actions: dict[Action, int] = {}
    for results in told:
        for action in Action:
            count = getattr(results, action.value)
            if count:
                actions[action] = actions.get(action, 0) + count
    reasons = {error.external_id: error for results in told for error in results.errors}
    return DrainResults(
        name=told[0].name,
        run_id=told[0].run_id,
        actions=actions,
        transactions=len(told),
        errors=[error for results in told for error in results.errors],
        items=[
            ItemResult(
                action=sample.action,
                external_id=sample.external_id,
                message=reasons[sample.external_id].message if sample.external_id in reasons else None,
            )
            for results in told
            for sample in results.samples
        ],
        trigger=told[0].trigger if len({results.trigger for results in told}) == 1 else Trigger.WEBHOOK,
        started_at=min(results.started_at for results in told),
        completed_at=max(results.completed_at for results in told),
    )
