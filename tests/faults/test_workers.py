"""Workers that are stopped and go on, whose clocks are off, and that wait for locks."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from sync_defs import Database
from sync_defs.inbox import Inbox
from sync_defs.store.dialects import sqlite
from sync_defs.store.schema import leases, queue
from tests.faults import roles
from tests.faults.keeper import A_MINUTE_S, Keeper, accept
from tests.faults.shop import APPLIED, JOBS

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]
THREE_LEASES = 3
AN_HOUR_S = 3_600.0


@pytest.fixture
def applied(keeper):
    """Ids of the messages that were applied, in order."""

    def read() -> list[str]:
        with keeper.database.read() as connection:
            return list(connection.execute(sa.select(APPLIED.c.message_id).order_by(APPLIED.c.id)).scalars())

    return read


@pytest.mark.skipif(sys.platform != "linux", reason="reads from /proc whether a process is stopped")
@pytest.mark.parametrize("job", ["goods", "cards"])
def test_g8_a_drain_that_was_stopped_for_three_leases_writes_nothing(keeper, zygote, log, applied, job):
    zygote.warm_up(keeper.url, str(keeper.source.path))
    keeper.accept(keeper.make(job, "first", ("x", 1)))
    stopped = zygote.start("drain", log, kill=("claim.committed", 1, signal.SIGSTOP), **keeper.given)
    stopped.wait_until_stopped()
    keeper.minutes += THREE_LEASES
    assert keeper.settle() == []
    keeper.accept(keeper.make(job, "second", ("x", 2)))
    assert keeper.settle() == []
    before = applied()
    stopped.signal(signal.SIGCONT)
    wait_until(lambda: idle(keeper, log), stopped)
    stopped.signal(signal.SIGKILL)
    assert stopped.wait() == -signal.SIGKILL
    assert (applied(), keeper.settle()) == (before, [])
    assert before[-2:] == ["first", "second"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads from /proc whether a process is stopped")
@pytest.mark.parametrize("point", ["begin.committed", "stage.committed", "diff.committed"])
def test_g8_a_full_sync_that_was_stopped_for_three_leases_writes_nothing(keeper, zygote, log, point):
    zygote.warm_up(keeper.url, str(keeper.source.path))
    day = [keeper.make("goods", f"m{number}", ("x", number)) for number in (1, 2)]
    told = {"job": "goods", "day": [asdict(message) for message in day], "acknowledged": str(log.with_name("known"))}
    stopped = zygote.start("a day", log, kill=(point, 1, signal.SIGSTOP), **told, **keeper.given)
    stopped.wait_until_stopped()
    keeper.make("goods", "later", ("x", 3))
    keeper.minutes += THREE_LEASES
    assert keeper.settle() == []
    stopped.signal(signal.SIGCONT)
    assert stopped.wait() == 1  # its stage is gone, or its lease
    assert keeper.settle() == []


def test_g9_an_item_that_kills_whoever_applies_it_costs_five_workers_and_no_other_item(keeper, zygote, log, applied):
    """What it is claimed with grows fewer with each death, so that all others have landed when it is given up."""
    zygote.warm_up(keeper.url, str(keeper.source.path))
    keeper.accept(keeper.make("cards", "many", *[(f"card-{number}", 1) for number in range(150)]))
    ends: list[int] = []
    while 0 not in ends:
        keeper.minutes += 1
        ends.append(zygote.start("drain once", log, poison="card-75", **keeper.given).wait())
    assert ends == [*[-signal.SIGKILL] * 5, 0], log.read_text()
    assert applied() == ["many"] * 149
    inbox = Inbox(keeper.database)
    left = [(message.external_id, message.code, message.deaths) for message in inbox.list_messages("cards")]
    assert left == [("card-75", "worker_died", 5)]
    assert inbox.retry("cards") == 1  # once its callback is mended
    assert keeper.settle() == []


def idle(keeper: Keeper, log: Any) -> bool:
    """Tell whether the drain that went on has looked for more: it says so by its presence."""
    with keeper.database.read() as connection:
        held = sa.select(leases.c.token).where(leases.c.name.startswith("drain:"), leases.c.token.is_not(None))
        return connection.execute(held).first() is None


def wait_until(is_so: Any, child: Any) -> None:
    for _ in range(3_000):
        if is_so():
            return
        assert child.is_alive
        threading.Event().wait(0.01)
    raise TimeoutError("it did not go on")


@pytest.mark.parametrize("ahead_s", [AN_HOUR_S, -AN_HOUR_S])
def test_a_worker_whose_clock_is_an_hour_off_loses_and_doubles_nothing(keeper, applied, ahead_s):
    """Ahead, it takes what others hold, and these are fenced; behind, it finds nothing due."""
    inbox = Inbox(keeper.database)
    for number in range(3):
        keeper.accept(keeper.make("goods", f"m{number}", (f"x{number}", 1)))
    held = inbox.claim("goods", 2)
    off = replace(keeper.clock, ahead_s=keeper.clock.ahead_s + ahead_s)
    with Database(keeper.url, clock=off) as database:
        roles.drain_due(keeper.stage(database), run_id="off")
        assert sorted(applied()) == (["m0", "m1", "m2"] if ahead_s > 0 else [])
        with keeper.database.write() as connection:
            assert len(inbox.lock(connection, held)) == (0 if ahead_s > 0 else 2)
        accept(keeper.make("goods", "by-it", ("x0", 2)), database)
    keeper.minutes += int(AN_HOUR_S / A_MINUTE_S) + 1  # what it accepted is due by its clock
    assert keeper.settle() == []


@contextmanager
def impatient(keeper: Keeper, patch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Open the database so that a lock is waited for no longer than a moment."""
    patch.setattr(sqlite, "_BUSY_TIMEOUT_MS", 100)
    url = sa.make_url(keeper.url)
    query = {
        "sqlite": {},
        "postgresql": {"options": "-c lock_timeout=100 -c deadlock_timeout=10"},
        "mysql": {"init_command": "SET SESSION innodb_lock_wait_timeout = 1"},
    }[url.get_backend_name()]
    given = url.update_query_dict(query).render_as_string(hide_password=False)
    with Database(given, clock=keeper.now) as database:
        yield database


