"""Draining into a real target: the rows, and the end of the messages, in one transaction."""

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from sync_defs.errors import ConfigurationError, LeaseLostError
from sync_defs.inbox import DrainOptions, MessageState, drain
from sync_defs.results import Action
from sync_defs.store.store import SqlStore


@pytest.fixture
def target(database, job):
    with database.write() as connection:
        job.target.create(connection)
    return job.target


@pytest.fixture
def rows(database, target):
    """Read the target: id to name."""

    def read() -> dict[str, str]:
        with database.read() as connection:
            return {row.id: row.name for row in connection.execute(sa.select(target))}

    return read


@pytest.fixture
def run(database, inbox, job, target):
    """Drain without waiting."""

    def run(**options: Any):
        given = {"linger_s": 0.0, "sleep": lambda _: pytest.fail("it slept")} | options
        return drain(job, SqlStore(database), inbox, run_id="r1", options=DrainOptions(**given))

    return run


def item(external_id, name="x", hour=1):
    return {"id": external_id, "name": name, "updated_at": f"2026-11-23T{hour:02}:00:00Z"}


def test_messages_become_rows(inbox, message, run, rows):
    inbox.enqueue(message("m1", [item("A", "first"), item("B", "second")]))
    inbox.enqueue(message("m2", item("A", "third", hour=2)))
    results = run()
    assert rows() == {"A": "third", "B": "second"}
    assert (results.actions, results.applied, results.transactions) == ({Action.CREATED: 2}, 2, 1)
    assert inbox.depth() == {}
    inbox.enqueue(message("m3", item("B", "fourth", hour=3)))
    inbox.enqueue(message("m4", item("A", "late", hour=1)))
    assert run().actions == {Action.UPDATED: 1, Action.STALE: 1}
    assert rows() == {"A": "third", "B": "fourth"}


def test_it_goes_on_until_nothing_is_due(inbox, message, run, rows):
    inbox.enqueue(message("m1", [item(f"item {n}") for n in range(25)]))
    assert run(batch=10).transactions == 3
    assert len(rows()) == 25


def test_g9_a_rejected_item_is_retried_later_and_the_others_land(inbox, message, run, rows):
    inbox.enqueue(message("m1", [item("A"), {"id": "B", "name": "x", "updated_at": "not a time"}, item("C")]))
    results = run()
    assert sorted(rows()) == ["A", "C"]
    assert (results.retried, results.dead, [error.external_id for error in results.errors]) == (1, 0, ["B"])
    [left] = inbox.list_messages()
    assert (left.external_id, left.state, left.attempts) == ("B", MessageState.PENDING, 1)


def test_the_last_attempt_ends_as_a_dead_letter(inbox, message, run, clock):
    inbox.enqueue(message("m1", {"id": "B", "name": "x", "updated_at": "not a time"}))
    outcomes = []
    for _ in range(25):
        results = run()
        outcomes.append((results.retried, results.dead))
        clock.advance(6 * 3600)
    assert outcomes == [(1, 0)] * 24 + [(0, 1)]
    assert run().transactions == 0


def test_g10_a_corrupted_payload_is_a_dead_letter(inbox, message, run, rows, database):
    from sync_defs.store.schema import queue

    inbox.enqueue(message("m1", [item("A"), item("B")]))
    with database.write() as connection:
        connection.execute(sa.update(queue).where(queue.c.external_id == "A").values(payload=b"\x00\x01"))
    assert run().dead == 1
    assert list(rows()) == ["B"]
    assert [(dead.external_id, dead.code) for dead in inbox.list_messages(dead_only=True)] == [("A", "bad_payload")]


def test_an_unusable_message_that_is_retried_is_read_anew(inbox, message, run, rows, job, monkeypatch):
    inbox.enqueue(message("m1", b'[{"id": "A", "name": "x", "updated_at": "2026-11-23T01:00:00Z"}]'))
    inbox.retry("erp")
    assert run().dead == 1
    assert [dead.code for dead in inbox.list_messages()] == ["external_id_missing"]
    inbox.retry("erp")
    monkeypatch.setattr(job, "extract_items", list)
    assert run().applied == 1
    assert rows() == {"A": "x"}


def test_a_newer_message_that_came_in_is_applied_and_the_older_one_is_not(inbox, message, run, rows, monkeypatch):
    inbox.enqueue(message("m1", item("A", "older")))
    claim = inbox.claim

    def claim_and_receive(*args, **options):
        claims = claim(*args, **options)
        inbox.enqueue(message("m2", item("A", "newer", hour=2)))
        return claims

    monkeypatch.setattr(inbox, "claim", claim_and_receive)
    results = run()
    assert (results.handed_on, results.actions) == (1, {Action.CREATED: 1})
    assert rows() == {"A": "newer"}


