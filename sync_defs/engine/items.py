"""Single items: the same path as a run, with a small stage, in one transaction."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sync_defs.engine.ports import Run, StagedRecord, Store
from sync_defs.engine.records import Stager, is_older
from sync_defs.engine.refetch import refetch
from sync_defs.errors import MessageError
from sync_defs.job import Job
from sync_defs.results import ItemResult, Outcome, Trigger


def sync_items(  # noqa: PLR0913 - callbacks join the caller's work to the transaction
    job: Job,
    store: Store,
    items: Sequence[Any],
    *,
    trigger: Trigger = Trigger.API,
    run_id: str | None = None,
    report_after_s: float = 0.0,
    on_staged: Callable[[], None] = lambda: None,
    keep: Callable[[Any], set[int]] | None = None,
    settle: Callable[[Any, Sequence[ItemResult]], None] | None = None,
) -> list[ItemResult]:
    """Write records or `Deletion`s to the target, and return what became of each, in order.

    One transaction holds the rows, their history, the rejects and whatever `settle` does; it is serialised with every
    other writing transaction of the job. A rejected item never undoes another. May be repeated: equal content is
    `unchanged`, an older version `stale`.

    Args:
        job: the job.
        store: where the target is.
        items: records, as the job's fetch would return them, or `Deletion`s.
        trigger: what started it.
        run_id: id for `sync_runs`; repeated ids replace.
        report_after_s: how long the caller has for telling an orchestrator himself; then the inbox sensor does.
        on_staged: called when the records are read and the wait for the transaction begins.
        keep: called with the connection at the start of the transaction; returns the indexes of the items that are
            still wanted. The others come back as `skipped`.
        settle: called with the connection and all results before the commit, to acknowledge messages with the rows.
    """
    store.prepare(job)
    stager = Stager(job, store, takes_deletions=True)
    staged = stager.stage(items)
    on_staged()
    run = Run(
        run_id=run_id or uuid.uuid4().hex,
        job_name=job.name,
        trigger=trigger,
        dry_run=False,
        is_full=False,
        stage=f"sync_stage_{uuid.uuid4().hex}",
        watermark=0,
        cursor_before=None,
        started_at=store.now(),
        is_item=True,
        report_after_s=report_after_s,
    )
    return store.apply_items(job, run, _newest_of_each_id(staged), keep=keep, settle=settle)


def sync_single_item(
    job: Job,
    store: Store,
    payload: Any,
    *,
    resources: Mapping[str, object] | None = None,
    trigger: Trigger = Trigger.API,
) -> list[ItemResult]:
    """Apply one payload, as a webhook would bring it; a payload may carry several items.

    Of a job with `refetch`, the source is asked for the items before the transaction begins.

    Raises:
        MessageError: the payload carries no usable item.
        FetchError: the source was asked and failed; nothing was written.
        ConfigurationError: the source is to be asked, and a resource that this needs is not in `resources`.
    """
    items = list(job.extract_items(payload))
    if not items:
        raise MessageError("the payload carries no item", code="no_items")
    if not job.refetch:
        return sync_items(job, store, items, trigger=trigger)
    found = refetch(job, store, items, resources=resources or {})
    if found.failure is not None:
        raise found.failure
    results = dict(found.refused)
    if found.items:
        applied = sync_items(job, store, list(found.items.values()), trigger=trigger)
        results.update(zip(found.items, applied, strict=True))
    return [results[place] for place in range(len(items))]


def _newest_of_each_id(staged: list[StagedRecord]) -> list[StagedRecord]:
    """Mark all but the newest item of an id as skipped; where versions do not tell, the last is the newest."""
    newest: dict[str, StagedRecord] = {}
    for record in staged:
        if record.external_id is None or record.outcome is not None:
            continue
        held = newest.get(record.external_id)
        if held is None or not is_older(record.version, held.version):
            newest[record.external_id] = record
    return [
        record
        if record.external_id is None or record.outcome is not None or newest[record.external_id] is record
        else record._replace(outcome=Outcome.SKIPPED)
        for record in staged
    ]
