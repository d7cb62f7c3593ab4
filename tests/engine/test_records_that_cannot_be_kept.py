"""A record that is no JSON can be reported, but not kept for a retry; all others land."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from sync_defs import RecordError
from sync_defs.store import open_rejects


def record(sku: str, quantity: Any = 1, **more: Any) -> dict[str, Any]:
    return {"sku": sku, "quantity": quantity, **more}


def endless() -> list[Any]:
    """A list that holds itself."""
    found: list[Any] = []
    found.append(found)
    return found


@pytest.fixture(params=["file", "set", "loop"])
def odd(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A value that JSON has no form for."""
    if request.param != "file":
        yield {"set": {1, 2}, "loop": endless()}[request.param]
        return
    with open(sys.executable, "rb") as file:  # noqa: PTH123 - an open file is the point
        yield file


def kept(world: Any) -> list[tuple[Any, ...]]:
    """Every entry of `sync_rejects`: id, code, and whether the record is in it."""
    schema = "sync_defs." if world.database.dialect.schema else ""
    query = sa.text(f"SELECT external_id, code, record FROM {schema}sync_rejects ORDER BY id")
    with world.database.read() as connection:
        return [(row.external_id, row.code, row.record is not None) for row in connection.execute(query)]


def test_a_callback_job_rejects_it_alone(callback_world, odd):
    callback_world.records = [record("A", 1), record("B", 2, photo=odd), record("C", 3)]
    results = callback_world.sync()
    assert (results.is_balanced, results.created, results.rejected) == (True, 2, 1)
    assert [(error.external_id, error.code) for error in results.errors] == [("B", "bad_item")]
    assert {sku: row[0] for sku, row in callback_world.rows().items()} == {"A": 1, "C": 3}
    assert kept(callback_world) == [("B", "bad_item", False)]


def test_a_callback_job_leaves_the_row_as_it_is_and_there(callback_world, odd):
    callback_world.records = [record("A", 1), record("B", 2)]
    callback_world.sync()
    callback_world.records = [record("A", 5), record("B", 6, photo=odd)]
    results = callback_world.sync(callback_world.job(on_missing="delete"))
    assert (results.updated, results.rejected, results.missing, results.deleted) == (1, 1, 0, 0)
    assert {sku: row[0] for sku, row in callback_world.rows().items()} == {"A": 5, "B": 2}


def test_a_table_job_that_does_not_map_it_has_no_trouble_with_it(table_world, odd):
    table_world.records = [record("A", 1, photo=odd)]
    results = table_world.sync()
    assert (results.created, results.errors) == (1, [])
    assert kept(table_world) == []


def test_a_table_job_rejects_another_fault_of_it_alone(table_world, odd):
    table_world.records = [record("A", 1), record("B", "many", photo=odd), record("C", 3)]
    results = table_world.sync()
    assert (results.is_balanced, results.created, results.rejected) == (True, 2, 1)
    assert [(e.external_id, e.field, e.code) for e in results.errors] == [("B", "stock", "bad_integer")]
    assert {sku: row[0] for sku, row in table_world.rows().items()} == {"A": 1, "C": 3}
    assert kept(table_world) == [("B", "bad_integer", False)]


def test_a_table_job_rejects_what_the_database_refuses_of_it_alone(table_world, odd):
    table_world.records = [record("A", 1), record("B", -1, photo=odd), record("C", 3)]
    results = table_world.sync()
    assert [(error.external_id, error.code) for error in results.errors] == [("B", "check")]
    assert {sku: row[0] for sku, row in table_world.rows().items()} == {"A": 1, "C": 3}
    assert kept(table_world) == [("B", "check", False)]


def test_without_an_id_it_is_reported_too(world, odd):
    world.records = [record("A", 1), {"quantity": 1, "photo": odd}]
    results = world.sync()
    assert (results.created, results.rejected) == (1, 1)
    assert [error.external_id for error in results.errors] == [None]
    assert [(external_id, is_kept) for external_id, _, is_kept in kept(world)] == [(None, False)]


def test_an_incremental_run_waits_until_the_source_sends_it_again(world):
    bad = record("B", "many", version=1, photo={1}) if world.kind == "table" else record("B", 2, version=1, photo={1})
    world.records = [record("A", 1, version=1), bad]
    assert world.sync(full=False).rejected == 1
    world.records = []
    results = world.sync(full=False)
    assert (results.full, results.fetched, results.rejected) == (False, 0, 0)
    [entry] = open_rejects(world.database)
    assert (entry.external_id, entry.attempts) == ("B", 1)
    world.records = [record("B", 4, version=2)]
    assert world.sync(full=False).created == 1
    assert open_rejects(world.database) == []
    assert {sku: row[0] for sku, row in world.rows().items()} == {"A": 1, "B": 4}


def test_an_object_that_fails_when_it_is_read_is_rejected_alone(world):
    class Broken(dict[str, Any]):
        def __iter__(self) -> Iterator[str]:
            raise RecordError("no keys today", code="broken")

        keys = __iter__  # pyright: ignore[reportAssignmentType]

    world.records = [record("A", 1), Broken(sku="B", quantity="many"), record("C", 3)]
    results = world.sync()
    assert (results.created, [error.external_id for error in results.errors]) == (2, ["B"])
    assert [(external_id, is_kept) for external_id, _, is_kept in kept(world)] == [("B", False)]
