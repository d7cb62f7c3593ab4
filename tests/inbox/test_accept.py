"""Accepting messages: what each does to an item's queue row."""

from typing import Any

import pytest

from sync_defs.inbox import EnqueueResult, EnqueueStatus, MessageState, read_item

QUEUED, DUPLICATE, QUARANTINED = EnqueueStatus.QUEUED, EnqueueStatus.DUPLICATE, EnqueueStatus.QUARANTINED


def at(hour, **more):
    return {"id": "A", "updated_at": f"2026-11-23T{hour:02}:00:00Z", **more}


def held(inbox, job):
    """Claim what is due and return the names in the payloads."""
    records: list[Any] = [read_item(job, claimed.payload) for claimed in inbox.claim("erp", 100)]
    return [record.get("name") for record in records]


def test_g3_the_same_message_id_has_one_effect(inbox, message):
    assert inbox.enqueue(message("m1", {"id": "A"})) == EnqueueResult(status=QUEUED, queued=1)
    assert inbox.enqueue(message("m1", {"id": "B"})) == EnqueueResult(status=DUPLICATE)
    assert [claimed.external_id for claimed in inbox.claim("erp", 10)] == ["A"]


def test_g3_ids_are_remembered_for_14_days(inbox, message, clock):
    inbox.enqueue(message("m1", {"id": "A"}))
    clock.advance(14 * 86400)
    assert inbox.prune() == 0
    assert inbox.enqueue(message("m1", {"id": "A"})).status is DUPLICATE
    clock.advance(1)
    assert inbox.prune() == 1
    assert inbox.enqueue(message("m1", {"id": "A"})).status is QUEUED


def test_ids_of_two_jobs_are_apart(inbox, message):
    from dataclasses import replace

    inbox.enqueue(message("m1", {"id": "A"}))
    assert inbox.enqueue(replace(message("m1", {"id": "A"}), job="other")).status is QUEUED
    assert inbox.due_jobs() == ["erp", "other"]


def test_g6_messages_for_one_item_are_one_row_that_ends_at_the_newest(inbox, message, job):
    for n, hour in enumerate([3, 1, 17, 9]):
        inbox.enqueue(message(f"m{n}", at(hour, name=f"at {hour}")))
    assert held(inbox, job) == ["at 17"]


def test_an_older_version_does_not_replace_a_newer_one(inbox, message, job):
    inbox.enqueue(message("m1", at(5, name="newer")))
    result = inbox.enqueue(message("m2", at(4, name="older")))
    assert result == EnqueueResult(status=QUEUED, superseded=1)
    assert held(inbox, job) == ["newer"]


@pytest.mark.parametrize("version", [None, "v1", "2999-01-01T00:00:00Z"])
def test_a_version_without_order_counts_as_it_arrives(inbox, message, job, version):
    inbox.enqueue(message("m1", {"id": "A", "updated_at": version, "name": "first"}))
    inbox.enqueue(message("m2", at(4, name="second")))
    assert held(inbox, job) == ["second"]


def test_ids_that_collations_merge_are_apart(inbox, message):
    ids = ["A", "a", "é", "e", "e\u0301", "007", "7", "\U0001f600", "\U0001f601"]
    for n, external_id in enumerate(ids):
        inbox.enqueue(message(f"m{n}", {"id": external_id}))
    assert {claimed.external_id for claimed in inbox.claim("erp", 100)} == set(ids)
    assert inbox.enqueue(message("m100", {"id": 7})).queued == 1
    assert inbox.counts("erp").leased == len(ids)


def test_an_item_that_changes_all_the_time_keeps_its_place(inbox, message, clock):
    inbox.enqueue(message("m1", {"id": "busy"}))
    clock.advance(1)
    inbox.enqueue(message("m2", {"id": "quiet"}))
    clock.advance(1)
    inbox.enqueue(message("m3", {"id": "busy"}))
    assert [claimed.external_id for claimed in inbox.claim("erp", 1)] == ["busy"]


