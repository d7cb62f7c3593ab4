"""Presence: a row in `sync_leases` that says that somebody is at work. It guards no data, others only look at it.

It is renewed every 5 s, and a killed process's ends within 20 s.
"""

from collections.abc import Callable, Collection, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import Final, Self

from sqlalchemy import or_, update

from sync_defs.store.database import Database
from sync_defs.store.renewal import renewing
from sync_defs.store.schema import leases

PRESENCE_S: Final = 20.0
_RENEW_S: Final = 5.0


@contextmanager
def present(
    database: Database, name: str, *, token: str, holder: str | None = None, fades: bool = False
) -> Generator[None]:
    """Say that somebody is at work during the block, unless the name is taken already.

    Args:
        database: where the leases are.
        name: of the lease, at most 80 characters.
        token: who works, at most 64 characters.
        holder: what there is to know of him.
        fades: whether the presence ends by itself some time after the block, and not with it.
    """
    _take(database, name, token, holder)
    try:
        with renewing(lambda: _write(database, [name], token, leave=False), every_s=_RENEW_S, name=name):
            yield
    finally:
        if not fades:
            _write(database, [name], token, leave=True)


class Presences(AbstractContextManager["Presences"]):
    """The presences of one who works at several things, ever more of them; renewed together, by one thread."""

    def __init__(self, database: Database, *, token: str, is_stuck: Callable[[], bool] = lambda: False) -> None:
        """Take none yet.

        Args:
            database: where the leases are.
            token: who works, at most 64 characters.
            is_stuck: asked from another thread; while it is true, nothing is renewed.
        """
        self._database = database
        self._token = token
        self._is_stuck = is_stuck
        self._names: set[str] = set()
        self._renewing = ExitStack()

    def __enter__(self) -> Self:
        """Begin to renew."""
        self._renewing.enter_context(renewing(self._renew, every_s=_RENEW_S, name=f"presences {self._token}"))
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave all."""
        self._renewing.close()
        self._write(self._names, leave=True)

    def take(self, name: str) -> None:
        """Say that somebody is at work, unless the name is taken already; at most 80 characters."""
        _take(self._database, name, self._token, None)
        self._names = {*self._names, name}  # a set of its own: the other thread goes through the one before

    def leave(self, name: str) -> None:
        """Say that nobody is, before the end."""
        self._names = self._names - {name}
        self._write({name}, leave=True)

    def _renew(self) -> None:
        if not self._is_stuck():
            self._write(self._names, leave=False)

    def _write(self, names: Collection[str], *, leave: bool) -> None:
        if names:
            _write(self._database, names, self._token, leave=leave)


def keep_presence(database: Database, name: str, *, token: str, for_s: float) -> None:
    """Let a presence that fades last longer: nobody is at work for so many seconds, and somebody will be then."""
    ends = database.now() + timedelta(seconds=for_s + PRESENCE_S)
    with database.write() as connection:
        connection.execute(update(leases).where(leases.c.name == name, leases.c.token == token).values(expires_at=ends))


def _take(database: Database, name: str, token: str, holder: str | None) -> None:
    free = or_(leases.c.expires_at.is_(None), leases.c.expires_at <= database.now(), leases.c.token == token)
    ends = database.now() + timedelta(seconds=PRESENCE_S)
    values = {"token": token, "holder": holder, "expires_at": ends}
    with database.write() as connection:
        database.dialect.insert_absent(connection, leases, {"name": name})
        connection.execute(update(leases).where(leases.c.name == name, free).values(values))


def _write(database: Database, names: Collection[str], token: str, *, leave: bool) -> None:
    ends = None if leave else database.now() + timedelta(seconds=PRESENCE_S)
    values = {"expires_at": ends, "token": None if leave else token}
    with database.write() as connection:
        connection.execute(update(leases).where(leases.c.name.in_(names), leases.c.token == token).values(values))
