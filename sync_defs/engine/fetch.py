"""Stage 1, fetch: from the source into the run's stage."""

from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

from sync_defs.engine.ending import NOTHING_WRITTEN, failing_loudly
from sync_defs.engine.external_id import external_id_text
from sync_defs.engine.observer import Observer, QuietObserver
from sync_defs.engine.ports import Run, RunRequest, StageHandle, Store
from sync_defs.engine.records import Stager, id_or_none, pages
from sync_defs.errors import ConfigurationError, RecordError
from sync_defs.fields import Cursor
from sync_defs.job import Job, parameters


def fetch(
    job: Job,
    store: Store,
    request: RunRequest,
    *,
    resources: Mapping[str, object],
    observer: Observer | None = None,
) -> StageHandle:
    """Fetch everything that the request asks for into a new stage, and return its handle.

    Takes the job's lease. Writes the stage page by page; the target is not touched. Repeating it with the same
    `request.run_id` starts afresh. If anything raises, the run ends as failed: the stage is dropped, the lease let go,
    `on_complete` called, and the error raised on.

    Raises:
        ConfigurationError: the job, its target or a resource is not as it must be.
        BusyError: another run holds the job.
        Exception: whatever the job's fetch raised.
    """
    observer = QuietObserver(observer)
    job.validate()
    passed = chosen_resources(job, resources)
    wanted = [_wanted_id(job, external_id) for external_id in request.external_ids]
    store.prepare(job)
    run = store.begin_run(job, request)
    stager = Stager(job, store, takes_deletions=False)
    with failing_loudly(job, store, run, observer, lambda: _so_far(stager)), store.holding(job, run):
        job.on_start()
        cursor = Cursor(run.cursor_before)
        if not run.is_full and not wanted:
            # An incremental fetch does not bring a rejected record again, so the kept ones are tried before it.
            for page in pages(store.kept_rejects(job), store.frame_pages):
                store.stage(job, run, [stager.stage(record, moves_cursor=False) for record in page])
        for page in _pages(job, store, run, cursor, wanted, passed):
            store.stage(job, run, [stager.stage(record) for record in page])
            observer.on_fetched(stager.fetched)
        return StageHandle(
            run_id=run.run_id,
            job_name=job.name,
            fetched=stager.fetched,
            is_complete=run.is_full and stager.fetched > 0 and stager.unidentified == 0,
            cursor_after=_cursor_after(job, run, cursor, stager, is_chosen=bool(wanted)),
            allow_deletes=request.allow_deletes,
        )


def chosen_resources(job: Job, resources: Mapping[str, object]) -> dict[str, object]:
    """Return the resources that the job's fetches name.

    Raises:
        ConfigurationError: one is not there.
    """
    absent = job.resource_names - resources.keys()
    if absent:
        raise ConfigurationError(
            f"job {job.name!r} needs the resource {', '.join(map(repr, sorted(absent)))}; "
            f"given: {', '.join(map(repr, sorted(resources))) or 'none'}",
            code="missing_resource",
        )
    return {name: resources[name] for name in job.resource_names}


def fetch_chosen(job: Job, external_ids: list[str], passed: Mapping[str, object], cursor: Cursor | None = None) -> Any:
    """Return what the source has of the chosen ids: by `fetch_items`, or a whole fetch to be filtered."""
    if job.has_fetch_items:
        names = parameters(job.items_function)
        given = {name: passed[name] for name in names if name in passed}
        return job.fetch_items(external_ids=external_ids, **given)
    return _call(job.fetch_external, passed, cursor or Cursor())


def only(job: Job, external_ids: list[str], fetched: Iterator[list[Any]]) -> Iterator[list[Any]]:
    """Yield the pages with nothing but the chosen ids in them."""
    chosen = set(external_ids)
    for page in fetched:
        yield [record for record in page if id_or_none(job, record) in chosen]


def _pages(
    job: Job, store: Store, run: Run, cursor: Cursor, wanted: list[str], passed: Mapping[str, object]
) -> Iterator[list[Any]]:
    if wanted:
        return only(job, wanted, pages(fetch_chosen(job, wanted, passed, cursor), store.frame_pages))
    fetched = pages(_call(job.fetch_external, passed, cursor), store.frame_pages)
    if run.is_full:
        return fetched
    return fetched


def _call(function: Callable[..., Any], passed: Mapping[str, object], cursor: Cursor) -> Any:
    arguments = dict(passed, cursor=cursor)
    return function(**{name: arguments[name] for name in parameters(function) if name in arguments})


def _wanted_id(job: Job, external_id: str) -> str:
    try:
        return external_id_text(external_id)
    except RecordError as error:
        raise ConfigurationError(f"job {job.name!r}: external_ids: {error.reason}", code=error.code) from None


def _cursor_after(job: Job, run: Run, cursor: Cursor, stager: Stager, *, is_chosen: bool) -> str | None:
    if not job.is_incremental or is_chosen:
        return None
    if cursor.advanced_to is not None:
        return cursor.advanced_to
    newest = stager.newest_version
    if isinstance(newest, datetime):
        newest = newest.isoformat() + ("" if newest.tzinfo else "+00:00")
    elif isinstance(newest, date):
        newest = newest.isoformat()
    return str(newest) if newest is not None else run.cursor_before


def _so_far(stager: Stager) -> dict[str, Any]:
    return {
        "kept": NOTHING_WRITTEN,
        "fetched": stager.fetched,
        "rejected": len(stager.rejected),
        "errors": stager.rejected,
    }
