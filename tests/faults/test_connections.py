"""The way to the database breaks, and nothing is lost, doubled or miscounted: also where a COMMIT was heard."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from sync_defs import Database
from sync_defs.errors import DatabaseNotReadyError
from tests.faults import roles
from tests.faults.keeper import Keeper
from tests.faults.proxy import Proxy, broken_way
from tests.faults.shop import JOBS

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(1_800),
    # Psycopg's word for a cursor of the server's whose connection broke while it was read.
    pytest.mark.filterwarnings("ignore:.*deleted while still open:ResourceWarning"),
    pytest.mark.parametrize("migrated_url", ["postgresql", "mariadb"], indirect=True),
]


@pytest.fixture
def way(keeper: Keeper) -> Iterator[tuple[Database, Proxy]]:
    with broken_way(keeper.url) as (url, proxy), Database(url, clock=keeper.now) as database:
        database.ensure_ready()
        yield database, proxy


def accept(keeper: Keeper, database: Database, number: int, job: str) -> None:
    message = keeper.make(job, f"a-{number}", (f"{job}-{number}", 1), (f"{job}-{number % 3}", number + 1))
    keeper.accept(message, database)


def drain(keeper: Keeper, database: Database, number: int, job: str) -> None:
    accept(keeper, keeper.database, number, job)
    roles.drain_due(keeper.stage(database), run_id=f"drain-{number}")


def sync(keeper: Keeper, database: Database, number: int, job: str) -> None:
    keeper.make(job, f"s-{number}", (f"{job}-{number}", 1), (f"{job}-{number % 3}", number + 1))
    roles.sync(JOBS[job], keeper.stage(database))


def cut_at_each(keeper: Keeper, way: Any, act: Callable[..., None], job: str, *, words: bytes, step: int) -> int:
    """Cut at the first request with the words, then at a later one, until the act comes to its end undisturbed."""
    database, proxy = way
    number, at = 1_000, 1
    act(keeper, database, number, job)  # all statements are compiled, and the tables known
    while True:
        number += 1
        proxy.arm(at, words)
        try:
            act(keeper, database, number, job)
        except (DBAPIError, DatabaseNotReadyError):
            assert proxy.has_cut
        was_cut = proxy.has_cut
        proxy.arm(0)
        assert (at, keeper.settle()) == (at, [])
        if not was_cut:
            return at
        at += step


@pytest.mark.parametrize(
    ("act", "job", "commits"),
    [(accept, "goods", 1), (drain, "goods", 2), (sync, "goods", 5), (sync, "cards", 5)],
    ids=["accept", "drain", "sync", "sync by callbacks"],
)
def test_the_reply_to_each_commit_is_lost(keeper, way, act, commits, job, request):
    if job == "cards" and not request.config.getoption("--fault-long"):
        pytest.skip("only with --fault-long")
    assert cut_at_each(keeper, way, act, job, words=b"COMMIT", step=1) > commits


@pytest.mark.parametrize(("act", "requests"), [(accept, 3), (drain, 20), (sync, 30)], ids=["accept", "drain", "sync"])
def test_the_connection_is_cut_at_each_request(keeper, way, act, requests, request):
    step = 1 if request.config.getoption("--fault-long") else {accept: 2, drain: 13, sync: 29}[act]
    assert cut_at_each(keeper, way, act, "goods", words=b"", step=step) > requests
