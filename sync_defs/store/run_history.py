"""How the syncs of a job went before, which tells whether one is unusual or late."""

from sqlalchemy import or_, select

from sync_defs.results import RunStatus, SyncResults
from sync_defs.store.database import Database
from sync_defs.store.runs import results_from_json
from sync_defs.store.schema import runs


def last_syncs(database: Database, job_name: str, *, limit: int, is_full: bool = False) -> list[SyncResults]:
    """Return the results of syncs that succeeded and wrote, the newest first.

    Dry runs, single items and chosen ids do not count; with `is_full`, nor do fetches from a cursor on.
    """
    statement = select(runs.c.results).where(
        runs.c.job == job_name,
        runs.c.status == RunStatus.SUCCEEDED.value,
        runs.c.dry_run.is_(False),
        runs.c.is_full if is_full else or_(runs.c.is_full, runs.c.cursor_before.is_not(None)),
    )
    with database.read() as connection:
        texts = connection.execute(statement.order_by(runs.c.started_at.desc()).limit(limit)).scalars()
        return [results_from_json(text) for text in texts]
