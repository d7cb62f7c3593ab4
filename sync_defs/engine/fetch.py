"""Stage 1, fetch: from the source into the run's stage."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sync_defs.engine.chosen import ChosenIds, ask_for, given_ids, named_resources
from sync_defs.engine.collector import held_back
from sync_defs.engine.ending import NOTHING_WRITTEN, failing_loudly
from sync_defs.engine.error_rate import stop_if_most_fail
from sync_defs.engine.observer import Observer, QuietObserver
from sync_defs.engine.overlap import overlapped
from sync_defs.engine.ports import KnownRecords, Run, RunRequest, StagedRecord, StageHandle, Store
from sync_defs.engine.records import PAGE, Page, Stager, pages
from sync_defs.errors import ConfigurationError
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
    """Fetch everything that the request asks for, stage what is not known already, and return the stage's handle.

    Takes the job's lease. Writes the stage, some 2,000 records at a time; the target is not touched. Repeating it with
    the same `request.run_id` starts afresh. If anything raises, the run ends as failed: the stage is dropped, the lease
    let go, `on_complete` called, and the error raised on.

    Raises:
        ConfigurationError: the job, its target or a resource is not as it must be.
        BusyError: another run holds the job.
        FetchError: the source has none of the chosen ids.
        TooManyRejectsError: most records are rejected.
        Exception: whatever the job's fetch raised.
    """
    observer = QuietObserver(observer)
    job.validate()
    passed = named_resources(job, job.resource_names, resources)
    wanted = given_ids(job, request.external_ids)
    _check_partition(job, request.partition)
    if request.since is not None and not job.is_incremental:
        raise ConfigurationError(
            f"job {job.name!r} fetches everything each time, so since= is of no use; leave it out, or give its fetch a "
            "parameter cursor"
        )
    store.prepare(job)
    chosen = ChosenIds(job, store.shaper(job), wanted)
    run = store.begin_run(job, request)
    stager = Stager(job, store, takes_deletions=False)
    with failing_loudly(job, store, run, observer, lambda: _so_far(stager)), store.holding(job, run):
        job.on_start()
        known = store.known_records(job, run, request)
        staging = _Staging(known, lambda staged, expected: store.stage(job, run, staged, expected))
        cursor = Cursor(run.cursor_before)
        if not run.is_full and not wanted:
            # An incremental fetch does not bring a rejected record again, so the kept ones are tried before it.
            for page in pages(store.kept_rejects(job), store.frame_pages):
                for records in page:
                    staging.add(stager.stage(records, moves_cursor=False))
        retried = stager.fetched
        given = dict(passed, cursor=cursor, partition=run.partition)
        fetched = pages(_fetched(job, wanted, passed, given), store.frame_pages)

        @held_back()
        def stage(page: Page) -> int:
            for records in page:
                staged = stager.stage(*known.sift(records))
                stager.pass_over(len(records) - len(staged))
                staging.add(staged)
            return stager.fetched

        wanted_pages = chosen.only(fetched) if wanted else fetched
        for done in overlapped(wanted_pages, stage) if store.takes_threads else map(stage, wanted_pages):
            stop_if_most_fail(job, rejected=stager.rejected_count - retried, judged=done - retried)
            observer.on_fetched(done)
        staging.flush()
        chosen.require_some()
        is_complete = run.is_full and stager.fetched > 0 and stager.unidentified == 0
        missing = known.find_missing() if is_complete else None
        has_stage = store.end_fetch(job, run, is_sifted=known.is_sifted)
        return StageHandle(
            run_id=run.run_id,
            job_name=job.name,
            fetched=stager.fetched,
            is_complete=is_complete,
            unchanged=known.unchanged,
            skipped=known.skipped,
            missing=missing,
            is_sifted=known.is_sifted,
            has_stage=has_stage,
            has_prints=known.has_prints,
            may_repeat=known.may_repeat(),
            row_count=known.row_count,
            drift=known.drift,
            cursor_after=None if wanted or request.since is not None else _cursor_after(job, run, cursor, stager),
            allow_deletes=request.allow_deletes,
            not_in_source=chosen.not_in_source,
            ids_not_in_source=chosen.ids_not_in_source,
            partition=run.partition,
            retried=retried,
        )


class _Staging:
    """Gathers records for the stage: where most are known, a page has a few, and each load takes a transaction."""

    def __init__(
        self, known: KnownRecords, load: Callable[[Sequence[StagedRecord], Sequence[str | None]], None]
    ) -> None:
        self._known = known
        self._load = load
        self._staged: list[StagedRecord] = []
        self._expected: list[str | None] = []

    def add(self, staged: Sequence[StagedRecord]) -> None:
        """Take note of records, and load them once there are enough."""
        self._staged += staged
        self._expected += self._known.note(staged)
        if len(self._staged) >= PAGE:
            self.flush()

    def flush(self) -> None:
        """Load what is left."""
        if self._staged:
            self._load(self._staged, self._expected)
            self._staged, self._expected = [], []


def _check_partition(job: Job, partition: object) -> None:
    if partition is None and job.is_partitioned:
        raise ConfigurationError(f"job {job.name!r} is synced partition by partition; say which with partition=")
    if partition is not None and not job.is_partitioned:
        raise ConfigurationError(f"job {job.name!r} has no partitions: its fetch has no parameter partition")
    if partition is not None and (not isinstance(partition, str) or not partition):
        raise ConfigurationError(f"partition is {partition!r}; give the partition's key as text")


def _fetched(job: Job, wanted: list[str], passed: Mapping[str, object], given: Mapping[str, object]) -> Any:
    """Return what the source has: of chosen ids by `fetch_items`, where the job has that."""
    if wanted and job.has_fetch_items:
        return ask_for(job, wanted, passed)
    return job.fetch_external(**{name: given[name] for name in parameters(job.fetch_external) if name in given})


def _cursor_after(job: Job, run: Run, cursor: Cursor, stager: Stager) -> str | None:
    if not job.is_incremental:
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
        "rejected": stager.rejected_count,
        "errors": stager.rejected,
    }
