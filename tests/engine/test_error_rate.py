"""Where most records are rejected the fault is not theirs: the run stops, and nothing is deleted."""

from itertools import count

import pytest
import sqlalchemy as sa

from sync_defs import RunStatus
from sync_defs.errors import TooManyRejectsError
from sync_defs.store import SqlStore


def records(good, bad):
    return [{"sku": f"G{n:04}", "quantity": 1} for n in range(good)] + [
        {"sku": f"X{n:04}", "quantity": "many"} for n in range(bad)
    ]


@pytest.mark.parametrize(("good", "bad"), [(9, 11), (200, 201)])
def test_a_run_of_mostly_bad_records_stops_and_deletes_nothing(world, good, bad):
    world.records = [{"sku": "OLD", "quantity": 7}]
    world.sync()
    world.records = records(good, bad)
    message = f"job 'variants': {bad} of the first {good + bad} records were rejected, over max_rejected_fraction=0.5"
    with pytest.raises(TooManyRejectsError, match=message) as caught:
        world.sync(world.job(on_missing="delete"))
    assert caught.value.code == "too_many_rejects"
    assert "OLD" in world.rows()
    newest = SqlStore(world.database).recent_results("variants", limit=1)[0]
    assert (newest.status, newest.deleted, newest.rejected > 0) == (RunStatus.FAILED, 0, world.kind == "table")
    assert newest.error is not None
    assert newest.error.startswith("job 'variants': ")


@pytest.mark.parametrize(("good", "bad"), [(10, 10), (0, 19)])
def test_a_run_with_some_bad_records_lands(world, good, bad):
    world.records = records(good, bad)
    results = world.sync()
    assert (results.created, results.rejected) == (good, bad)


def test_the_source_is_asked_no_further(table_world):
    asked = []

    def pages():
        for number in count():
            asked.append(number)
            yield [{"sku": f"X{number}-{n}", "quantity": "many"} for n in range(2_000)]

    table_world.records = pages()
    with pytest.raises(TooManyRejectsError):
        table_world.sync()
    assert len(asked) <= 3  # one is being fetched while one is judged


def test_rows_that_the_database_refuses_count_too(table_world):
    table_world.records = [{"sku": "OLD", "quantity": 7}]
    table_world.sync()
    table_world.records = [{"sku": f"S{n:02}", "quantity": -1 if n < 13 else 1} for n in range(25)]
    with pytest.raises(TooManyRejectsError, match="13 of the first 25 records"):
        table_world.sync(table_world.job(on_missing="delete"))
    assert set(table_world.rows()) == {"OLD"}


def test_a_job_sets_its_own_limit(world):
    world.records = records(27, 3)
    with pytest.raises(TooManyRejectsError, match=r"over max_rejected_fraction=0\.05"):
        world.sync(world.job(max_rejected_fraction=0.05))
    world.records = records(0, 30)
    assert world.sync(world.job(max_rejected_fraction=1)).rejected == 30


def test_kept_rejects_that_are_tried_again_hold_up_no_small_fetch(world):
    world.records = [dict(record, version=1) for record in records(20, 20)]
    assert world.sync().cursor_after == "1"
    world.records = [{"sku": f"N{n:02}", "quantity": 1, "version": 9} for n in range(5)]
    results = world.sync(full=False)
    assert (results.created, results.rejected) == (5, 20)


def test_a_dry_run_stops_as_the_real_one_does(world):
    world.records = records(5, 25)
    with pytest.raises(TooManyRejectsError):
        world.sync(dry_run=True)
    with world.database.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM variants")).scalar() == 0
