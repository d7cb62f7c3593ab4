"""The entry points that a user calls: they open the database and hand it to the engine."""

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from sync_defs import engine
from sync_defs.engine.items import sync_single_item as _sync_single_item
from sync_defs.engine.observer import Observer
from sync_defs.engine.ports import RunRequest
from sync_defs.errors import ConfigurationError
from sync_defs.job import Job
from sync_defs.results import ItemResult, SyncResults, Trigger
from sync_defs.settings import Settings
from sync_defs.store.change_set import ChangeSet
from sync_defs.store.database import Database
from sync_defs.store.store import SqlStore


@contextmanager
def open_database(database: Database | str | None = None) -> Generator[Database]:
    """Give a database for the block: the given one, or a new one from a URL, which is closed at the end."""
    if isinstance(database, Database):
        yield database
        return
    with Database(database or Settings().database_url.get_secret_value()) as opened:
        yield opened


def run_sync(
    job: Job,
    *,
    database: Database | str | None = None,
    resources: Mapping[str, object] | None = None,
    dry_run: bool = False,
    full: bool = False,
    external_ids: Sequence[str] = (),
    since: str | None = None,
    partition: str | None = None,
    allow_deletes: int | None = None,
    wait_s: float = 0.0,
    trigger: Trigger = Trigger.API,
    observer: Observer | None = None,
) -> SyncResults:
    """Sync a job once.

    Args:
        job: what `table_sync` made, or an instance of a `SyncJob`.
        database: URL or `Database` that holds the target; default: `SYNC_DATABASE_URL`, else a SQLite file
            `sync_defs.db` in the current folder.
        resources: what the job's fetch takes, by parameter name.
        dry_run: take the same path and roll back; the counts are those of a real run.
        full: ignore the cursor and fetch everything.
        external_ids: sync only these; nothing is then missing.
        since: where the fetch begins, in place of the stored cursor, which this run does not move.
        partition: the partition to sync, of a job whose fetch has a parameter of that name.
        allow_deletes: ceiling for deletes and marks in this run, in place of the job's guards.
        wait_s: how long to wait for another run of the job, in seconds.
        trigger: what started the run, for the record.
        observer: told of the progress.

    Returns:
        The results; records that were rejected are in `errors` and do not raise.

    Raises:
        ConfigurationError: the job, its target, the database or a resource is not as it must be.
        BusyError: another run of the job went on for longer than `wait_s`.
        Exception: whatever the job's fetch raised; nothing was deleted, and the run is recorded as failed.

    Example:
        ```python
        results = run_sync(erp_inventory, resources={"erp": ErpClient(base_url="http://127.0.0.1:8000")})
        print(results.summary())
        ```
    """
    request = RunRequest(
        trigger=trigger,
        dry_run=dry_run,
        full=full,
        external_ids=_listed(external_ids),
        since=since,
        partition=partition,
        allow_deletes=allow_deletes,
        wait_s=wait_s,
        holder=f"process {os.getpid()}",
    )
    with open_database(database) as opened:
        return engine.run_sync(job, SqlStore(opened), request, resources=resources or {}, observer=observer)


def plan_sync(
    job: Job,
    *,
    database: Database | str | None = None,
    resources: Mapping[str, object] | None = None,
    full: bool = False,
    external_ids: Sequence[str] = (),
    since: str | None = None,
    partition: str | None = None,
    allow_deletes: int | None = None,
    limit: int = 10_000,
) -> ChangeSet:
    """Return what `run_sync` would do now, by a dry run; `ChangeSet.to_frame()` shows it in a notebook.

    Args:
        job: the job.
        database: as in `run_sync`.
        resources: as in `run_sync`.
        full: ignore the cursor and fetch everything.
        external_ids: look at these only.
        since: as in `run_sync`.
        partition: as in `run_sync`.
        allow_deletes: ceiling for deletes and marks.
        limit: how many changes to list at most; the counts are of all.

    Raises:
        SyncError: as `run_sync`.
    """
    request = RunRequest(
        dry_run=True,
        full=full,
        external_ids=_listed(external_ids),
        since=since,
        partition=partition,
        allow_deletes=allow_deletes,
    )
    with open_database(database) as opened:
        store = SqlStore(opened)
        results = engine.run_sync(job, store, request, resources=resources or {}, plan_limit=limit)
    return ChangeSet(results=results, changes=results.samples)


def sync_single_item(
    job: Job,
    payload: Any,
    *,
    database: Database | str | None = None,
    resources: Mapping[str, object] | None = None,
    trigger: Trigger = Trigger.API,
) -> ItemResult:
    """Apply one payload, as a webhook would bring it, and return `{action, external_id}`.

    The payload's first item is reported; a payload with several items has them all applied, in one transaction.
    Of a job with `refetch`, the source is asked for them by what `resources` holds.

    Raises:
        ConfigurationError: as `run_sync`.
        MessageError: the payload carries no usable item.
        FetchError: the source was asked and failed; nothing was written.
    """
    with open_database(database) as opened:
        return _sync_single_item(job, SqlStore(opened), payload, resources=resources, trigger=trigger)[0]


def _listed(external_ids: object) -> tuple[Any, ...]:
    """Return the chosen ids; their own form is checked by the fetch."""
    if isinstance(external_ids, str | bytes) or not isinstance(external_ids, Iterable):
        kind = type(cast("object", external_ids)).__name__
        raise ConfigurationError(f"external_ids is {kind}; give a list of ids", code="bad_external_ids")
    return tuple(cast("Iterable[Any]", external_ids))
