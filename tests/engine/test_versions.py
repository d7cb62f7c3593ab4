"""The version guard and messages: a row never goes back, whatever the order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_defs import Deletion, RunStatus, Trigger, mark
from sync_defs.engine import RunRequest, diff, fetch, sync_items, upsert
from sync_defs.job import Job
from sync_defs.runner import sync_single_item
from sync_defs.store import SqlStore
from tests.examples import few


def record(sku: str, quantity: Any, version: int | None = None) -> dict[str, Any]:
    return {"sku": sku, "quantity": quantity, "version": version}


def apply(world: Any, *items: Any, job: Job | None = None) -> list[str]:
    results = sync_items(job or world.job(), SqlStore(world.database), items, trigger=Trigger.WEBHOOK)
    return [str(result.action) for result in results]


def test_an_older_record_is_stale_and_writes_nothing(world):
    world.records = [record("A", 5, 2)]
    world.sync()
    world.log_writes()
    world.records = [record("A", 1, 1)]
    results = world.sync()
    assert (results.stale, results.updated) == (1, 0)
    assert world.written() == []


def test_equal_versions_compare_by_content(world):
    world.records = [record("A", 5, 2)]
    world.sync()
    world.records = [record("A", 6, 2)]
    assert world.sync().updated == 1
    assert world.sync().unchanged == 1


def test_a_record_without_version_does_not_overwrite_one_with(world):
    world.records = [record("A", 5, 2)]
    world.sync()
    world.records = [record("A", 6)]
    assert world.sync().stale == 1


def test_the_guard_is_decided_in_the_write_not_before_it(table_world):
    """A newer version that arrives between diff and upsert is not overwritten."""
    store, job = SqlStore(table_world.database), table_world.job()
    table_world.records = [record("A", 1, 1), record("B", 1, 1)]
    table_world.sync()
    table_world.records = [record("A", 2, 2), record("B", 2, 2)]
    handle = fetch(job, store, RunRequest(full=True), resources={"source": table_world.source})
    assert diff(job, store, handle).updated == 2
    table_world.execute("UPDATE variants SET stock = 9, version = 9 WHERE sku = 'A'")
    results = upsert(job, store, handle)
    assert (results.updated, results.stale) == (1, 1)
    assert results.is_balanced
    assert {sku: row[0] for sku, row in table_world.rows().items()} == {"A": 9, "B": 2}


def test_a_row_that_appears_between_diff_and_upsert_is_not_a_failure(table_world):
    store, job = SqlStore(table_world.database), table_world.job()
    table_world.records = [record("A", 1, 1), record("B", 1, 1), record("C", 1, 1)]
    handle = fetch(job, store, RunRequest(full=True), resources={"source": table_world.source})
    assert diff(job, store, handle).created == 3
    table_world.execute("INSERT INTO variants (sku, stock, version) VALUES ('A', 7, 0), ('B', 1, 1)")
    results = upsert(job, store, handle)
    assert (results.created, results.updated, results.unchanged) == (1, 1, 1)
    assert {sku: row[0] for sku, row in table_world.rows().items()} == {"A": 1, "B": 1, "C": 1}


def test_a_message_during_a_fetch_outranks_it(world):
    """Neither overwritten nor deleted, also without versions; and not counted as missing."""
    store, job = SqlStore(world.database), world.job(on_missing="delete")
    world.records = [record("A", 1), record("B", 1), record("C", 1)]
    world.sync(job)

    def during() -> Any:
        yield [record("A", 2), record("B", 2)]
        assert apply(world, record("A", 50), record("NEW", 1), record("C", 50)) == ["updated", "created", "updated"]

    world.records = during()
    handle = fetch(job, store, RunRequest(full=True), resources={"source": world.source})
    diff(job, store, handle)
    results = upsert(job, store, handle)
    assert (results.stale, results.updated, results.deleted, results.withheld) == (1, 1, 0, 0)
    assert {sku: row[0] for sku, row in world.rows().items()} == {"A": 50, "B": 2, "C": 50, "NEW": 1}


def test_single_items_are_created_updated_unchanged_stale_rejected(world):
    assert apply(world, record("A", 1, 1)) == ["created"]
    assert apply(world, record("A", 2, 2)) == ["updated"]
    assert apply(world, record("A", 2, 2)) == ["unchanged"]
    assert apply(world, record("A", 1, 1)) == ["stale"]
    assert apply(world, record("A", "bad", 3), record("B", 1, 1)) == ["rejected", "created"]
    assert world.rows()["A"][0] == 2


def test_a_payload_is_one_item(world):
    job = world.job()
    payload = {"type": "item.updated", "data": record("A", 1, 1)}
    result = sync_single_item(job, payload, database=world.database)
    assert (result.action, result.external_id) == ("created", "A")


@pytest.mark.parametrize(
    ("policy", "action", "left"),
    [("keep", "skipped", {"A": True}), ("delete", "deleted", {}), (mark(present=False), "marked", {"A": False})],
    ids=["keep", "delete", "mark"],
)
def test_a_delete_message_follows_on_missing(world, policy, action, left):
    job = world.job(on_missing=policy)
    world.records = [record("A", 1, 1)]
    world.sync(job)
    assert apply(world, Deletion(external_id="A"), job=job) == [action]
    assert {sku: row[3] for sku, row in world.rows().items()} == left
    assert apply(world, Deletion(external_id="unknown"), job=job) == ["unchanged"]


def test_a_late_delete_message_does_not_delete_a_newer_row(world):
    job = world.job(on_missing="delete")
    apply(world, record("A", 1, 5), job=job)
    late = Deletion(external_id="A", record=record("A", 1, 4))
    assert apply(world, late, job=job) == ["stale"]
    assert set(world.rows()) == {"A"}


def test_the_last_item_of_one_id_in_a_batch_counts(world):
    assert apply(world, record("A", 1, 1), record("A", 2, 2)) == ["skipped", "created"]
    assert world.rows()["A"][0] == 2


def test_settle_and_rows_are_one_transaction(world):
    def fail(connection: Any, results: Any) -> None:
        raise RuntimeError("the acknowledgement failed")

    with pytest.raises(RuntimeError):
        sync_items(world.job(), SqlStore(world.database), [record("A", 1)], settle=fail)
    assert world.rows() == {}


def test_items_that_are_no_longer_wanted_are_left_out(world):
    results = sync_items(
        world.job(), SqlStore(world.database), [record("A", 1), record("B", 1)], keep=lambda _connection: {1}
    )
    assert [str(result.action) for result in results] == ["skipped", "created"]
    assert set(world.rows()) == {"B"}


def test_repeating_the_upsert_of_a_finished_run_writes_nothing(world):
    store, job = SqlStore(world.database), world.job()
    world.records = [record("A", 1)]
    handle = fetch(job, store, RunRequest(run_id="r1"), resources={"source": world.source})
    diff(job, store, handle)
    first = upsert(job, store, handle)
    world.log_writes()
    assert upsert(job, store, handle) == first
    assert first.status is RunStatus.SUCCEEDED
    assert world.written() == []


VERSIONS = st.lists(st.tuples(st.sampled_from("AB"), st.integers(1, 5), st.booleans()), max_size=6)


@few(4)
@given(deliveries=VERSIONS)
def test_any_order_of_messages_and_syncs_ends_at_the_newest(table_world, deliveries):
    """Each version has one content, so the end state is the newest version of each item that was sent."""
    table_world.execute("DELETE FROM variants")
    newest: dict[str, int] = {}
    for sku, version, by_message in deliveries:
        item = record(sku, version * 10, version)
        if by_message:
            apply(table_world, item)
        else:
            table_world.records = [item]
            table_world.sync()
        newest[sku] = max(version, newest.get(sku, 0))
        held = {sku: row[2] for sku, row in table_world.rows().items()}
        assert held == newest
    assert {sku: row[0] for sku, row in table_world.rows().items()} == {s: v * 10 for s, v in newest.items()}


def test_a_message_that_confirms_a_row_outranks_an_older_fetch(world):
    """Without versions too: the message saw the newest state, the fetch an older one."""
    world.records = [record("A", 50)]
    world.sync()

    def during() -> Any:
        assert apply(world, record("A", 50)) == ["unchanged"]
        yield [record("A", 2)]

    world.records = during()
    assert world.sync().stale == 1
    assert world.rows()["A"][0] == 50


def test_a_deletion_in_a_fetch_is_refused_by_name(world):
    world.records = [record("A", 1), Deletion(external_id="B")]
    results = world.sync()
    assert (results.created, results.rejected) == (1, 1)
    assert "only a message" in results.errors[0].message


def test_a_message_between_diff_and_upsert_outranks_the_fetch(table_world):
    """Also without versions, and the history has only what was written."""
    store, job = SqlStore(table_world.database), table_world.job()
    table_world.records = [record("A", 1)]
    table_world.sync()
    table_world.records = [record("A", 5), record("NEW", 5)]
    handle = fetch(job, store, RunRequest(full=True), resources={"source": table_world.source})
    diff(job, store, handle)
    assert apply(table_world, record("A", 9), record("NEW", 9)) == ["updated", "created"]
    results = upsert(job, store, handle)
    assert (results.stale, results.updated, results.created) == (2, 0, 0)
    assert {sku: row[0] for sku, row in table_world.rows().items()} == {"A": 9, "NEW": 9}


def test_a_row_that_a_message_creates_during_the_first_fetch_outranks_it(world):
    def during() -> Any:
        assert apply(world, record("A", 9)) == ["created"]
        yield [record("A", 5), record("B", 5)]

    world.records = during()
    assert world.sync().stale == 1
    assert {sku: row[0] for sku, row in world.rows().items()} == {"A": 9, "B": 5}
