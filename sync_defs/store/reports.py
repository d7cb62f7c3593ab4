"""Single-item syncs that an orchestrator has not been told of yet: those with a `report_due_at` in `sync_runs`.

The time is written in the transaction of the data, so that no result is lost with the process that has it, and lies so
far ahead that who applied the items can tell of them himself. From then on they are anybody's to tell, and
`take_reports` puts the time off again while they are being told. At least once: a result is told twice where a process
dies between telling and saying so.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, update

from sync_defs.results import SyncResults
from sync_defs.store.database import Database
from sync_defs.store.runs import results_from_json
from sync_defs.store.schema import runs

MOST_REPORTS: Final = 1_000
"""Syncs that are taken at once."""
MOST_JOBS: Final = 40
"""Jobs that are told of at once: some events of each, which take Dagster 12 to 16 ms apiece."""


def take_reports(
    database: Database, jobs: Collection[str], *, until: datetime, limit: int = MOST_REPORTS
) -> list[SyncResults]:
    """Return the results that are due to be told of, the longest due first, and keep others from them until then.

    They are those of 40 jobs at the most: of whom somebody has waited the longest to hear.

    Call `confirm_reports` with the same jobs and time once they are told; without it they are due again at `until`.
    """
    with database.read() as connection:
        names = list(connection.execute(_longest_due(database, jobs)).scalars())
    if not names:
        return []  # without a turn at the write lock
    with database.write() as connection:
        rows = connection.execute(_due(database, names, limit=limit).with_for_update(skip_locked=True)).all()
        _put_off(connection, [row.run_id for row in rows], until)
    return [results_from_json(row.results) for row in rows]


def confirm_reports(database: Database, jobs: Collection[str], *, until: datetime) -> None:
    """Say that what was taken until then has been told."""
    _settle(database, and_(runs.c.job.in_(jobs), runs.c.report_due_at == until))


def confirm_told(database: Database, run_ids: Collection[str]) -> None:
    """Say that somebody has told of these syncs himself."""
    if run_ids:
        _settle(database, and_(runs.c.run_id.in_(run_ids), runs.c.report_due_at.is_not(None)))


def _longest_due(database: Database, jobs: Collection[str]) -> Select[Any]:
    due = select(runs.c.job).where(_is_due(database, jobs)).group_by(runs.c.job)
    return due.order_by(func.min(runs.c.report_due_at), runs.c.job).limit(MOST_JOBS)


def _due(database: Database, jobs: Collection[str], *, limit: int) -> Select[Any, Any]:
    due = select(runs.c.run_id, runs.c.results).where(_is_due(database, jobs))
    return due.order_by(runs.c.report_due_at).limit(limit)


def _is_due(database: Database, jobs: Collection[str]) -> ColumnElement[bool]:
    return and_(runs.c.report_due_at <= database.now(), runs.c.job.in_(jobs), runs.c.results.is_not(None))


def _put_off(connection: Connection, run_ids: Iterable[str], until: datetime) -> None:
    connection.execute(update(runs).where(runs.c.run_id.in_(list(run_ids))).values(report_due_at=until))


def _settle(database: Database, where: ColumnElement[bool]) -> None:
    with database.write() as connection:
        connection.execute(update(runs).where(where).values(report_due_at=None))
