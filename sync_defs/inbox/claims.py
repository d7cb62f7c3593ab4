"""Claiming queue rows and settling them: leases, attempts and backoff.

At least once: a claim is a lease, and a worker that dies leaves a row that is due again when it runs out. What makes
an effect happen once is that `acknowledge` shares the transaction of the data and matches token **and** generation.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, Row, Select, and_, case, delete, select, update
from sqlalchemy.sql import ColumnElement

from sync_defs.inbox.message import Claimed
from sync_defs.store.dialects import SqlDialect
from sync_defs.store.schema import queue

LEASE_S: Final = 60.0
MAX_CLAIMED: Final = 1_000
MAX_ATTEMPTS: Final = 25
MAX_DEATHS: Final = 5
TOGETHER: Final = 20
"""Rows in a claim over which a worker has died once; those over which more have died are claimed alone."""
_SHORTEST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 6 * 3600


def backoff_s(attempts: int, random: Callable[[], float]) -> float:
    """Return the wait after so many failed attempts: min(6 h, 2^n s), half of it fixed and half by chance.

    Args:
        attempts: failed attempts, at least 1.
        random: returns a number from 0 to 1.
    """
    wait_s = min(_LONGEST_WAIT_S, 2 ** min(attempts, 15))
    return wait_s / 2 + wait_s / 2 * random()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Claims and settles in the caller's transaction, at one instant."""

    dialect: SqlDialect
    now: datetime

    def claim(self, connection: Connection, job: str, *, limit: int, lease_s: float) -> list[Claimed]:
        """Lease due rows, oldest first; rows whose workers died too often become dead instead.

        Rows over which workers have died are claimed apart from others and few at a time, so that the one which kills
        its worker is soon alone: none of those claimed with it gets more than two deaths by it.
        """
        token = uuid4().hex
        statement = self._due(job, limit)
        while rows := connection.execute(statement).all():
            dying = [row.item_key for row in rows if _deaths(row) >= MAX_DEATHS]
            self._bury(connection, job, dying)
            buried = set(dying)
            alive = [row for row in rows if row.item_key not in buried]
            if alive:
                chosen = _together(alive)
                self._lease(connection, job, [row.item_key for row in chosen], token=token, lease_s=lease_s)
                return [_claimed(row, token) for row in chosen]
        return []

    def renew(self, connection: Connection, claims: Iterable[Claimed], *, lease_s: float) -> list[Claimed]:
        """Prolong leases; return the claims that are still held."""
        held = self._update_held(connection, claims, {"due_at": self.now + timedelta(seconds=lease_s)})
        return [claimed for claimed in claims if _place(claimed) in held]

    def release(self, connection: Connection, claims: Iterable[Claimed]) -> None:
        """Give rows back, due at once; no attempt is counted."""
        self._update_held(connection, claims, {"token": None, "due_at": self.now})

    def lock(self, connection: Connection, claims: Sequence[Claimed]) -> set[int]:
        """Lock the claimed rows until the transaction ends; return the positions of the claims that still hold.

        A claim whose item got a newer message is given back, so that the newer one is due at once.
        """
        columns = (queue.c.job, queue.c.item_key, queue.c.token, queue.c.generation)
        held: dict[tuple[str, bytes], tuple[str | None, int]] = {}
        for job, _, keys in _grouped(claims):
            statement = select(*columns).where(_rows(job, keys)).order_by(queue.c.item_key).with_for_update()
            for row in connection.execute(statement):
                held[row.job, row.item_key] = (row.token, row.generation)
        valid: set[int] = set()
        for index, claimed in enumerate(claims):
            token, generation = held.get(_place(claimed), (None, 0))
            if token == claimed.token and generation == claimed.generation:
                valid.add(index)
            elif token == claimed.token:
                self.release(connection, [claimed])
        return valid

    def acknowledge(self, connection: Connection, claimed: Claimed) -> bool:
        """Delete an applied row if it is still the one that was claimed; else give a newer message back."""
        statement = delete(queue).where(_same(claimed))
        return bool(self.dialect.count_written(connection, statement)) or self._give_back(connection, claimed)

    def settle(self, connection: Connection, claimed: Claimed, values: Mapping[str, Any]) -> bool:
        """End the lease with new values if the row is still the one that was claimed; else give it back."""
        statement = update(queue).where(_same(claimed)).values(token=None, **values)
        return bool(self.dialect.count_written(connection, statement)) or self._give_back(connection, claimed)

    def retry_values(self, claimed: Claimed, *, random: Callable[[], float], wait_s: float) -> dict[str, Any]:
        """Return what a failed attempt makes of a row: due later, or dead after the last one."""
        attempts = claimed.attempts + 1
        wait_s = max(backoff_s(attempts, random), min(wait_s, _LONGEST_WAIT_S))
        due_at = None if attempts >= MAX_ATTEMPTS else self.now + timedelta(seconds=wait_s)
        return {"due_at": due_at, "attempts": attempts}

    def postpone(self, connection: Connection, job: str, *, wait_s: float) -> bool:
        """Make up to 1,000 due rows that nobody has claimed due later; return False once there are none."""
        statement = self._due(job, MAX_CLAIMED).where(queue.c.token.is_(None))
        keys = [row.item_key for row in connection.execute(statement.with_only_columns(queue.c.item_key))]
        until = self.now + timedelta(seconds=min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S))
        if keys:
            connection.execute(update(queue).where(_rows(job, keys)).values(due_at=until))
        return bool(keys)

    def _due(self, job: str, limit: int) -> Select[Any]:
        """Return the SELECT that locks due rows, oldest first, and passes over those that others have locked."""
        return (
            select(queue)
            .where(queue.c.job == job, queue.c.due_at <= self.now)
            .order_by(queue.c.due_at, queue.c.item_key)
            .limit(min(limit, MAX_CLAIMED))
            .with_for_update(skip_locked=True)
        )

    def _give_back(self, connection: Connection, claimed: Claimed) -> bool:
        self.release(connection, [claimed])
        return False

    def _lease(self, connection: Connection, job: str, keys: list[bytes], *, token: str, lease_s: float) -> None:
        statement = (
            update(queue)
            .where(_rows(job, keys))
            # In this order, since MySQL reads a column as what an earlier assignment made of it.
            .ordered_values(
                (queue.c.deaths, queue.c.deaths + case((queue.c.token.is_not(None), 1), else_=0)),
                (queue.c.token, token),
                (queue.c.due_at, self.now + timedelta(seconds=lease_s)),
            )
        )
        connection.execute(statement)

    def _bury(self, connection: Connection, job: str, keys: list[bytes]) -> None:
        if keys:
            error = f"{MAX_DEATHS} workers died while they held it"
            statement = update(queue).where(_rows(job, keys)).values(due_at=None, token=None, deaths=MAX_DEATHS)
            connection.execute(statement.values(code="worker_died", error=error))

    def _update_held(
        self, connection: Connection, claims: Iterable[Claimed], values: Mapping[str, Any]
    ) -> set[tuple[str, bytes]]:
        held: set[tuple[str, bytes]] = set()
        for job, token, keys in _grouped(claims):
            statement = update(queue).where(_rows(job, keys), queue.c.token == token).values(**values)
            written = self.dialect.updated_rows(connection, statement, queue.c.job, queue.c.item_key)
            held.update((row.job, row.item_key) for row in written)
        return held


