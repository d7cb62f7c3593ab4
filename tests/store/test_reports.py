"""Results wait in the database until an orchestrator has been told of them."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sync_defs import TableSync
from sync_defs.engine import sync_items
from sync_defs.store import SqlStore
from sync_defs.store.reports import MOST_JOBS, confirm_reports, confirm_told, take_reports
from tests.clock import NOW


@pytest.fixture
def sync(database):
    """Sync one item of a job in a transaction of its own."""
    key = sa.Column("id", sa.String(20), primary_key=True)
    items = sa.Table("items", sa.MetaData(), key, sa.Column("n", sa.Integer))

    def run(run_id, *, job="stock", **options):
        definition = TableSync(list, name=job, target=items, key="id", fields={"n": "n"}, create_table=True)
        return sync_items(definition, SqlStore(database), [{"id": run_id, "n": 1}], run_id=run_id, **options)

    return run


def due(database, clock, *, jobs=("stock",), seconds=60, **options):
    until = clock.now + timedelta(seconds=seconds)
    return [results.run_id for results in take_reports(database, jobs, until=until, **options)], until


def test_a_result_is_due_at_once_where_nobody_else_tells(database, clock, sync):
    sync("r1")
    [results] = take_reports(database, ["stock"], until=NOW + timedelta(minutes=1))
    assert (results.run_id, results.created, results.status) == ("r1", 1, "succeeded")
    assert [(sample.external_id, sample.action) for sample in results.samples] == [("r1", "created")]


def test_who_applies_has_time_to_tell_himself(database, clock, sync):
    sync("r1", report_after_s=60)
    sync("r2", report_after_s=60)
    assert due(database, clock)[0] == []
    confirm_told(database, ["r1"])
    clock.now += timedelta(seconds=60)
    assert due(database, clock)[0] == ["r2"]


def test_what_was_taken_comes_again_without_a_confirmation(database, clock, sync):
    sync("r1")
    assert due(database, clock)[0] == ["r1"]
    assert due(database, clock)[0] == []
    clock.now += timedelta(seconds=60)
    taken, until = due(database, clock)
    assert taken == ["r1"]
    confirm_reports(database, ["stock"], until=until)
    clock.now += timedelta(hours=1)
    assert due(database, clock)[0] == []


def test_a_late_confirmation_counts_and_covers_nothing_that_came_after(database, clock, sync):
    sync("r1")
    _, until = due(database, clock)
    clock.now += timedelta(seconds=61)
    sync("r2")
    confirm_reports(database, ["stock"], until=until)
    assert due(database, clock)[0] == ["r2"]


def test_other_jobs_are_left_to_others(database, clock, sync):
    sync("r1", job="prices")
    assert due(database, clock)[0] == []
    confirm_reports(database, ["stock"], until=NOW)
    assert due(database, clock, jobs=["stock", "prices"])[0] == ["r1"]


def test_a_backlog_is_taken_in_portions_the_oldest_first(database, clock, sync):
    for number in range(3):
        sync(f"r{number}")
        clock.now += timedelta(seconds=1)
    assert due(database, clock, limit=2)[0] == ["r0", "r1"]
    assert due(database, clock, limit=2, seconds=61)[0] == ["r2"]


def test_of_many_jobs_those_are_told_of_that_have_waited_the_longest(database, clock, sync):
    names = [f"job_{number}" for number in range(MOST_JOBS + 2)]
    for name in reversed(names):
        sync(f"{name}.1", job=name)
        clock.now += timedelta(seconds=1)
    sync(f"{names[-1]}.2", job=names[-1])
    taken, _ = due(database, clock, jobs=names)
    assert taken == [*[f"{name}.1" for name in reversed(names[2:])], f"{names[-1]}.2"]
    assert due(database, clock, jobs=names)[0] == ["job_1.1", "job_0.1"]