def test_a_new_message_ends_the_wait_after_failures(inbox, message, database):
    inbox.enqueue(message("m1", {"id": "A"}))
    [claimed] = inbox.claim("erp", 10)
    with database.write() as connection:
        assert inbox.retry_later(connection, claimed, code="x", error="y")
    assert not inbox.has_due("erp")
    inbox.enqueue(message("m2", {"id": "A"}))
    [claimed] = inbox.claim("erp", 10)
    assert (claimed.attempts, claimed.generation, claimed.message_id) == (0, 2, "m2")


def test_a_message_for_a_claimed_item_is_due_when_the_worker_acknowledges(inbox, message, database, job):
    inbox.enqueue(message("m1", {"id": "A", "name": "first"}))
    [claimed] = inbox.claim("erp", 10)
    inbox.enqueue(message("m2", {"id": "A", "name": "second"}))
    assert inbox.claim("erp", 10) == []
    with database.write() as connection:
        assert not inbox.acknowledge(connection, claimed)
    assert held(inbox, job) == ["second"]


@pytest.mark.parametrize("settle", ["retry_later", "dead_letter"])
def test_a_failure_of_the_older_message_is_not_the_newer_ones(inbox, message, database, settle):
    inbox.enqueue(message("m1", {"id": "A"}))
    [claimed] = inbox.claim("erp", 10)
    inbox.enqueue(message("m2", {"id": "A"}))
    with database.write() as connection:
        assert not getattr(inbox, settle)(connection, claimed, code="x", error="y")
    [newer] = inbox.claim("erp", 10)
    assert (newer.attempts, newer.deaths, newer.message_id) == (0, 0, "m2")


def test_a_message_for_an_item_of_a_dead_worker_is_due_when_the_lease_ends(inbox, message, clock, job):
    inbox.enqueue(message("m1", {"id": "A", "name": "first"}))
    inbox.claim("erp", 10)
    inbox.enqueue(message("m2", {"id": "A", "name": "second"}))
    clock.advance(60)
    assert held(inbox, job) == ["second"]


def test_a_newer_message_revives_a_dead_item(inbox, message, database):
    inbox.enqueue(message("m1", at(5)))
    [claimed] = inbox.claim("erp", 10)
    with database.write() as connection:
        assert inbox.dead_letter(connection, claimed, code="x", error="y")
    assert inbox.state("erp", "A") is MessageState.DEAD
    assert inbox.enqueue(message("m2", at(4))).superseded == 1
    assert inbox.state("erp", "A") is MessageState.DEAD
    assert inbox.enqueue(message("m3", at(6))).queued == 1
    assert inbox.state("erp", "A") is MessageState.PENDING


def test_an_unusable_message_is_kept_with_its_bytes(inbox, message):
    result = inbox.enqueue(message("m1", b"nope"))
    assert result == EnqueueResult(status=QUARANTINED, dead=1, code="not_json")
    [dead] = inbox.list_messages("erp", dead_only=True)
    assert (dead.external_id, dead.message_id, dead.payload, dead.code) == (None, "m1", b"nope", "not_json")
    assert inbox.enqueue(message("m1", b"nope")).status is DUPLICATE
    assert not inbox.has_due("erp")


def test_g9_a_bad_item_does_not_hold_back_the_others(inbox, message):
    result = inbox.enqueue(message("m1", [{"id": "A"}, {"id": None}, {"id": "B"}, {}]))
    assert result == EnqueueResult(status=QUEUED, queued=2, dead=2, code="bad_external_id_type")
    assert sorted(claimed.external_id or "" for claimed in inbox.claim("erp", 10)) == ["A", "B"]
    assert inbox.counts("erp").dead == 2


def test_the_last_of_two_states_in_one_message_counts(inbox, message, job):
    inbox.enqueue(message("m1", [{"id": "A", "name": "first"}, {"id": "A", "name": "second"}]))
    assert held(inbox, job) == ["second"]


def test_a_failed_transaction_stores_nothing(inbox, message, database):
    def fail():
        with database.write() as connection:
            inbox.accept(connection, message("m1", {"id": "A"}))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert inbox.enqueue(message("m1", {"id": "A"})).status is QUEUED