def _grouped(claims: Iterable[Claimed]) -> list[tuple[str, str, list[bytes]]]:
    keys: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
    for claimed in claims:
        keys[claimed.job, claimed.token].append(claimed.item_key)
    return [(job, token, sorted(found)) for (job, token), found in sorted(keys.items())]


def _rows(job: str, keys: list[bytes]) -> ColumnElement[bool]:
    return and_(queue.c.job == job, queue.c.item_key.in_(keys))


def _same(claimed: Claimed) -> ColumnElement[bool]:
    return and_(
        queue.c.job == claimed.job,
        queue.c.item_key == claimed.item_key,
        queue.c.token == claimed.token,
        queue.c.generation == claimed.generation,
    )


def _place(claimed: Claimed) -> tuple[str, bytes]:
    return claimed.job, claimed.item_key


def _deaths(row: Row[*tuple[Any, ...]]) -> int:
    """Return how many workers died over a due row, the one included that holds it and let its lease run out."""
    return row.deaths + (row.token is not None)


def _together(rows: Sequence[Row[*tuple[Any, ...]]]) -> list[Row[*tuple[Any, ...]]]:
    """Return those of the due rows that one claim may hold, the longest due among them."""
    deaths = _deaths(rows[0])
    most = (len(rows), TOGETHER)[deaths] if deaths < 2 else 1
    return [row for row in rows if _deaths(row) == deaths][:most]


def _claimed(row: Row[*tuple[Any, ...]], token: str) -> Claimed:
    return Claimed(
        job=row.job,
        item_key=row.item_key,
        external_id=row.external_id,
        generation=row.generation,
        payload=row.payload,
        version=row.version,
        token=token,
        attempts=row.attempts,
        deaths=_deaths(row),
        message_id=row.message_id,
        received_at=row.received_at,
    )
