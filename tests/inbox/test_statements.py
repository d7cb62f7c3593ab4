"""What the hot paths cost: statements sent, and the index that a claim uses."""

import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import event

from sync_defs.engine.items import sync_items
from sync_defs.errors import ConfigurationError
from sync_defs.inbox.claims import Claims
from sync_defs.store.store import PREPARED_S, SqlStore


@contextmanager
def sent_to(database):
    """Gather the statements, without BEGIN and the like, with their parameters."""
    statements = []

    def note(connection, cursor, statement, parameters, context, many):
        if not statement.startswith("BEGIN"):
            statements.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    yield statements
    event.remove(database.engine, "before_cursor_execute", note)


def words(statements):
    return [statement.split()[0] for statement, _ in statements]


def with_one_item(job, database):
    """Make the target, sync an item, and return the store and two more records."""
    with database.write() as connection:
        job.target.create(connection)
    store = SqlStore(database)
    first, *more = ({"id": name, "name": "x", "updated_at": "2026-11-23T01:00:00Z"} for name in "ABC")
    sync_items(job, store, [first])
    return store, more


def test_a_message_for_a_new_item_is_two_statements(inbox, message, database):
    with sent_to(database) as statements:
        inbox.enqueue(message("m1", {"id": "A"}))
    assert words(statements) == ["INSERT", "INSERT"]


def test_a_message_for_a_waiting_item_is_four_and_a_duplicate_one(inbox, message, database):
    inbox.enqueue(message("m1", {"id": "A"}))
    with sent_to(database) as statements:
        inbox.enqueue(message("m2", {"id": "A"}))
        inbox.enqueue(message("m2", {"id": "A"}))
    assert words(statements) == ["INSERT", "INSERT", "SELECT", "UPDATE", "INSERT"]


@pytest.mark.parametrize("migrated_url", ["sqlite", "postgresql"], indirect=True)
def test_a_target_is_looked_at_again_only_after_a_while(job, database, monkeypatch):
    """And none of the catalogue's tables is asked, nor the target counted, for a message in between."""
    store, records = with_one_item(job, database)
    with sent_to(database) as statements:
        sync_items(job, store, records[:1])
    asked = [statement for statement, _ in statements]
    catalogue = (
        "information_schema",
        "pg_catalog",
        "sqlite_master",
        "PRAGMA",
        "DESCRIBE",
        "SHOW",
        f"count(*) \nFROM {job.target.name}",
    )
    assert [statement for statement in asked if any(word in statement for word in catalogue)] == []
    with database.write() as connection:
        job.target.drop(connection)
    later = time.monotonic() + PREPARED_S
    monkeypatch.setattr("sync_defs.store.store.time.monotonic", lambda: later)
    with pytest.raises(ConfigurationError, match="does not exist"):
        sync_items(job, store, records[1:])


@pytest.mark.parametrize("migrated_url", ["postgresql"], indirect=True)
def test_a_single_item_takes_few_statements(job, database):
    """Each takes a fifth of a millisecond of the server, and more of this process: that is the time of an item."""
    store, records = with_one_item(job, database)
    with sent_to(database) as statements:
        sync_items(job, store, records[:1])
    staged = ["SET", "SELECT", "CREATE", "SAVEPOINT", "RELEASE", "UPDATE"]
    written = ["SELECT", "SELECT", "SAVEPOINT", "WITH", "RELEASE"]
    noted = ["SELECT", "SELECT", "SELECT", "DELETE", "INSERT", "DELETE"]
    assert words(statements) == staged + written + noted


def test_a_claim_is_two_statements_whatever_its_size(inbox, message, database):
    inbox.enqueue(message("m1", [{"id": n} for n in range(50)]))
    with sent_to(database) as statements:
        assert len(inbox.claim("erp", 50)) == 50
    assert words(statements) == ["SELECT", "UPDATE"]


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_a_claim_reads_by_the_index_of_due_rows(inbox, database):
    with sent_to(database) as statements, database.write() as connection:
        Claims(dialect=database.dialect, now=database.now()).claim(connection, "erp", limit=10, lease_s=60.0)
    [(statement, parameters)] = statements
    with database.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    assert "ix_sync_queue_job_due_at (job=? AND due_at<?)" in plan[0].detail


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_a_look_for_due_jobs_steps_through_the_indexes(inbox, database):
    with sent_to(database) as statements:
        inbox.unattended_jobs()
    [(statement, parameters)] = statements
    with database.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    steps = [step.detail for step in plan]
    assert any("later USING COVERING INDEX" in step and "(job>?)" in step for step in steps), steps
    assert any("ix_sync_queue_job_due_at (job=? AND due_at<?)" in step for step in steps), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps


def test_a_look_for_due_jobs_finds_those_of_any_number(inbox, message, database, clock):
    assert inbox.due_jobs() == []
    for name in ("b", "a", "c"):
        received = message("m1", [{"id": n} for n in range(3)])
        inbox.enqueue(replace(received, job=name))
    inbox.claim("b", 10)
    assert (inbox.due_jobs(), inbox.unattended_jobs()) == (["a", "c"], ["a", "c"])
    clock.advance(5)
    assert (inbox.unattended_jobs(waiting_s=5), inbox.unattended_jobs(waiting_s=6)) == (["a", "c"], [])
