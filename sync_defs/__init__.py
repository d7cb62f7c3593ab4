"""Keep the tables of a local database in step with external systems.

Write a job with `table_sync` or `SyncJob`, run it with `run_sync`. Names are loaded at first use, so that importing
the package costs nothing; neither SQLAlchemy nor Dagster nor pandas is loaded before it is needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync_defs.checks import Checks
    from sync_defs.engine.observer import Observer
    from sync_defs.errors import (
        BusyError,
        ConfigurationError,
        FetchError,
        MessageError,
        RecordError,
        SyncError,
    )
    from sync_defs.fields import Cursor, Deletion, Field
    from sync_defs.job import Job, SyncJob, TableSync, table_sync
    from sync_defs.orchestration.component import SyncJobComponent
    from sync_defs.policies import Retries, Webhook, mark
    from sync_defs.results import Action, ItemError, ItemResult, Outcome, RunStatus, SyncResults, Trigger
    from sync_defs.runner import plan_sync, run_sync, sync_single_item
    from sync_defs.store.change_set import ChangeSet
    from sync_defs.store.database import Database

_HOMES = {
    "checks": ("Checks",),
    "engine.observer": ("Observer",),
    "errors": ("BusyError", "ConfigurationError", "FetchError", "MessageError", "RecordError", "SyncError"),
    "fields": ("Cursor", "Deletion", "Field"),
    "job": ("Job", "SyncJob", "TableSync", "table_sync"),
    "orchestration.component": ("SyncJobComponent",),
    "policies": ("Retries", "Webhook", "mark"),
    "results": ("Action", "ItemError", "ItemResult", "Outcome", "RunStatus", "SyncResults", "Trigger"),
    "runner": ("plan_sync", "run_sync", "sync_single_item"),
    "store.change_set": ("ChangeSet",),
    "store.database": ("Database",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Action",
    "BusyError",
    "ChangeSet",
    "Checks",
    "ConfigurationError",
    "Cursor",
    "Database",
    "Deletion",
    "FetchError",
    "Field",
    "ItemError",
    "ItemResult",
    "Job",
    "MessageError",
    "Observer",
    "Outcome",
    "RecordError",
    "Retries",
    "RunStatus",
    "SyncError",
    "SyncJob",
    "SyncJobComponent",
    "SyncResults",
    "TableSync",
    "Trigger",
    "Webhook",
    "mark",
    "plan_sync",
    "run_sync",
    "sync_single_item",
    "table_sync",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'sync_defs' has no attribute {name!r}")
    return getattr(import_module(f"sync_defs.{_HOME_OF[name]}"), name)
