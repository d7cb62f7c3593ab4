"""Outcomes are true: each record has one, they add up, and unchanged rows are not written."""

from typing import Any

import pytest
import sqlalchemy as sa

from sync_defs import Outcome


def record(sku: str, quantity: Any = 1, **more: Any) -> dict[str, Any]:
    return {"sku": sku, "quantity": quantity, **more}


def counts(results: Any) -> dict[str, int]:
    """The outcomes that are not 0, with fetched; the sum is checked on the way."""
    assert results.is_balanced
    found = {str(outcome): count for outcome, count in results.outcomes.items() if count}
    return {"fetched": results.fetched, **found}


def test_new_records_are_created(world):
    world.records = [record("A", 1, price=1.5), record("B", "2")]
    assert counts(world.sync()) == {"fetched": 2, "created": 2}
    assert world.rows() == {"A": (1, "1.50", None, True), "B": (2, None, None, True)}


def test_second_run_on_the_same_data_writes_no_row(world):
    world.records = [record(f"S{number:03}", number, price=number / 4, version=1) for number in range(50)]
    world.sync()
    world.log_writes()
    assert counts(world.sync()) == {"fetched": 50, "unchanged": 50}
    assert world.written() == []


def test_only_the_changed_row_is_written(world):
    world.records = [record("A", 1), record("B", 2), record("C", 3)]
    world.sync()
    world.log_writes()
    world.records = [record("A", 1), record("B", 20), record("C", 3), record("D", 4)]
    assert counts(world.sync()) == {"fetched": 4, "created": 1, "updated": 1, "unchanged": 2}
    assert world.written() == [("update", "B"), ("insert", "D")]


def test_equal_values_in_another_form_are_unchanged(world):
    world.records = [record("A", 1, price=1.1)]
    world.sync()
    world.log_writes()
    world.records = [record("A", "1", price=1.10)]
    assert counts(world.sync()) == {"fetched": 1, "unchanged": 1}
    assert world.written() == []


def test_a_change_to_null_and_back_is_an_update(world):
    world.records = [record("A", 1, price=5.0)]
    world.sync()
    world.records = [record("A", 1, price=None)]
    assert counts(world.sync()) == {"fetched": 1, "updated": 1}
    assert world.rows()["A"][1] is None
    world.records = [record("A", 1, price=5.0)]
    assert counts(world.sync()) == {"fetched": 1, "updated": 1}


def test_the_last_of_several_records_of_one_id_counts(world):
    world.records = [record("A", 1), record("A", 2), record("A", 3)]
    assert counts(world.sync()) == {"fetched": 3, "created": 1, "skipped": 2}
    assert world.rows()["A"][0] == 3


def test_of_several_records_of_one_id_the_newest_version_counts(world):
    world.records = [record("A", 2, version=2), record("A", 1, version=1)]
    assert counts(world.sync()) == {"fetched": 2, "created": 1, "skipped": 1}
    assert world.rows()["A"] == (2, None, 2, True)


def test_should_skip_leaves_the_row_alone(world):
    world.records = [record("A", 1), record("B", 1)]
    world.sync()
    job = world.job(should_skip=lambda item: item["sku"] == "A", on_missing="delete")
    world.records = [record("A", 9), record("B", 9)]
    assert counts(world.sync(job)) == {"fetched": 2, "updated": 1, "skipped": 1}
    assert {sku: row[0] for sku, row in world.rows().items()} == {"A": 1, "B": 9}


def test_results_name_samples_and_row_count(table_world):
    table_world.records = [record("A", 1), record("B", 2)]
    table_world.sync()
    table_world.records = [record("A", 7), record("B", 2)]
    results = table_world.sync()
    assert [(s.external_id, s.changes) for s in results.samples] == [("A", {"stock": ("1", "7")})]
    assert results.row_count == 2
    assert results.summary() == "variants: 2 fetched = 1 updated + 1 unchanged"


def test_callback_samples_name_attributes(callback_world):
    callback_world.records = [record("A", 1)]
    callback_world.sync()
    callback_world.records = [record("A", 7)]
    [sample] = callback_world.sync().samples
    assert sample.changes == {"stock": ("1", "7")}


def test_every_outcome_appears_and_they_add_up(world):
    world.records = [record("U", 1), record("N", 1, version=5), record("S", 1, version=9)]
    world.sync()
    world.records = [
        record("U", 2),
        record("N", 1, version=5),
        record("S", 0, version=8),
        record("C", 1),
        record("C", 2),
        record("R", "many"),
    ]
    results = world.sync()
    assert results.outcomes == {
        Outcome.CREATED: 1,
        Outcome.UPDATED: 1,
        Outcome.UNCHANGED: 1,
        Outcome.SKIPPED: 1,
        Outcome.STALE: 1,
        Outcome.REJECTED: 1,
    }
    assert results.fetched == 6


def test_history_holds_old_and_new(world):
    world.records = [record("A", 1), record("B", 1)]
    world.sync()
    world.records = [record("A", 2), record("B", 1)]
    world.sync()
    schema = "sync_defs." if world.database.dialect.schema else ""
    found = world.execute(
        f"SELECT external_id, action, old_values, new_values FROM {schema}sync_changes WHERE action = 'updated'"
    )
    [(external_id, action, old, new)] = found
    assert (external_id, action) == ("A", "updated")
    assert '"stock"' in old
    assert '"stock"' in new


@pytest.mark.parametrize("size", [1, 7, 2000, 4001])
def test_pages_of_any_size_are_one_sync(table_world, size):
    records = [record(f"S{number}", number) for number in range(4_500)]
    table_world.records = (records[start : start + size] for start in range(0, len(records), size))
    assert counts(table_world.sync()) == {"fetched": 4500, "created": 4500}


def test_the_stage_is_dropped_at_the_end(world):
    world.records = [record("A")]
    world.sync()
    with world.database.read() as connection:
        names = sa.inspect(connection).get_table_names(schema=world.database.dialect.schema)
    assert [name for name in names if name.startswith("sync_stage")] == []