def test_g8_a_drain_that_lost_its_lease_writes_nothing(inbox, message, run, rows, clock, monkeypatch):
    inbox.enqueue(message("m1", item("A")))
    claim = inbox.claim

    def claim_and_lose(*args, **options):
        claims = claim(*args, **options)
        clock.advance(60)
        claim(*args, **options)
        return claims

    monkeypatch.setattr(inbox, "claim", claim_and_lose)
    assert run().handed_on == 1
    assert rows() == {}
    assert inbox.state("erp", "A") is MessageState.CLAIMED


def test_g4_data_and_messages_commit_together(inbox, message, run, rows, monkeypatch):
    inbox.enqueue(message("m1", [item("A"), item("B")]))

    def fail(connection, claimed):
        raise ZeroDivisionError

    monkeypatch.setattr(inbox, "acknowledge", fail)
    results = run()
    assert rows() == {}
    assert (results.retried, {error.code for error in results.errors}) == (2, {"apply_failed"})
    assert inbox.counts("erp").later == 2


def test_one_item_that_breaks_the_engine_holds_back_no_other(inbox, message, run, rows, monkeypatch, caplog):
    inbox.enqueue(message("m1", [item("A"), item("B"), item("C")]))
    acknowledge = inbox.acknowledge

    def fail_for_b(connection, claimed):
        if claimed.external_id == "B":
            raise ZeroDivisionError
        return acknowledge(connection, claimed)

    monkeypatch.setattr(inbox, "acknowledge", fail_for_b)
    assert run().retried == 1
    assert sorted(rows()) == ["A", "C"]
    assert caplog.messages == ["job 'erp': applying 3 items failed with ZeroDivisionError; each is tried by itself"]


def test_trouble_of_the_database_with_one_item_counts_as_its_attempt(inbox, message, run, rows, monkeypatch):
    inbox.enqueue(message("m1", [item("A"), item("B"), item("C")]))
    acknowledge = inbox.acknowledge

    def fail_for_b(connection, claimed):
        if claimed.external_id == "B":
            raise OperationalError("SELECT 1", {}, Exception("out of memory"))
        return acknowledge(connection, claimed)

    monkeypatch.setattr(inbox, "acknowledge", fail_for_b)
    assert run().retried == 1
    assert sorted(rows()) == ["A", "C"]
    [left] = inbox.list_messages()
    assert (left.external_id, left.attempts, left.code) == ("B", 1, "apply_failed")


def test_a_deadlock_over_a_batch_is_answered_by_trying_the_batch_again(inbox, message, run, rows, monkeypatch, caplog):
    inbox.enqueue(message("m1", [item("A"), item("B"), item("C")]))
    acknowledge, deadlocks = inbox.acknowledge, [OperationalError("DELETE", {}, Exception(1213, "secret"))]

    def lose_once(connection, claimed):
        if claimed.external_id == "B" and deadlocks:
            raise deadlocks.pop()
        return acknowledge(connection, claimed)

    monkeypatch.setattr(inbox, "acknowledge", lose_once)
    results = run()
    assert (sorted(rows()), results.transactions, results.retried) == (["A", "B", "C"], 1, 0)
    assert caplog.messages == ["job 'erp': applying 3 items failed with Exception; all of them are tried again"]


def test_a_batch_that_deadlocks_twice_is_applied_item_by_item(inbox, message, run, rows, monkeypatch, caplog):
    inbox.enqueue(message("m1", [item("A"), item("B"), item("C")]))
    acknowledge = inbox.acknowledge

    def always_lose(connection, claimed):
        if claimed.external_id == "B":
            raise OperationalError("DELETE", {}, Exception(1213, "secret"))
        return acknowledge(connection, claimed)

    monkeypatch.setattr(inbox, "acknowledge", always_lose)
    results = run()
    assert (sorted(rows()), results.retried) == (["A", "C"], 1)
    told = [text.partition("; ")[2] for text in caplog.messages]
    assert told == ["all of them are tried again", "each is tried by itself"]


def test_a_lease_lost_between_two_tries_gives_the_messages_back(inbox, message, run, rows, monkeypatch):
    inbox.enqueue(message("m1", [item("A"), item("B")]))
    acknowledge = inbox.acknowledge
    troubles = [LeaseLostError("gone"), OperationalError("DELETE", {}, Exception(1213, "secret"))]

    def lose_twice(connection, claimed):
        if troubles:
            raise troubles.pop()
        return acknowledge(connection, claimed)

    monkeypatch.setattr(inbox, "acknowledge", lose_twice)
    results = run()
    assert (sorted(rows()), results.transactions, results.retried, troubles) == (["A", "B"], 1, 0, [])


def test_a_lost_connection_gives_the_messages_back(inbox, message, run, rows, monkeypatch):
    inbox.enqueue(message("m1", [item("A"), item("B")]))
    lost = OperationalError("SELECT 1", {}, Exception("gone"), connection_invalidated=True)
    monkeypatch.setattr(inbox, "acknowledge", lambda *_: (_ for _ in ()).throw(lost))
    with pytest.raises(OperationalError):
        run()
    assert rows() == {}
    assert [left.attempts for left in inbox.claim("erp", 10)] == [0, 0]


