"""A whole run: fetch, diff, upsert in a row."""

from collections.abc import Mapping

from sync_defs.engine.diff import diff
from sync_defs.engine.fetch import fetch
from sync_defs.engine.observer import Observer
from sync_defs.engine.ports import RunRequest, Store
from sync_defs.engine.upsert import upsert
from sync_defs.job import Job
from sync_defs.results import SyncResults


def run_sync(
    job: Job,
    store: Store,
    request: RunRequest,
    *,
    resources: Mapping[str, object],
    plan_limit: int = 0,
    observer: Observer | None = None,
) -> SyncResults:
    """Sync a job once and return the results; see `fetch`, `diff` and `upsert` for what each may raise."""
    handle = fetch(job, store, request, resources=resources, observer=observer)
    counts = diff(job, store, handle, observer=observer)
    return upsert(job, store, handle, samples=counts.samples, plan_limit=plan_limit, observer=observer)
