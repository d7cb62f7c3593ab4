"""Which jobs have due rows: statements that cost the same whatever waits, since they are sent 20 times a second.

The names are read by steps through an index, and then it takes one look-up for each job that has rows. DISTINCT over
the due rows would read every one of them: 100,000 where a job is flooded.
"""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, exists, literal, select

from sync_defs.store.dialects import SqlDialect
from sync_defs.store.schema import UtcDateTime, leases, queue

ATTENDED: Final = "drain:"
"""What a lease's name begins with while a drain attends to the job that follows."""


class DueJobs:
    """Asks for jobs with due rows; built once, since to build the statements takes longer than to execute them."""

    def __init__(self, dialect: SqlDialect) -> None:
        """Build the statements for a database's dialect."""
        self._due = _due(dialect)
        self._unattended = _unattended(dialect)

    def due(self, connection: Connection, *, now: datetime) -> list[str]:
        """Return, sorted, the names of jobs with rows to claim; unknown jobs may be among them."""
        return sorted(connection.execute(self._due, {"due_before": now}).scalars())

    def unattended(self, connection: Connection, *, now: datetime, due_before: datetime) -> list[str]:
        """Return, sorted, the names of jobs with rows due since an instant, to which no drain attends."""
        values = {"due_before": due_before, "now": now}
        return sorted(connection.execute(self._unattended, values).scalars())


def _due(dialect: SqlDialect) -> Select[Any]:
    names = dialect.distinct(queue.c.job).subquery("names")
    due = queue.alias("due")
    is_due = (due.c.job == names.c.job, due.c.due_at <= bindparam("due_before", type_=UtcDateTime))
    # In order and with a limit, so that the planner takes the index and makes no join with all due rows of it.
    first = select(due.c.due_at).where(*is_due).order_by(due.c.due_at).limit(1).scalar_subquery()
    return select(names.c.job).where(first.is_not(None))


def _unattended(dialect: SqlDialect) -> Select[Any]:
    due = _due(dialect).subquery("waiting")
    is_attended = exists().where(
        leases.c.name == literal(ATTENDED) + due.c.job, leases.c.expires_at > bindparam("now", type_=UtcDateTime)
    )
    return select(due.c.job).where(~is_attended)
