"""Stage 3, upsert: from the stage into the target, with the account of it in the same transaction."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from sync_defs.engine.ending import NOTHING_WRITTEN, end, failing_loudly, results_of
from sync_defs.engine.error_rate import stop_if_most_fail
from sync_defs.engine.guards import delete_guard
from sync_defs.engine.observer import Observer, QuietObserver
from sync_defs.engine.ports import ChangeCounts, StageHandle, Store, Writer
from sync_defs.errors import OutcomeError
from sync_defs.job import Job, is_callback_job
from sync_defs.results import Outcome, RunStatus, SampledChange, SyncResults


def upsert(  # noqa: PLR0913 - what one step of three is given, by name
    job: Job,
    store: Store,
    handle: StageHandle,
    *,
    samples: list[SampledChange] | None = None,
    plan_limit: int = 0,
    observer: Observer | None = None,
    is_tried_again: Callable[[BaseException], bool] | None = None,
) -> SyncResults:
    """Write what differs and return the run's results.

    A table job's rows, history, rejects, cursor and results commit in one transaction, a callback job's in one for
    each chunk. A dry run takes the same way and rolls back. Repeating it after a success returns the stored results
    and writes nothing. If it raises, the run ends as failed and `on_complete` is called all the same.

    Args:
        job: the job.
        store: where stage and target are.
        handle: what fetch returned.
        samples: the sample that diff returned, shown in the results.
        plan_limit: sample up to so many changes of every kind instead.
        observer: told of the progress.
        is_tried_again: tells of an error whether the caller repeats the upsert; then the run goes on.

    Raises:
        TooManyRejectsError: the database or the callbacks refuse most records; nothing of a table job was written.
        LeaseLostError: another run took the job over; nothing was written.
        OutcomeError: the outcomes do not add up; nothing of a table job was written.
    """
    observer = QuietObserver(observer)
    kept = "chunks of records that were already committed are kept" if is_callback_job(job) else NOTHING_WRITTEN
    so_far: dict[str, Any] = {"kept": kept, "fetched": handle.fetched}
    run = replace(store.load_run(handle.run_id), partition=handle.partition)
    if run.results is not None and run.status is RunStatus.SUCCEEDED:
        store.end_run(job, run, run.results)  # the process may have died between the commit and this
        return run.results
    with (
        failing_loudly(job, store, run, observer, lambda: so_far, is_tried_again=is_tried_again),
        store.holding(job, run),
        store.writing(job, run, handle) as writer,
    ):
        writer.judge_missing(delete_guard(job, handle.allow_deletes))
        if plan_limit:
            writer.sample(plan_limit)
        try:
            writer.write(observer.on_written, partial(_stop_if_most_fail, job, handle, writer))
        finally:
            so_far.update(writer.committed())
        counts = writer.settle()
        stop_if_most_fail(job, rejected=counts.rejected - handle.retried, judged=handle.fetched - handle.retried)
        counts.unchanged += handle.unchanged
        counts.skipped += handle.skipped
        counts.samples = counts.samples or list(samples or [])
        results = results_of(run, store.now(), **_facts(handle, counts))
        if not results.is_balanced:
            raise OutcomeError(
                f"{job.name}: {results.outcomes} do not add up to {results.fetched} fetched; please report this"
            )
        writer.finish(results, handle.cursor_after)
    end(job, store, run, results, observer)
    return results


def _stop_if_most_fail(job: Job, handle: StageHandle, writer: Writer) -> None:
    found = writer.judged()
    rejected, judged = found.get(Outcome.REJECTED, 0), sum(found.values())
    stop_if_most_fail(job, rejected=rejected - handle.retried, judged=judged - handle.retried)


def _facts(handle: StageHandle, counts: ChangeCounts) -> dict[str, Any]:
    return {
        "fetched": handle.fetched,
        **{outcome.value: getattr(counts, outcome.value) for outcome in Outcome},
        "deleted": counts.deleted,
        "marked": counts.marked,
        "withheld": counts.withheld,
        "withheld_reason": counts.withheld_reason,
        "missing": counts.missing,
        "errors": counts.errors,
        "samples": counts.samples,
        "row_count": counts.row_count,
        "cursor_after": handle.cursor_after,
        "not_in_source": handle.not_in_source,
        "ids_not_in_source": handle.ids_not_in_source,
    }
