"""Missing rows: keep, delete or mark; guarded, and never by a fetch that was not whole."""

from typing import Any

import pytest

from sync_defs import ConfigurationError, FetchError, SyncJob, mark
from sync_defs.engine import RunRequest, diff, fetch
from sync_defs.store import SqlStore


def records(*skus: str) -> list[dict[str, Any]]:
    return [{"sku": sku, "quantity": 1} for sku in skus]


def numbered(count: int) -> list[dict[str, Any]]:
    return records(*[f"S{number:04}" for number in range(count)])


def test_missing_rows_are_kept_by_default(world):
    world.records = records("A", "B")
    world.sync()
    world.records = records("A")
    results = world.sync()
    assert (results.deleted, results.marked, results.withheld) == (0, 0, 0)
    assert set(world.rows()) == {"A", "B"}


def test_missing_rows_are_deleted_where_the_job_says_so(world):
    world.records = records("A", "B")
    world.sync()
    world.records = records("A")
    results = world.sync(world.job(on_missing="delete"))
    assert (results.deleted, results.missing) == (1, 1)
    assert set(world.rows()) == {"A"}


def test_missing_rows_are_marked_once_and_come_back(world):
    job = world.job(on_missing=mark(present=False, otherwise=True))
    world.records = records("A", "B")
    world.sync(job)
    world.records = records("A")
    assert world.sync(job).marked == 1
    assert {sku: row[3] for sku, row in world.rows().items()} == {"A": True, "B": False}
    world.log_writes()
    again = world.sync(job)
    assert (again.marked, world.written()) == (0, [])
    world.records = records("A", "B")
    assert world.sync(job).updated == 1
    assert world.rows()["B"][3] is True


@pytest.mark.parametrize(
    ("rows", "missing", "options", "deleted", "withheld"),
    [
        # Over 10 rows and over 10 %: withheld. One of the two alone: deleted.
        (100, 11, {}, 0, 11),
        (100, 10, {}, 10, 0),
        (200, 20, {}, 20, 0),
        (20, 10, {}, 10, 0),
        (10, 3, {}, 3, 0),
        (100, 11, {"allow_deletes": 11}, 11, 0),
        (100, 11, {"allow_deletes": 10}, 0, 11),
        (100, 1, {"allow_deletes": 0}, 0, 1),
    ],
)
def test_guards(table_world, rows, missing, options, deleted, withheld):
    job = table_world.job(on_missing="delete")
    table_world.records = numbered(rows)
    table_world.sync(job)
    table_world.records = [*numbered(rows)[missing:], {"sku": "NEW", "quantity": 1}]
    results = table_world.sync(job, **options)
    assert (results.deleted, results.withheld, results.created) == (deleted, withheld, 1)
    assert (results.withheld_reason is None) is (withheld == 0)
    assert len(table_world.rows()) == rows - deleted + 1


def test_a_policy_that_deletes_nothing_withholds_nothing(table_world):
    table_world.records = numbered(100)
    table_world.sync()
    store = SqlStore(table_world.database)
    table_world.records = table_world.records[:50]
    job = table_world.job()
    handle = fetch(job, store, RunRequest(full=True), resources={"source": table_world.source})
    counts = diff(job, store, handle)
    assert (counts.missing, counts.withheld, counts.withheld_reason) == (50, 0, None)


def test_guards_of_a_job(world):
    world.records = numbered(10)
    world.sync()
    world.records = numbered(10)[2:]
    strict = world.job(on_missing="delete", max_delete_rows=1, max_delete_fraction=0.1)
    results = world.sync(strict)
    assert (results.deleted, results.withheld) == (0, 2)
    assert results.summary().endswith("; 2 deletes withheld")
    assert "allow_deletes=2" in (results.withheld_reason or "")


@pytest.mark.parametrize("source", [[], iter(())], ids=["list", "iterator"])
def test_an_empty_fetch_never_deletes(world, source):
    world.records = records("A", "B")
    world.sync()
    world.records = source
    results = world.sync(world.job(on_missing="delete"), allow_deletes=99)
    assert (results.fetched, results.deleted) == (0, 0)
    assert set(world.rows()) == {"A", "B"}


def test_a_failed_fetch_never_deletes_and_fails_loudly(world):
    world.records = records("A", "B")
    world.sync()

    def broken() -> Any:
        yield records("A", "C")
        raise FetchError("the ERP went away")

    world.records = broken()
    with pytest.raises(FetchError, match="went away"):
        world.sync(world.job(on_missing="delete"), allow_deletes=99)
    assert set(world.rows()) == {"A", "B"}


def test_an_incremental_fetch_never_deletes(world):
    job = world.job(on_missing="delete")
    world.records = [{"sku": "A", "quantity": 1, "version": 1}, {"sku": "B", "quantity": 1, "version": 2}]
    world.sync(job, full=False)
    world.records = [{"sku": "A", "quantity": 2, "version": 3}]
    results = world.sync(job, full=False)
    assert (results.updated, results.deleted, results.full) == (1, 0, False)
    assert set(world.rows()) == {"A", "B"}


def test_chosen_ids_never_delete(world):
    world.records = records("A", "B", "C")
    world.sync()
    world.records = [{"sku": "A", "quantity": 5}, {"sku": "B", "quantity": 6}]
    results = world.sync(world.job(on_missing="delete"), external_ids=["A"])
    assert (results.fetched, results.updated, results.deleted) == (1, 1, 0)
    assert {sku: row[0] for sku, row in world.rows().items()} == {"A": 5, "B": 1, "C": 1}


def test_rejected_and_skipped_records_are_present(world):
    world.records = records("A", "B", "C")
    world.sync()
    world.records = [{"sku": "A", "quantity": "bad"}, *records("B"), *records("C")]
    results = world.sync(world.job(on_missing="delete", should_skip=lambda item: item["sku"] == "C"))
    assert (results.rejected, results.skipped, results.deleted) == (1, 1, 0)
    assert set(world.rows()) == {"A", "B", "C"}


def test_a_record_without_an_id_leaves_all_rows(world):
    world.records = records("A", "B")
    world.sync()
    world.records = [*records("A"), {"quantity": 1}]
    results = world.sync(world.job(on_missing="delete"))
    assert (results.rejected, results.deleted) == (1, 0)


def test_a_row_that_others_refer_to_stays_and_is_reported(world):
    world.create_orders()
    world.records = records("A", "B", "C")
    world.sync()
    world.execute("INSERT INTO orders VALUES ('B')")
    world.records = records("A")
    results = world.sync(world.job(on_missing="delete"))
    assert (results.deleted, results.withheld, results.missing) == (1, 1, 2)
    assert [(error.external_id, error.code) for error in results.errors] == [("B", "foreign_key")]
    assert set(world.rows()) == {"A", "B"}


def test_a_callback_job_must_be_able_to_list_its_rows(callback_world):
    job_type = type(callback_world.job())
    without = type("WithoutList", (job_type,), {"local_external_ids": SyncJob.local_external_ids})()
    without.on_missing = "delete"
    with pytest.raises(ConfigurationError, match="local_external_ids"):
        callback_world.sync(without)
