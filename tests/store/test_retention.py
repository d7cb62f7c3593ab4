"""What `prune_history` deletes, and what it never does."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from sync_defs import Database, TableSync
from sync_defs.engine import RunRequest, diff, fetch, sync_items, upsert
from sync_defs.store import SqlStore
from sync_defs.store.retention import PrunedHistory, prune_history
from sync_defs.store.schema import changes, runs
from tests.clock import NOW

DAYS_90 = timedelta(days=90)


@pytest.fixture
def deleted_in(database: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """The rows that each transaction deleted, for those that deleted any."""
    by_transaction: list[int] = [0]
    count = database.dialect.count_written

    def counted(connection: Any, statement: Any) -> int:
        rows = count(connection, statement)
        by_transaction[-1] += rows
        return rows

    monkeypatch.setattr(database.dialect, "count_written", counted)
    event.listen(database.engine, "commit", lambda _: by_transaction.append(0))
    return lambda: [rows for rows in by_transaction if rows]


def put_changes(database: Database, *days_ago: float, job: str = "stock") -> None:
    rows = [
        {
            "job": job,
            "external_id": f"{number}",
            "run_id": "r",
            "is_item": True,
            "action": "updated",
            "changed_at": NOW - timedelta(days=days),
        }
        for number, days in enumerate(days_ago)
    ]
    with database.write() as connection:
        connection.execute(sa.insert(changes), rows)


def put_run(database: Database, run_id: str, days_ago: float, **values: Any) -> None:
    started_at = NOW - timedelta(days=days_ago)
    row = {
        "run_id": run_id,
        "job": "stock",
        "trigger": "schedule",
        "status": "succeeded",
        "dry_run": False,
        "is_full": True,
        "watermark": 0,
        "started_at": started_at,
        "completed_at": started_at + timedelta(minutes=1),
        "results": "{}",
    }
    with database.write() as connection:
        connection.execute(sa.insert(runs).values(row | values))


def put_running(database: Database, run_id: str, days_ago: float, **values: Any) -> None:
    put_run(database, run_id, days_ago, status="running", completed_at=None, results=None, **values)


def change_ids(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.execute(sa.select(changes.c.id).order_by(changes.c.id)).scalars())


def run_ids(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(sa.select(runs.c.run_id)).scalars())


# Changes.


def test_changes_older_than_that_go_and_the_others_stay(database):
    put_changes(database, 200, 91, 90.001, 90, 89, 0)
    assert prune_history(database, DAYS_90) == PrunedHistory(changes=3, runs=0)
    assert change_ids(database) == [4, 5, 6]
    assert prune_history(database, DAYS_90) == PrunedHistory(changes=0, runs=0)


def test_nothing_is_there_to_prune(database):
    assert prune_history(database, DAYS_90) == PrunedHistory(changes=0, runs=0)


def test_the_newest_change_stays_so_that_ids_keep_growing(database):
    """SQLite gives the highest id out again once its row is gone."""
    put_changes(database, 300, 200, 100)
    assert prune_history(database, DAYS_90).changes == 2
    assert change_ids(database) == [3]
    put_changes(database, 0)
    assert change_ids(database) == [3, 4]
    assert prune_history(database, DAYS_90).changes == 1
    assert change_ids(database) == [4]


def test_what_a_run_under_way_has_to_know_stays(database):
    put_changes(database, 100, 100, 100, job="stock")
    put_changes(database, 100, 100, job="other")
    put_changes(database, 0)
    put_running(database, "r1", 99, watermark=2)
    assert prune_history(database, DAYS_90).changes == 4
    assert change_ids(database) == [3, 6]
    put_run(database, "ended", 0)
    with database.write() as connection:
        connection.execute(sa.update(runs).where(runs.c.run_id == "r1").values(status="failed", completed_at=NOW))
    assert prune_history(database, DAYS_90).changes == 1
    assert change_ids(database) == [6]


def test_a_message_still_outranks_a_fetch_that_outlives_the_retention(database, clock):
    """The row that says so is old, and needed: it is newer than the watermark of the run."""
    target = sa.Table(
        "items", sa.MetaData(), sa.Column("id", sa.String(20), primary_key=True), sa.Column("n", sa.Integer)
    )
    job = TableSync(lambda source: source, name="items", target=target, key="id", fields={"n": "n"}, create_table=True)
    store = SqlStore(database)
    sync_items(job, store, [{"id": "A", "n": 1}, {"id": "B", "n": 1}])

    def source() -> Iterator[dict[str, Any]]:
        yield {"id": "A", "n": 2}
        yield {"id": "B", "n": 2}
        sync_items(job, store, [{"id": "A", "n": 50}])
        clock.now += timedelta(days=100)
        sync_items(job, store, [{"id": "C", "n": 1}])
        assert prune_history(database, DAYS_90).changes == 2

    handle = fetch(job, store, RunRequest(full=True), resources={"source": source()})
    diff(job, store, handle)
    results = upsert(job, store, handle)
    assert (results.updated, results.stale) == (1, 1)
    with database.read() as connection:
        assert connection.execute(sa.select(target).order_by(target.c.id)).all() == [("A", 50), ("B", 2), ("C", 1)]


def test_an_old_change_among_young_ones_goes_too(database):
    """A long run writes its history with the time of its begin, behind what came in meanwhile."""
    put_changes(database, 100, 0, 95, 0, 92, 0)
    assert prune_history(database, DAYS_90, batch=3).changes == 3
    assert change_ids(database) == [2, 4, 6]


def test_many_changes_go_in_small_transactions(database, deleted_in):
    put_changes(database, *[100] * 25, *[0] * 5)
    assert prune_history(database, DAYS_90, batch=10).changes == 25
    assert deleted_in() == [10, 10, 5]


def test_young_changes_cost_nothing(database):
    """However many there are: the walk ends at the first batch without an old one."""
    put_changes(database, *[100] * 3, *[0] * 500)
    sent: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *arguments: sent.append(arguments[2]))
    assert prune_history(database, DAYS_90, batch=5).changes == 3
    assert len([statement for statement in sent if "sync_changes" in statement]) == 4


# Runs.


def test_ended_runs_older_than_that_go(database):
    put_run(database, "old", 91)
    put_run(database, "failed", 100, status="failed", results=None)
    put_run(database, "young", 89)
    assert prune_history(database, DAYS_90) == PrunedHistory(changes=0, runs=2)
    assert run_ids(database) == {"young"}


def test_a_run_that_ended_within_that_stays_though_it_began_before(database):
    put_run(database, "long", 91, completed_at=NOW - timedelta(days=89))
    put_run(database, "young", 0)
    assert prune_history(database, DAYS_90).runs == 0


def test_a_run_under_way_stays_whatever_its_age(database):
    put_running(database, "stuck", 400)
    put_run(database, "young", 0)
    assert prune_history(database, DAYS_90).runs == 0
    assert run_ids(database) == {"stuck", "young"}


def test_the_newest_ended_run_of_each_job_stays(database):
    for job in ("stock", "prices"):
        for age in (300, 200, 100):
            put_run(database, f"{job}-{age}", age, job=job)
    put_running(database, "stock-running", 99)
    assert prune_history(database, DAYS_90).runs == 4
    assert run_ids(database) == {"stock-100", "prices-100", "stock-running"}
    assert prune_history(database, DAYS_90).runs == 0


def test_the_newest_run_with_results_stays_too(database):
    """A killed run has none, and is no answer to what the last run did."""
    put_run(database, "older", 300)
    put_run(database, "told", 200)
    put_run(database, "killed", 100, status="failed", results=None)
    put_running(database, "running", 95)
    assert prune_history(database, DAYS_90).runs == 1
    assert run_ids(database) == {"told", "killed", "running"}


def test_many_runs_go_in_small_transactions(database, deleted_in):
    for number in range(6):
        put_run(database, f"r{number}", 100 + number)
    assert prune_history(database, DAYS_90, batch=2).runs == 5
    assert deleted_in() == [2, 2, 1]
    assert run_ids(database) == {"r0"}
