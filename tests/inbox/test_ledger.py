"""What a person sees and does: counts, lists, retry, discard."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sync_defs.inbox import Counts, EnqueueStatus, MessageState
from tests.inbox.test_statements import sent_to


@pytest.fixture
def filled(inbox, message, database, clock):
    """One row in each place, and two dead letters."""
    for external_id in ("leased", "later", "dead"):
        inbox.enqueue(message(f"m-{external_id}", {"id": external_id}))
        clock.advance(1)
    _, later, dead = inbox.claim("erp", 3)
    with database.write() as connection:
        inbox.retry_later(connection, later, code="bad_item", error="why")
        inbox.dead_letter(connection, dead, code="bad_item", error="why")
    inbox.enqueue(message("m-nope", b"nope"))
    inbox.enqueue(message("m-ready", {"id": "ready"}))
    clock.advance(0.5)
    return inbox


def test_counts_say_how_many_stand_where(filled):
    expected = Counts(ready=1, leased=1, later=1, dead=2, oldest_due_age_s=0.5)
    assert filled.counts("erp") == expected
    assert filled.depth() == {"erp": expected}
    assert filled.counts("other") == Counts()


def test_list_shows_the_latest_first(filled, message):
    states = {entry.message_id: entry.state for entry in filled.list_messages("erp")}
    assert states == {
        "m-leased": MessageState.CLAIMED,
        "m-later": MessageState.PENDING,
        "m-ready": MessageState.PENDING,
        "m-dead": MessageState.DEAD,
        "m-nope": MessageState.DEAD,
    }
    assert len(filled.list_messages(limit=2)) == 2
    assert filled.list_messages("other") == []
    assert [entry.message_id for entry in filled.list_messages(dead_only=True)] == ["m-nope", "m-dead"]
    assert "b'nope'" not in repr(filled.list_messages())


def test_g11_a_dead_letter_stays_until_it_is_retried(filled):
    assert filled.retry("erp", "later") == 0
    assert filled.retry("erp", "dead") == 1
    assert filled.counts("erp").dead == 1
    retried = [claimed for claimed in filled.claim("erp", 10) if claimed.external_id == "dead"]
    assert [(claimed.attempts, claimed.deaths) for claimed in retried] == [(0, 0)]


def test_one_without_an_id_is_named_by_its_message(filled):
    assert filled.retry("erp", message_id="m-nope") == 1
    assert b"nope" in [claimed.payload for claimed in filled.claim("erp", 10)]


def test_discard_deletes_dead_rows_only(filled):
    assert filled.discard("erp", "ready") == 0
    assert filled.discard("erp", "dead") == 1
    assert filled.discard("erp", message_id="m-nope") == 1
    assert filled.counts("erp").dead == 0
    assert len(filled.list_messages()) == 3


def test_all_dead_of_a_job_at_once(filled):
    assert filled.retry("other") == 0
    assert filled.retry("erp") == 2
    assert filled.discard("erp") == 0


def test_rows_of_a_job_that_is_gone_become_dead_letters(inbox, message, clock):
    inbox.enqueue(replace(message("m1", {"id": "A"}), job="gone"))
    inbox.enqueue(replace(message("m2", {"id": "B"}), job="gone"))
    inbox.enqueue(message("m3", {"id": "A"}))
    inbox.claim("gone", 1)
    assert inbox.bury_unknown_jobs(["erp"]) == 1
    clock.advance(60)
    assert inbox.bury_unknown_jobs(["erp"]) == 1
    assert inbox.due_jobs() == ["erp"]
    assert {entry.code for entry in inbox.list_messages("gone", dead_only=True)} == {"unknown_job"}


def test_rows_that_somebody_else_may_still_claim_are_left_alone(inbox, message, clock):
    """The job may be one of another deployment, which works on the same database."""
    for external_id in ("claimed", "waits"):
        inbox.enqueue(replace(message(f"m-{external_id}", {"id": external_id}), job="gone"))
        clock.advance(1)
    inbox.claim("gone", 1)
    day = timedelta(days=1)
    clock.advance(86_398)
    assert inbox.bury_unknown_jobs(["erp"], due_for=day) == 0
    clock.advance(1)
    assert inbox.bury_unknown_jobs(["erp"], due_for=day) == 1
    clock.advance(61)
    assert inbox.bury_unknown_jobs(["erp"], due_for=day) == 1
    assert inbox.counts("gone").dead == 2


def test_ids_older_than_14_days_go_in_small_transactions_and_dead_letters_stay(inbox, message, clock, database):
    for number in range(7):
        inbox.enqueue(message(f"old {number}", b"nope"))
        clock.advance(number // 3)
    clock.advance(14 * 86_400)
    inbox.enqueue(message("young", {"id": "A"}))
    clock.advance(1)
    with sent_to(database) as statements:
        assert inbox.prune(batch=2) == 7
    assert sum("DELETE FROM" in statement for statement, _ in statements) > 2
    assert inbox.prune() == 0
    assert inbox.counts("erp").dead == 7
    assert inbox.enqueue(message("young", {"id": "A"})).status is EnqueueStatus.DUPLICATE
