"""Whether a drain is at work: a lease that keeps the bell from being rung again, never one that guards data.

Who drains holds `drain:<job>` in `sync_leases` and renews it. A killed drain's lease ends within 20 s, and the next
one may start. Two drains at once do no harm; the second works without the lease.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from sqlalchemy import or_, select, update
from sqlalchemy.exc import DBAPIError

from sync_defs.store.database import Database
from sync_defs.store.schema import leases

ATTENDANCE_S: Final = 20.0
_RENEW_S: Final = 5.0


def is_attended(database: Database, job: str) -> bool:
    """Tell whether a drain of the job is at work, or was less than 20 s ago when it was killed."""
    statement = select(leases.c.name).where(leases.c.name == _name(job), leases.c.expires_at > database.now())
    with database.read() as connection:
        return connection.execute(statement).first() is not None


@contextmanager
def attending(database: Database, job: str, *, token: str) -> Generator[None]:
    """Say that a drain is at work during the block, unless another one does already.

    Args:
        database: where the inbox is.
        job: whose messages are drained.
        token: who drains, at most 64 characters.
    """
    _take(database, job, token)
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(database, job, token, stop), name=f"drain-{job}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        _write(database, job, token, leave=True)


def _renew(database: Database, job: str, token: str, stop: threading.Event) -> None:
    while not stop.wait(_RENEW_S):
        try:
            _write(database, job, token, leave=False)
        except DBAPIError:
            # The database is away or busy: if it stays so, the lease ends and the bell rings again.
            continue


def _take(database: Database, job: str, token: str) -> None:
    free = or_(leases.c.expires_at.is_(None), leases.c.expires_at <= database.now(), leases.c.token == token)
    values = {"token": token, "expires_at": database.now() + timedelta(seconds=ATTENDANCE_S)}
    with database.write() as connection:
        connection.execute(database.dialect.insert_or_ignore(leases).values(name=_name(job)))
        connection.execute(update(leases).where(leases.c.name == _name(job), free).values(values))


def _write(database: Database, job: str, token: str, *, leave: bool) -> None:
    ends = None if leave else database.now() + timedelta(seconds=ATTENDANCE_S)
    values = {"expires_at": ends, "token": None if leave else token}
    with database.write() as connection:
        connection.execute(update(leases).where(leases.c.name == _name(job), leases.c.token == token).values(values))


def _name(job: str) -> str:
    return f"drain:{job}"
