"""What `up` tells of the runs that end while it is on, and which jobs it must start itself."""

from typing import TYPE_CHECKING

from sync_defs.cli.deployment import Deployment
from sync_defs.cli.output import say

if TYPE_CHECKING:
    from sync_defs.results import SyncResults

_AT_ONCE = 20


class Feed:
    """Prints the summary of each run that ends, once."""

    def __init__(self, deployment: Deployment) -> None:
        """Take what has ended so far as known."""
        self._database = deployment.database
        self._seen = {results.run_id for results in self._recent()}

    def show(self) -> None:
        """Print what has ended since the last call, the oldest first."""
        for results in reversed(self._recent()):
            if results.run_id not in self._seen:
                self._seen.add(results.run_id)
                say(f"{results.completed_at.astimezone():%H:%M:%S}  {results.trigger}: {results.summary()}")

    def _recent(self) -> "list[SyncResults]":
        from sqlalchemy.exc import DBAPIError

        from sync_defs.store.runs import recent_results

        try:
            return recent_results(self._database, limit=_AT_ONCE)
        except DBAPIError:
            return []  # away for a moment; the parts have their own ways to wait for it


def never_synced(deployment: Deployment) -> list[str]:
    """Return the jobs of which no full run has succeeded yet."""
    from sqlalchemy import select

    from sync_defs.results import RunStatus
    from sync_defs.store.schema import runs

    done = select(runs.c.job).where(
        runs.c.status == RunStatus.SUCCEEDED.value, runs.c.is_full.is_(True), runs.c.dry_run.is_(False)
    )
    with deployment.database.read() as connection:
        synced = set(connection.execute(done.distinct()).scalars())
    return [name for name in deployment.jobs if name not in synced]
