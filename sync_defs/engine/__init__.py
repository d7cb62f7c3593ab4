"""The staged engine: fetch, diff and upsert hand on a reference to a stage, never records.

Reading order: `ports` (what a store must do), `external_id`, `fetch`, `diff`, `upsert`, `items`, `run`, `guards`,
`error_rate`, `observer`, `ending`. Imports the standard library and the root modules only: no SQL, no Dagster.
"""

from sync_defs.engine.diff import diff
from sync_defs.engine.fetch import fetch
from sync_defs.engine.items import sync_items
from sync_defs.engine.observer import Observer
from sync_defs.engine.ports import ChangeCounts, RunRequest, StageHandle, Store
from sync_defs.engine.run import run_sync
from sync_defs.engine.upsert import upsert

__all__ = [
    "ChangeCounts",
    "Observer",
    "RunRequest",
    "StageHandle",
    "Store",
    "diff",
    "fetch",
    "run_sync",
    "sync_items",
    "upsert",
]
