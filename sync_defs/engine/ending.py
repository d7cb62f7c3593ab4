"""The end of a run, the same after success and failure: results, hooks, stage and lease."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sync_defs.engine.observer import Observer
from sync_defs.engine.ports import Run, Store
from sync_defs.errors import SyncError
from sync_defs.job import Job
from sync_defs.results import RunStatus, SyncResults

logger = logging.getLogger("sync_defs")

NOTHING_WRITTEN = "nothing was written or deleted"


def results_of(run: Run, completed_at: datetime, **facts: Any) -> SyncResults:
    """Return the results of a run with what it knows of itself, and the given counts."""
    duration = completed_at - run.started_at
    return SyncResults(
        name=run.job_name,
        run_id=run.run_id,
        trigger=run.trigger,
        dry_run=run.dry_run,
        full=run.is_full,
        partition=run.partition,
        cursor_before=run.cursor_before,
        started_at=run.started_at,
        completed_at=completed_at,
        duration_ms=max(int(duration.total_seconds() * 1000), 0),
        **facts,
    )


@contextmanager
def failing_loudly(
    job: Job,
    store: Store,
    run: Run,
    observer: Observer,
    so_far: Callable[[], dict[str, Any]],
    *,
    is_tried_again: Callable[[BaseException], bool] | None = None,
) -> Generator[None]:
    """End the run as failed if the block raises, then raise on; whatever ends it, also an interrupt.

    `so_far` returns the counts so far and, as `kept`, what of the run stays. What `is_tried_again` says yes to leaves
    the run and its stage as they are.
    """
    try:
        yield
    except BaseException as error:
        if is_tried_again is not None and is_tried_again(error):
            raise
        facts = so_far()
        reason = f"{describe(error)}; {facts.pop('kept')}"
        results = results_of(run, store.now(), **facts, status=RunStatus.FAILED, error=reason)
        try:
            end(job, store, run, results, observer)
        except Exception as other:  # noqa: BLE001 - the failure itself is raised
            logger.error(  # noqa: TRY400 - a trace would tell of both, and their texts may hold values
                "run %s of %s: its failure could not be recorded: %s", run.run_id, job.name, describe(other)
            )
        raise


def end(job: Job, store: Store, run: Run, results: SyncResults, observer: Observer) -> None:
    """Record the end, then call `on_complete` and the observer; their exceptions are logged and hide nothing."""
    try:
        store.end_run(job, run, results)
    finally:
        for hook in (job.on_complete, observer.on_ended):
            try:
                hook(results)
            except Exception as error:  # noqa: BLE001 - user code
                logger.error(  # noqa: TRY400 - its text may hold values
                    "%s of %s raised %s after run %s", hook.__qualname__, job.name, describe(error), run.run_id
                )


def describe(error: BaseException) -> str:
    """Return an error's sentence: our own ones in full, others by their kind, since their text may hold values."""
    if isinstance(error, SyncError):
        return error.message
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    kind = type(error)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
