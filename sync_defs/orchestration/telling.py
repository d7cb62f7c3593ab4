"""What Dagster is told of applied messages: a materialization of the asset and its check, one of each for many."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final

import dagster as dg

from sync_defs.inbox import Inbox
from sync_defs.inbox.drain import DrainResults
from sync_defs.orchestration.inbox_check import inbox_evaluation
from sync_defs.orchestration.metadata import check_metadata, drain_metadata, items_table
from sync_defs.orchestration.names import CHECK_NAME
from sync_defs.results import Action, ItemResult, SyncResults, Trigger
from sync_defs.store import SqlStore, open_rejects
from sync_defs.store.reports import take_reports

TELL_S: Final = 60.0
"""How long whoever applies messages has for telling of them; then the sensor does, in case he has died."""
MOST_OPEN: Final = 1_000
"""Open rejects are counted no further."""

AssetEvent = dg.AssetMaterialization | dg.AssetCheckEvaluation | dg.AssetObservation
AssetEvents = list[AssetEvent]


def drain_events(store: SqlStore, results: DrainResults) -> AssetEvents:
    """Return the events of a drain: none if it did nothing, and no materialization if it applied nothing."""
    events: AssetEvents = []
    if results.applied:
        metadata = drain_metadata(results)
        events.append(dg.AssetMaterialization(results.name, metadata=metadata))
    if results.applied or results.errors:
        events.append(_check(store, results))
    return events


def untold_events(store: SqlStore, jobs: Iterable[str]) -> tuple[AssetEvents, str | None]:
    """Return the events of item syncs of which nobody has told so far, and the receipt to confirm them by.

    They come again after a minute without `confirm_reports` for the receipt, an instant in ISO 8601; None: there are
    no such syncs.
    """
    names = list(jobs)
    until = store.now() + timedelta(seconds=TELL_S)
    by_job: dict[str, list[SyncResults]] = {}
    for told in take_reports(store.database, names, until=until):
        by_job.setdefault(told.name, []).append(told)
    events = [event for told in by_job.values() for event in drain_events(store, joined(told))]
    events += [inbox_evaluation(Inbox(store.database), name) for name in by_job]
    return events, until.isoformat() if by_job else None


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


def _check(store: SqlStore, results: DrainResults) -> dg.AssetCheckEvaluation:
    still_open = len(open_rejects(store.database, results.name, limit=MOST_OPEN))
    refused = [item for item in results.items if item.action is Action.REJECTED]
    metadata: dict[str, Any] = check_metadata(
        rejected=results.rejected, still_open=still_open, table=items_table(refused) if refused else None
    )
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(results.name),
        check_name=CHECK_NAME,
        passed=results.rejected == 0 and still_open == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={key: dg.MetadataValue.int(v) if isinstance(v, int) else v for key, v in metadata.items()},
    )
