"""What a deployment has to do now and then, in one place: old rows go, and messages for nobody are told of."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sync_defs.inbox import Inbox
from sync_defs.store.database import Database
from sync_defs.store.handoffs import prune_handoffs
from sync_defs.store.retention import PrunedHistory, prune_history

UNCLAIMED: Final = timedelta(days=1)
"""How long messages of an unknown job must be due: the job may be one of another deployment on the same database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What one pruning did, in rows."""

    changes: int
    """Deleted from `sync_changes`."""
    runs: int
    """Deleted from `sync_runs`."""
    message_ids: int
    """Deleted from `sync_inbox`."""
    buried: int
    """Messages of jobs that there are not (any more), which are dead letters now."""

    def summary(self) -> str:
        """Return the one line that tells of it."""
        return (
            f"deleted: changes {self.changes}, runs {self.runs}, message ids {self.message_ids}; "
            f"made dead: messages of unknown jobs {self.buried}"
        )


def prune(database: Database, *, jobs: Collection[str], history_days: int) -> Pruned:
    """Delete what is older than it has to be, in small transactions; may be repeated, and killed at any point.

    Args:
        database: where the bookkeeping is; its tables must be ready.
        jobs: the names of all jobs that there are; with none, nobody's messages are buried, since it is likelier that
            the jobs were not found.
        history_days: how long changes and runs are kept, in days; 0 for ever.
    """
    inbox = Inbox(database)
    prune_handoffs(database)
    history = PrunedHistory(changes=0, runs=0)
    if history_days:
        history = prune_history(database, timedelta(days=history_days))
    return Pruned(
        changes=history.changes,
        runs=history.runs,
        message_ids=inbox.prune(),
        buried=inbox.bury_unknown_jobs(jobs, due_for=UNCLAIMED) if jobs else 0,
    )
