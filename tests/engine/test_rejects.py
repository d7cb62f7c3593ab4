"""A bad record costs only itself: it is rejected with id, field and reason, kept, and closed when it succeeds."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sync_defs import Cursor, Deletion, RecordError, run_sync, sync_single_item
from sync_defs.engine.items import sync_items
from sync_defs.store import open_rejects
from sync_defs.store.store import SqlStore

pytestmark = pytest.mark.each_database


def record(sku: Any, quantity: Any = 1, **more: Any) -> dict[str, Any]:
    return {"sku": sku, "quantity": quantity, **more}


GOOD = [record("G1", 1), record("G2", 2)]


def rejected(results: Any) -> list[tuple[Any, ...]]:
    assert results.is_balanced
    return [(error.external_id, error.field, error.code) for error in results.errors]


BAD = [
    (record("B1", "many"), "B1", "stock", "bad_integer"),
    (record("B2", None), "B2", "stock", "not_null"),
    (record("B3", 2**31), "B3", "stock", "out_of_range"),
    (record("B4", 1.5), "B4", "stock", "bad_integer"),
    (record("B5", float("nan")), "B5", "stock", "non_finite_number"),
    (record("B6", 1, price=float("inf")), "B6", "price", "non_finite_number"),
    (record("B7", 1, price=Decimal("NaN")), "B7", "price", "non_finite_number"),
    (record("B8", 1, price="12345678901.23"), "B8", "price", "out_of_range"),
    (record("B9", 1, price="1,50"), "B9", "price", "bad_number"),
    (record("B10", 1, barcode="x" * 21), "B10", "barcode", "too_long"),
    (record("B11", 1, barcode="a\x00b"), "B11", "barcode", "nul_character"),
    (record("B12", 1, barcode="\ud800"), "B12", "barcode", "bad_text"),
    ({"sku": "B13"}, "B13", "quantity", "missing_field"),
    ({"quantity": 1}, None, "sku", "missing_field"),
    (record(None), None, None, "bad_external_id_type"),
    (record(True), None, None, "bad_external_id_type"),
    (record(1.0), None, None, "bad_external_id_type"),
    (record(""), None, None, "bad_external_id"),
    (record("B "), None, None, "bad_external_id"),
    (record("B\u200b"), None, None, "bad_external_id"),
    (record("B" * 256), None, None, "external_id_too_long"),
    (record(10**40), None, None, "number_too_long"),
    (None, None, None, "bad_item"),
    ("text", None, None, "bad_item"),
    (record("B14", -1), "B14", None, "check"),
    (record("B15", 1, brand="nobody"), "B15", None, "foreign_key"),
    (record("B16", 1, barcode="taken"), "B16", None, "unique"),
]


def test_each_bad_record_alone_is_rejected(table_world):
    table_world.execute("INSERT INTO variants (sku, stock, barcode) VALUES ('X', 0, 'taken')")
    table_world.records = [GOOD[0], *(bad for bad, *_ in BAD), GOOD[1]]
    results = table_world.sync(table_world.job(max_rejected_fraction=1))
    # PostgreSQL names the constraint where SQLite names the column.
    found = [(id_, None if id_ in ("B14", "B15", "B16") else field, code) for id_, field, code in rejected(results)]
    assert Counter(found) == Counter((id_, field, code) for _, id_, field, code in BAD)
    assert set(table_world.rows()) == {"G1", "G2", "X"}
    assert results.created == 2


@pytest.mark.parametrize("bad", [record("B", -1), record("B", 1, brand="nobody"), record("B", 1, barcode="taken")])
def test_a_callback_whose_row_breaks_a_constraint_is_rejected_alone(callback_world, bad):
    callback_world.execute("INSERT INTO variants (sku, stock, barcode) VALUES ('X', 0, 'taken')")
    callback_world.records = [GOOD[0], bad, GOOD[1]]
    results = callback_world.sync()
    [(external_id, _, code)] = rejected(results)
    assert external_id == "B"
    assert code in ("check", "foreign_key", "unique")
    assert set(callback_world.rows()) == {"G1", "G2", "X"}


@pytest.mark.parametrize("callback", ["create", "update", "find_local", "get_external_id", "should_skip"])
def test_a_failing_callback_rejects_its_record_alone(callback_world, callback):
    callback_world.records = [*GOOD, record("B", 1)]
    if callback == "update":
        callback_world.sync()
        callback_world.records = [record("G1", 8), record("G2", 9), record("B", 2)]
    job = callback_world.job()
    original = getattr(job, callback)

    def failing(*arguments: Any) -> Any:
        text = repr([getattr(argument, "sku", argument) for argument in arguments])
        if "'B'" in text:
            raise ZeroDivisionError("secret value")
        return original(*arguments)

    setattr(job, callback, failing)
    results = callback_world.sync(job)
    [error] = results.errors
    assert error.code == "callback_failed"
    assert "ZeroDivisionError" in error.message
    assert "secret" not in error.message
    assert results.created + results.updated == 2


def test_what_a_failing_callback_wrote_is_undone(callback_world):
    job = callback_world.job()

    def create(session: Any, item: dict[str, Any]) -> None:
        type(job).create(job, session, item)
        session.flush()
        if item["sku"] == "B":
            raise RecordError("not today", code="custom")

    job.create = create
    callback_world.records = [*GOOD, record("B", 1)]
    assert rejected(callback_world.sync(job)) == [("B", None, "custom")]
    assert set(callback_world.rows()) == {"G1", "G2"}


def test_many_bad_records_among_many_are_found_exactly(table_world):
    bad = {f"S{number}" for number in range(0, 1_200, 31)}
    table_world.records = [record(f"S{number}", -1 if f"S{number}" in bad else number) for number in range(1_200)]
    results = table_world.sync()
    assert {error.external_id for error in results.errors} == bad
    assert results.created == 1_200 - len(bad)
    assert set(table_world.rows()) == {f"S{number}" for number in range(1_200)} - bad


def test_bad_updates_are_found_exactly_and_history_has_the_good_ones_once(table_world):
    table_world.records = [record(f"S{number}", 1) for number in range(40)]
    table_world.sync()
    table_world.records = [record(f"S{number}", -1 if number % 9 == 0 else 2) for number in range(40)]
    results = table_world.sync()
    assert (results.updated, results.rejected) == (35, 5)
    schema = "sync_defs." if table_world.database.dialect.schema else ""
    [(changes,)] = table_world.execute(f"SELECT count(*) FROM {schema}sync_changes WHERE action = 'updated'")
    assert changes == 35


def test_a_reject_is_one_open_entry_until_the_record_succeeds(world):
    world.records = [*GOOD, record("B", "many")]
    world.sync()
    world.sync()
    [entry] = open_rejects(world.database, "variants")
    assert (entry.external_id, entry.attempts) == ("B", 2)
    world.records = [*GOOD, record("B", 3)]
    world.sync()
    assert open_rejects(world.database) == []
    assert world.rows()["B"][0] == 3


def test_an_incremental_run_retries_what_was_rejected(world):
    world.records = [record("B", 1, version=1, brand="later")]
    assert world.sync(full=False).rejected == 1
    world.execute("INSERT INTO brands (name) VALUES ('later')")
    world.records = [record("G", 1, version=2)]
    results = world.sync(full=False)
    assert (results.fetched, results.created, results.rejected) == (2, 2, 0)
    assert open_rejects(world.database) == []


def test_no_value_is_in_reasons_or_errors(table_world):
    table_world.execute("INSERT INTO variants (sku, stock, barcode) VALUES ('X', 0, 'SECRET-1')")
    table_world.records = [
        record("A", "SECRET-2"),
        record("B", 1, barcode="SECRET-1"),
        record("C", 1, price="SECRET-3"),
    ]
    results = table_world.sync()
    assert len(results.errors) == 3
    assert "SECRET" not in json.dumps(results.to_dict())


def test_the_corpus_of_bad_values(table_world):
    corpus = Path(__file__).parents[3] / "shared" / "bad_inputs.json"
    if not corpus.exists():
        pytest.skip(f"the corpus {corpus.name} is not beside this checkout")
    cases = [case for case in json.loads(corpus.read_text())["cases"] if case["area"] == "external_id"]
    for case in cases:
        item = json.loads(case["input"]["body"].get("text", "{}")).get("data", {})
        table_world.records = [{"quantity": 1} | ({"sku": item["id"]} if "id" in item else {})]
        results = run_sync(
            table_world.job(), database=table_world.database, resources={"source": table_world.source}, full=True
        )
        accepted = case["expect"]["code"] == "queued"
        assert (results.rejected == 0) is accepted, case["id"]


def test_a_record_without_an_id_stays_one_entry_over_incremental_runs(world):
    world.records = [{"quantity": 1}, record("G", 1, version=1)]
    for run in range(1, 4):
        assert world.sync(full=False).rejected == 1
        [entry] = open_rejects(world.database, "variants")
        assert (entry.external_id, entry.attempts) == (None, run)
        world.records = []


def test_a_corrected_record_closes_its_reject_and_the_cursor_never_goes_back(world):
    world.records = [record("A", "bad", version=1), record("B", 1, version=9)]
    assert world.sync(full=False).cursor_after == "9"
    world.records = [record("A", 3, version=10)]
    assert world.sync(full=False).cursor_after == "10"
    assert open_rejects(world.database) == []
    world.records = []
    results = world.sync(full=False)
    assert (results.fetched, results.cursor_after) == (0, "10")


def test_a_kept_record_that_stays_bad_does_not_move_the_cursor_back(world):
    world.records = [record("A", 1, version=1, brand="nobody"), record("B", 1, version=9)]
    world.sync(full=False)
    world.records = []
    results = world.sync(full=False)
    assert (results.rejected, results.cursor_after) == (1, "9")


def test_a_callback_that_rolls_back_or_commits_touches_no_other_record(callback_world):
    job = callback_world.job()
    create = type(job).create

    def wilful(session: Any, item: dict[str, Any]) -> None:
        create(job, session, item)
        if item["sku"] == "ROLLBACK":
            session.rollback()
            raise RecordError("rolled back")
        if item["sku"] == "COMMIT":
            session.commit()
            raise RecordError("committed too early")

    job.create = wilful
    callback_world.records = [record("A"), record("ROLLBACK"), record("B"), record("COMMIT"), record("C")]
    results = callback_world.sync(job)
    assert (results.created, results.rejected) == (3, 2)
    assert set(callback_world.rows()) == {"A", "B", "C"}


@pytest.mark.parametrize("value", [{"a": 1}, object()], ids=["dict", "object"])
@pytest.mark.parametrize("way", ["attribute", "statement"])
def test_a_value_that_the_driver_cannot_store_rejects_its_record_alone(callback_world, value, way):
    """Set on an attribute, it does not even reach the driver."""
    job = callback_world.job()

    def create(session: Any, item: dict[str, Any]) -> None:
        type(job).create(job, session, item)
        if item["sku"] == "B":
            row = next(row for row in session.new if row.sku == "B")
            if way == "attribute":
                row.barcode = value
            else:
                session.execute(sa.update(type(row)).values(barcode=value))

    job.create = create
    callback_world.records = [*GOOD, record("B")]
    results = callback_world.sync(job)
    code = {"attribute": "bad_text", "statement": "bad_value"}[way]
    assert [(error.external_id, error.code) for error in results.errors] == [("B", code)]
    assert set(callback_world.rows()) == {"G1", "G2"}


def test_a_change_by_a_core_statement_is_an_update_also_after_a_failed_flush(callback_world):
    callback_world.records = [record("A", 1), record("B", 1)]
    callback_world.sync()
    job = callback_world.job()

    def update(session: Any, row: Any, item: dict[str, Any]) -> None:
        if item["sku"] == "A":
            row.stock = -1
            return
        session.execute(sa.text("UPDATE variants SET stock = 7 WHERE sku = 'B'"))
        session.execute(sa.update(type(row)).where(type(row).sku == "B").values(stock=8))

    job.update = update
    results = callback_world.sync(job)
    assert (results.rejected, results.updated) == (1, 1)
    assert callback_world.rows()["B"][0] == 8


def test_an_older_record_that_lands_leaves_a_newer_reject_open(world):
    world.records = [record("A", 1, version=2)]
    world.sync()
    sync_single_item(world.job(), record("A", 5, version=9, brand="nobody"), database=world.database)
    sync_single_item(world.job(), record("A", 3, version=4), database=world.database)
    assert world.rows()["A"][0] == 3
    assert [entry.external_id for entry in open_rejects(world.database)] == ["A"]
    sync_single_item(world.job(), record("A", 6, version=10), database=world.database)
    assert open_rejects(world.database) == []


def test_a_full_fetch_leaves_a_reject_open_that_came_after_it_began(world):
    def source(_: Cursor) -> Any:
        yield record("A", 1)
        sync_single_item(world.job(), record("B", 1, brand="nobody"), database=world.database)

    world.source = source
    world.sync()
    assert [entry.external_id for entry in open_rejects(world.database)] == ["B"]
    world.source = lambda _: [record("A", 1)]
    world.sync()
    assert open_rejects(world.database) == []


def test_what_a_record_error_of_the_job_says_is_made_storable(callback_world):
    job = callback_world.job()

    def create(_session: Any, _item: dict[str, Any]) -> None:
        raise RecordError("a\0b\ud800" + "x" * 5_000, code="c\0" * 100, field="f\0" * 300)

    job.create = create
    callback_world.records = [record("A")]
    [error] = callback_world.sync(job).errors
    assert (error.code, error.field) == ("c" * 64, "f" * 255)
    assert error.message == f"{'f' * 255}: ab?" + "x" * 1_997


@pytest.mark.parametrize("reverse", [False, True])
def test_of_two_items_of_one_id_in_one_message_the_newest_lands(world, reverse):
    newer, older = record("A", 5, version=9), record("A", 1, version=2)
    job = world.job()
    results = sync_items(job, SqlStore(world.database), [older, newer] if reverse else [newer, older])
    assert sorted(result.action for result in results) == ["created", "skipped"]
    assert world.rows()["A"][::2] == (5, 9)


def test_a_rejected_delete_is_not_tried_again_as_a_record(world):
    world.create_orders()
    world.records = [record("A", 1, version=1)]
    world.sync(full=False)
    world.execute("INSERT INTO orders (sku) VALUES ('A')")
    job = world.job(on_missing="delete")
    gone = Deletion(external_id="A", record=record("A", 99, version=2))
    [result] = sync_items(job, SqlStore(world.database), [gone])
    assert (result.action, result.code) == ("rejected", "foreign_key")
    world.records = []
    assert world.sync(full=False).fetched == 0
    assert world.rows()["A"][0] == 1


def test_a_delete_that_tells_no_more_than_its_id_deletes(callback_world):
    job = callback_world.job(on_missing="delete")
    job.get_version = lambda item: item["version"]
    callback_world.records = [record("A", 1, version=1), record("B", 1, version=5)]
    callback_world.sync(job)
    gone = [Deletion(external_id="A", record={"sku": "A"}), Deletion(external_id="B", record=record("B", version=4))]
    results = sync_items(job, SqlStore(callback_world.database), gone)
    assert [result.action for result in results] == ["deleted", "stale"]
    assert set(callback_world.rows()) == {"B"}


def test_a_fetch_that_has_an_older_version_leaves_the_reject_open(world):
    world.records = [record("A", version=8)]
    world.sync()
    sync_items(world.job(), SqlStore(world.database), [record("A", "many", version=9)])
    world.records = [record("A", 3, version=7)]
    assert world.sync().stale == 1
    assert [entry.external_id for entry in open_rejects(world.database)] == ["A"]
    world.records = [record("A", 3, version=10)]
    world.sync()
    assert open_rejects(world.database) == []


def test_a_delete_that_is_refused_is_counted(world):
    """On a row that others refer to."""
    world.records = [record("A")]
    job = world.job(on_missing="delete")
    world.sync(job)
    world.create_orders()
    world.execute("INSERT INTO orders (sku) VALUES ('A')")
    store = SqlStore(world.database)
    [result] = sync_items(job, store, [Deletion(external_id="A")])
    [told, *_] = store.recent_results("variants", limit=1)
    assert (str(result.action), told.rejected, told.fetched, told.deleted) == ("rejected", 1, 1, 0)
