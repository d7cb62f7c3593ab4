"""Queues that lack one of the things that keep messages from being lost, doubled or undone."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import case, update

import sync_defs.inbox.accept as accept_module
import sync_defs.inbox.claims as claims_module
from sync_defs.engine.items import sync_items
from sync_defs.inbox.accept import Acceptance
from sync_defs.inbox.claims import Claims
from sync_defs.inbox.drain import _Drain
from sync_defs.store.schema import queue
from tests.faults.machine import World, make_job

Mutant = Callable[[pytest.MonkeyPatch, World], None]


def no_generation(patch: pytest.MonkeyPatch, _: World) -> None:
    """A newer message does not show in the row that a worker holds: the older one's end is its end too."""
    replace = Acceptance._replace

    def replacing(self: Any, connection: Any, where: Any, row: Any, values: Any) -> bool:
        is_stored = replace(self, connection, where, row, values)
        connection.execute(update(queue).where(where).values(generation=1))
        return is_stored

    patch.setattr(Acceptance, "_replace", replacing)


def no_version_guard(patch: pytest.MonkeyPatch, _: World) -> None:
    """In the queue an older state takes the place of a newer one."""
    patch.setattr(accept_module, "is_older", lambda *_, **__: False)


def last_write_wins(patch: pytest.MonkeyPatch, world: World) -> None:
    """The target takes whatever comes last."""
    patch.setattr(world, "job", make_job(version=None))


def no_dedupe(patch: pytest.MonkeyPatch, _: World) -> None:
    """An id is new each time."""
    patch.setattr(Acceptance, "_insert_ids", lambda _self, _connection, messages: [True] * len(messages))


def no_lease_expiry(patch: pytest.MonkeyPatch, _: World) -> None:
    """What a dead worker held is held for ever."""
    due = Claims._due
    patch.setattr(Claims, "_due", lambda self, *given: due(self, *given).where(queue.c.token.is_(None)))


def early_acknowledge(patch: pytest.MonkeyPatch, _: World) -> None:
    """The end of a row is committed before its message is applied."""

    def sync(self: Any, readable: Any) -> None:
        claims = [claimed for claimed, _ in readable]
        with self.inbox.database.write() as connection:
            held = self.inbox.lock(connection, claims)
            for index in held:
                self.inbox.acknowledge(connection, claims[index])
        items = [item for _, item in readable]
        run_id = f"{self.results.run_id}.{self.results.transactions + 1}"
        results = sync_items(self.job, self.store, items, run_id=run_id, keep=lambda _: held)
        self.results.transactions += 1
        self._count(claims, results, held)

    patch.setattr(_Drain, "_sync", sync)


def no_fence(patch: pytest.MonkeyPatch, _: World) -> None:
    """Whoever once claimed a row may end it."""
    patch.setattr(claims_module, "_same", lambda claimed: queue.c.item_key == claimed.item_key)
    patch.setattr(Claims, "lock", lambda _self, _connection, claims: set(range(len(claims))))


def no_deaths(patch: pytest.MonkeyPatch, _: World) -> None:
    """An item that kills its workers is tried for ever, together with others."""
    patch.setattr(claims_module, "case", lambda *_, **__: case((queue.c.deaths < 0, 1), else_=0))


def no_backoff(patch: pytest.MonkeyPatch, _: World) -> None:
    """What fails is due again at once."""
    patch.setattr(claims_module, "backoff_s", lambda *_: 0.0)


MUTANTS: dict[str, Mutant] = {
    mutant.__name__: mutant
    for mutant in (
        *(no_generation, no_version_guard, last_write_wins, no_dedupe, no_lease_expiry, early_acknowledge),
        *(no_fence, no_deaths, no_backoff),
    )
}
