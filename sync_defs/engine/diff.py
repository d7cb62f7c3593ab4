"""Stage 2, diff: what an upsert would do."""

from collections.abc import Callable
from dataclasses import replace

from sync_defs.engine.ending import NOTHING_WRITTEN, failing_loudly
from sync_defs.engine.guards import delete_guard
from sync_defs.engine.observer import Observer, QuietObserver
from sync_defs.engine.ports import ChangeCounts, StageHandle, Store
from sync_defs.job import Job
from sync_defs.results import RunStatus


def diff(
    job: Job,
    store: Store,
    handle: StageHandle,
    *,
    observer: Observer | None = None,
    is_tried_again: Callable[[BaseException], bool] | None = None,
) -> ChangeCounts:
    """Classify the staged records against the target, and return counts and a bounded sample of old → new.

    Writes to the stage only and may be repeated. For a callback job the counts are a forecast (`is_exact` is False):
    whether a row changes is known when its callback runs. If it raises, the run ends as failed, unless
    `is_tried_again` says that the caller repeats it.
    """
    observer = QuietObserver(observer)
    run = replace(store.load_run(handle.run_id), partition=handle.partition)
    if run.results is not None and run.status is RunStatus.SUCCEEDED:
        return ChangeCounts()
    so_far = {"kept": NOTHING_WRITTEN, "fetched": handle.fetched}
    with (
        failing_loudly(job, store, run, observer, lambda: so_far, is_tried_again=is_tried_again),
        store.holding(job, run),
    ):
        counts = store.diff(job, run, handle, delete_guard(job, handle.allow_deletes))
    counts.unchanged += handle.unchanged
    counts.skipped += handle.skipped
    observer.on_diffed(counts)
    return counts
