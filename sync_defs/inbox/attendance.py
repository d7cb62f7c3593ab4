"""Whether a drain is at work: a lease that keeps the bell from being rung again, never one that guards data.

Who drains holds `drain:<job>` in `sync_leases` and renews it. A killed drain's lease ends within 20 s, and the next
one may start. Two drains at once do no harm; the second works without the lease.
"""

from contextlib import AbstractContextManager
from typing import Final

from sqlalchemy import select

from sync_defs.inbox.due import ATTENDED
from sync_defs.store.database import Database
from sync_defs.store.presence import PRESENCE_S, present
from sync_defs.store.schema import leases

ATTENDANCE_S: Final = PRESENCE_S


def is_attended(database: Database, job: str) -> bool:
    """Tell whether a drain of the job is at work, or was less than 20 s ago when it was killed."""
    statement = select(leases.c.name).where(leases.c.name == ATTENDED + job, leases.c.expires_at > database.now())
    with database.read() as connection:
        return connection.execute(statement).first() is not None


def attending(database: Database, job: str, *, token: str) -> AbstractContextManager[None]:
    """Say that a drain is at work during the block, unless another one does already.

    Args:
        database: where the inbox is.
        job: whose messages are drained.
        token: who drains, at most 64 characters.
    """
    return present(database, ATTENDED + job, token=token)
