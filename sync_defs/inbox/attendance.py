"""Whether a drain is at work: a lease that keeps the bell from being rung again, never one that guards data.

Who drains holds `drain:<job>` in `sync_leases` and renews it. A killed drain's lease ends within 20 s, and the next
one may start. Two drains at once do no harm; the second works without the lease, and has it 5 s after the first left.
"""

from collections.abc import Callable
from typing import Final, Self

from sqlalchemy import select

from sync_defs.inbox.due import ATTENDED
from sync_defs.store.database import Database
from sync_defs.store.presence import PRESENCE_S, Presences
from sync_defs.store.schema import leases

ATTENDANCE_S: Final = PRESENCE_S


def is_attended(database: Database, job: str) -> bool:
    """Tell whether a drain of the job is at work, or was less than 20 s ago when it was killed."""
    statement = select(leases.c.name).where(leases.c.name == ATTENDED + job, leases.c.expires_at > database.now())
    with database.read() as connection:
        return connection.execute(statement).first() is not None


class Attendance(Presences):
    """Says that a drain is at work during the block, of each job that no other one attends to."""

    def __init__(
        self, database: Database, job: str, *, token: str, is_stuck: Callable[[], bool] = lambda: False
    ) -> None:
        """Attend to a job.

        Args:
            database: where the inbox is.
            job: whose messages are drained.
            token: who drains, at most 64 characters.
            is_stuck: asked from another thread; while it is true, the attendance is not renewed.
        """
        super().__init__(database, token=token, is_stuck=is_stuck)
        self._job = job

    def __enter__(self) -> Self:
        """Begin with the job."""
        super().__enter__()
        self.attend(self._job)
        return self

    def attend(self, job: str) -> bool:
        """Attend to one more job, and return whether no other drain does."""
        return self.take(ATTENDED + job)

    def quit(self, job: str) -> None:
        """Attend no longer to a job."""
        self.leave(ATTENDED + job)