def test_a_lock_that_outlasts_every_wait_costs_time_and_nothing_else(keeper, monkeypatch):
    """Somebody holds what every writer of the job needs, through a receiver's, a drain's and a sync's whole wait."""
    keeper.accept(keeper.make("goods", "before", ("x", 1)))
    roles.drain_due(keeper.stage(), run_id="before")
    keeper.accept(keeper.make("goods", "waiting", ("x", 2)))
    with impatient(keeper, monkeypatch) as database:
        database.ensure_ready()
        with keeper.database.write() as holder:
            holder.execute(sa.select(leases.c.name).where(leases.c.name == "write:goods").with_for_update())
            holder.execute(sa.select(queue.c.job).with_for_update())
            with pytest.raises(DBAPIError):
                accept(keeper.make("goods", "refused", ("x", 3)), database)
            with suppress(DBAPIError):
                roles.drain_due(keeper.stage(database), run_id="meanwhile")
            with pytest.raises(DBAPIError):
                roles.sync(JOBS["goods"], keeper.stage(database))
    assert keeper.settle() == []


@pytest.mark.parametrize("migrated_url", ["postgresql", "mariadb"], indirect=True)
def test_a_deadlock_ends_one_of_the_two_and_nothing_is_lost(keeper, applied):
    """Another transaction has the item's row and wants the job's lock, which the drain has while it wants the row."""
    keeper.accept(keeper.make("goods", "first", ("x", 1)))
    roles.drain_due(keeper.stage(), run_id="before")
    keeper.accept(keeper.make("goods", "second", ("x", 2)))
    ends: list[str] = []
    ready, inbox = threading.Event(), Inbox(keeper.database)
    claim = inbox.claim("goods", 1)
    inbox.release(claim)

    def disturb() -> None:
        try:
            with keeper.database.write() as connection:
                connection.execute(sa.select(queue.c.job).with_for_update())
                ready.set()
                wait_for_waiter(keeper)
                connection.execute(sa.select(leases.c.name).where(leases.c.name == "write:goods").with_for_update())
        except DBAPIError as error:
            ends.append(type(error).__name__)

    stage = keeper.stage()
    lock = Inbox.lock

    def lock_behind_the_other(self: Inbox, connection: sa.Connection, claims: Any) -> set[int]:
        if not ready.is_set():
            other.start()
            ready.wait(30)
        return lock(self, connection, claims)

    other = threading.Thread(target=disturb)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inbox, "lock", lock_behind_the_other)
        roles.drain_due(stage, run_id="meanwhile")
    other.join(60)
    assert not other.is_alive()
    assert applied()[0] == "first"
    assert keeper.settle() == []
    assert applied() == ["first", "second"]


def wait_for_waiter(keeper: Keeper) -> None:
    """Return once somebody waits for a lock."""
    waiting = {
        "postgresql": "SELECT 1 FROM pg_locks WHERE NOT granted",
        "mariadb": "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
    }[keeper.database.dialect.name]
    for _ in range(3_000):
        with keeper.database.read() as connection:
            if connection.exec_driver_sql(waiting).first():
                return
        threading.Event().wait(0.01)
    raise TimeoutError("nobody waits")
