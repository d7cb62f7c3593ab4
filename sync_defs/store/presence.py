"""Presence: a row in `sync_leases` that says that somebody is at work. It guards no data, others only look at it.

It is renewed every 5 s, and a killed process's ends within 20 s.
"""

from collections.abc import Callable, Collection, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import Final, Self

from sqlalchemy import Connection, or_, select, update

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
        self._leave(self._names)

    def take(self, name: str) -> bool:
        """Say that somebody is at work, and return whether nobody else has said so already.

        A name of at most 80 characters. One that is taken is tried again at each renewal.
        """
        is_taken = _take(self._database, name, self._token, None)
        self._names = {*self._names, name}  # a set of its own: the other thread goes through the one before
        return is_taken

    def leave(self, name: str) -> None:
        """Say that nobody is, before the end."""
        self._names = self._names - {name}
        self._leave({name})

    def _renew(self) -> None:
        if self._names and not self._is_stuck():
            with self._database.write() as connection:
                _take_free(connection, self._database, self._names, self._token, None)

    def _leave(self, names: Collection[str]) -> None:
        if names:
            _write(self._database, names, self._token, leave=True)


def keep_presence(database: Database, name: str, *, token: str, for_s: float) -> None:
    """Let a presence that fades last longer: nobody is at work for so many seconds, and somebody will be then."""
    ends = database.now() + timedelta(seconds=for_s + PRESENCE_S)
    with database.write() as connection:
        connection.execute(update(leases).where(leases.c.name == name, leases.c.token == token).values(expires_at=ends))


def _take(database: Database, name: str, token: str, holder: str | None) -> bool:
    with database.write() as connection:
        database.dialect.insert_absent(connection, leases, {"name": name})
        _take_free(connection, database, [name], token, holder)
        held = select(leases.c.token).where(leases.c.name == name)
        return connection.execute(held).scalar_one() == token


def _take_free(
    connection: Connection, database: Database, names: Collection[str], token: str, holder: str | None
) -> None:
    """Take what is free of some names, and renew what is taken already."""
    free = or_(leases.c.expires_at.is_(None), leases.c.expires_at <= database.now(), leases.c.token == token)
    ends = database.now() + timedelta(seconds=PRESENCE_S)
    values = {"token": token, "holder": holder, "expires_at": ends}
    connection.execute(update(leases).where(leases.c.name.in_(names), free).values(values))


def _write(database: Database, names: Collection[str], token: str, *, leave: bool) -> None:
    ends = None if leave else database.now() + timedelta(seconds=PRESENCE_S)
    values = {"expires_at": ends, "token": None if leave else token}
    with database.write() as connection:
        connection.execute(update(leases).where(leases.c.name.in_(names), leases.c.token == token).values(values))