def test_a_wrong_target_fails_the_drain_and_keeps_the_messages(inbox, message, run, database, target):
    inbox.enqueue(message("m1", item("A")))
    with database.write() as connection:
        target.drop(connection)
    with pytest.raises(ConfigurationError):
        run()
    [left] = inbox.claim("erp", 10)
    assert (left.attempts, left.deaths) == (0, 0)


def test_it_lingers_for_more(inbox, message, run, rows, clock):
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        clock.advance(seconds)
        if len(slept) == 3:
            inbox.enqueue(message("m2", item("B")))

    inbox.enqueue(message("m1", item("A")))
    results = run(linger_s=30.0, poll_s=10.0, sleep=sleep)
    assert len(slept) == 3 + 3
    assert (results.started_at, results.applied) == (datetime(2026, 11, 23, 18, tzinfo=UTC), 2)
    assert (results.completed_at - results.started_at).total_seconds() == 60


def test_it_ends_when_told_or_after_a_while(inbox, message, run, clock):
    inbox.enqueue(message("m1", item("A")))
    assert run(should_stop=lambda: True).transactions == 0
    assert run(max_s=0.0).transactions == 0
    assert run(linger_s=3600.0, max_s=30.0, poll_s=10.0, sleep=clock.advance).transactions == 1


def test_items_over_which_a_worker_died_are_applied_apart_from_the_others(inbox, message, run, rows, clock):
    inbox.enqueue(message("m1", [item("A"), item("B")]))
    inbox.claim("erp", 10)
    clock.advance(61)
    inbox.enqueue(message("m2", [item("C"), item("D")]))
    results = run()
    assert sorted(rows()) == ["A", "B", "C", "D"]
    assert results.transactions == 2
    assert {applied.external_id for applied in results.items[:2]} == {"A", "B"}


def test_a_batch_over_which_a_worker_died_takes_few_transactions(inbox, message, run, rows, clock):
    inbox.enqueue(message("m1", [item(f"item {n}") for n in range(500)]))
    assert len(inbox.claim("erp", 500)) == 500
    clock.advance(60)
    results = run()
    assert (len(rows()), results.transactions) == (500, 25)


def test_an_item_that_kills_costs_five_workers_and_no_other_item(inbox, message, run, rows, clock, monkeypatch):
    """Whoever applies it ends in the middle of it; those that were claimed with it have all been applied by then."""
    inbox.enqueue(message("m1", [item(f"item {n}") for n in range(100)]))
    acknowledge, applied, kills, landed = inbox.acknowledge, [], 0, 0

    def die_over_one(connection, claimed):
        if claimed.external_id == "item 50":
            raise SystemExit
        applied.append(claimed.external_id)
        return acknowledge(connection, claimed)

    monkeypatch.setattr(inbox, "acknowledge", die_over_one)
    while inbox.counts("erp").dead == 0:
        try:
            run()
        except SystemExit:
            kills += 1
            landed = len(rows())
        clock.advance(60)
    assert (kills, landed, len(rows())) == (5, 99, 99)
    [dead] = inbox.list_messages(dead_only=True)
    assert (dead.external_id, dead.code, dead.deaths) == ("item 50", "worker_died", 5)


def test_the_jobs_own_code_is_watched_and_the_wait_for_the_lock_is_not(inbox, message, run, job, monkeypatch):
    inbox.enqueue(message("m1", [item("A")]))
    told = []
    lock, extract = inbox.lock, job.get_external_id

    def locked(connection, claims):
        told.append("locked")
        return lock(connection, claims)

    def read(record):
        told.append("read")
        return extract(record)

    monkeypatch.setattr(inbox, "lock", locked)
    monkeypatch.setattr(job, "get_external_id", read)
    run(watch=told.append)
    place = told.index("locked")
    assert told[0] is True
    assert told[place - 1] is False
    assert told[place + 1] is True
    assert told[-1] is False


def test_what_a_drain_could_not_begin_with_is_no_death(database, inbox, message, job, clock):
    """One worker died over A; four drains then find no target, and none of them is a worker that died."""
    inbox.enqueue(message("m1", [item("A")]))
    inbox.claim("erp", 1)
    clock.advance(61)
    inbox.enqueue(message("m2", [item("B")]))
    for _ in range(5):
        with pytest.raises(ConfigurationError):
            drain(job, SqlStore(database), inbox, run_id="r1", options=DrainOptions(linger_s=0.0))
        clock.advance(61)
    with database.write() as connection:
        job.target.create(connection)
    results = drain(job, SqlStore(database), inbox, run_id="r2", options=DrainOptions(linger_s=0.0))
    assert (results.actions, results.dead, inbox.depth()) == ({Action.CREATED: 2}, 0, {})
