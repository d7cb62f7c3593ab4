"""Single items: the same path as a run, with a small stage, in one transaction."""

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from sync_defs.engine.ports import Run, StagedRecord, Store
from sync_defs.engine.records import Stager
from sync_defs.errors import MessageError
from sync_defs.job import Job
from sync_defs.results import ItemResult, Outcome, Trigger


def sync_items(  # noqa: PLR0913 - two callbacks join the caller's work to the transaction
    job: Job,
    store: Store,
    items: Sequence[Any],
    *,
    trigger: Trigger = Trigger.API,
    run_id: str | None = None,
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
        keep: called with the connection at the start of the transaction; returns the indexes of the items that are
            still wanted. The others come back as `skipped`.
        settle: called with the connection and all results before the commit, to acknowledge messages with the rows.
    """
    store.prepare(job)
    stager = Stager(job, store, takes_deletions=True)
    staged = [stager.stage(item) for item in items]
    name = run_id or uuid.uuid4().hex
    run = Run(
        run_id=name,
        job_name=job.name,
        trigger=trigger,
        dry_run=False,
        is_full=False,
        stage=f"sync_stage_{uuid.uuid4().hex}",
        watermark=0,
        cursor_before=None,
        started_at=store.now(),
        is_item=True,
    )
    return store.apply_items(job, run, _one_for_each_id(staged), keep=keep, settle=settle)


def sync_single_item(job: Job, store: Store, payload: Any, *, trigger: Trigger = Trigger.API) -> list[ItemResult]:
    """Apply one payload, as a webhook would bring it; a payload may carry several items.

    Raises:
        MessageError: the payload carries no usable item.
    """
    items = list(job.extract_items(payload))
    if not items:
        raise MessageError("the payload carries no item", code="no_items")
    return sync_items(job, store, items, trigger=trigger)


def _one_for_each_id(staged: list[StagedRecord]) -> list[StagedRecord]:
    """Mark all but the last item of an id as skipped, which also tells a delete that came before a change apart."""
    last = {record.external_id: record.seq for record in staged if record.external_id is not None}
    return [
        record
        if record.external_id is None or last[record.external_id] == record.seq or record.outcome is not None
        else record._replace(outcome=Outcome.SKIPPED)
        for record in staged
    ]
