"""Claims: leases, attempts, backoff, deaths; and that the data and the end of a row are one transaction."""

import pytest

from sync_defs.inbox import Counts, MessageState
from sync_defs.inbox.claims import MAX_ATTEMPTS, backoff_s

pytestmark = pytest.mark.each_database


@pytest.fixture
def claimed(inbox, message):
    inbox.enqueue(message("m1", {"id": "A"}))
    [claimed] = inbox.claim("erp", 10)
    return claimed


def test_the_longest_due_come_first_and_only_this_jobs(inbox, message, clock):
    for n in range(5):
        inbox.enqueue(message(f"m{n}", {"id": f"item {n}"}))
        clock.advance(1)
    assert inbox.claim("other", 10) == []
    assert [claimed.external_id for claimed in inbox.claim("erp", 2)] == ["item 0", "item 1"]
    assert [claimed.external_id for claimed in inbox.claim("erp", 10)] == ["item 2", "item 3", "item 4"]


def test_a_limit_below_one_is_a_callers_mistake(inbox):
    with pytest.raises(ValueError, match="limit"):
        inbox.claim("erp", 0)


def test_g7_a_lease_that_ran_out_is_taken_over(inbox, claimed, clock):
    clock.advance(59.9)
    assert inbox.claim("erp", 10) == []
    assert inbox.state("erp", "A") is MessageState.CLAIMED
    clock.advance(0.1)
    assert inbox.state("erp", "A") is MessageState.PENDING
    [taken] = inbox.claim("erp", 10)
    assert (taken.external_id, taken.deaths) == ("A", 1)
    assert taken.token != claimed.token


@pytest.mark.parametrize("method", ["acknowledge", "retry_later", "dead_letter"])
def test_g8_a_worker_that_lost_its_lease_changes_nothing(inbox, claimed, clock, database, method):
    clock.advance(60)
    [taken] = inbox.claim("erp", 10)
    reason = {} if method == "acknowledge" else {"code": "x", "error": "y"}
    with database.write() as connection:
        assert inbox.lock(connection, [claimed]) == set()
        assert not getattr(inbox, method)(connection, claimed, **reason)
    inbox.release([claimed])
    assert inbox.renew([claimed]) == []
    assert inbox.state("erp", "A") is MessageState.CLAIMED
    with database.write() as connection:
        assert inbox.lock(connection, [taken]) == {0}
        assert inbox.acknowledge(connection, taken)


def test_a_renewed_lease_is_not_taken_over(inbox, claimed, clock):
    clock.advance(50)
    assert inbox.renew([claimed]) == [claimed]
    clock.advance(50)
    assert inbox.claim("erp", 10) == []
    clock.advance(10)
    assert len(inbox.claim("erp", 10)) == 1


def test_a_released_row_is_due_at_once_and_counts_nothing(inbox, claimed):
    inbox.release([claimed])
    [again] = inbox.claim("erp", 10)
    assert (again.attempts, again.deaths) == (0, 0)


def test_g4_the_end_of_a_row_commits_with_the_data_or_not_at_all(inbox, claimed, database):
    def fail():
        with database.write() as connection:
            assert inbox.acknowledge(connection, claimed)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert inbox.state("erp", "A") is MessageState.CLAIMED
    with database.write() as connection:
        assert inbox.acknowledge(connection, claimed)
    assert inbox.state("erp", "A") is MessageState.DONE


def test_lock_tells_which_claims_still_hold_and_gives_the_others_back(inbox, message, database, clock):
    for external_id in ("A", "B", "C"):
        inbox.enqueue(message(f"m-{external_id}", {"id": external_id}))
        clock.advance(1)
    claims = inbox.claim("erp", 10)
    inbox.enqueue(message("newer", {"id": "B"}))
    with database.write() as connection:
        assert inbox.acknowledge(connection, claims[2])
    with database.write() as connection:
        assert inbox.lock(connection, claims) == {0}
    assert [claimed.message_id for claimed in inbox.claim("erp", 10)] == ["newer"]


def test_a_worker_that_dies_five_times_leaves_a_dead_letter(inbox, claimed, message, clock):
    for deaths in range(1, 5):
        clock.advance(60)
        assert [again.deaths for again in inbox.claim("erp", 10)] == [deaths]
    clock.advance(60)
    inbox.enqueue(message("m2", {"id": "B"}))
    assert [again.external_id for again in inbox.claim("erp", 1)] == ["B"]
    [dead] = inbox.list_messages(dead_only=True)
    assert (dead.external_id, dead.code, dead.deaths, dead.payload) == ("A", "worker_died", 5, claimed.payload)


def test_after_one_death_twenty_are_claimed_together_and_after_two_each_alone(inbox, message, clock):
    """So the one that kills is found out by its third death, and none of its neighbours gets more than two by it."""
    inbox.enqueue(message("m1", [{"id": f"item {n:02}"} for n in range(50)]))
    assert len(inbox.claim("erp", 500)) == 50
    clock.advance(60)
    groups = [inbox.claim("erp", 500) for _ in range(3)]
    assert [(len(group), {claimed.deaths for claimed in group}) for group in groups] == [
        (20, {1}),
        (20, {1}),
        (10, {1}),
    ]
    inbox.release(groups[1])
    clock.advance(60)
    sizes = [(len(group), {claimed.deaths for claimed in group}) for group in iter(lambda: inbox.claim("erp", 500), [])]
    assert sizes == [(20, {1}), *[(1, {2})] * 30]


def test_items_over_which_a_worker_died_are_claimed_with_none_over_which_no_one_did(inbox, message, clock):
    """Else they would count the death of a worker that died over another item; the longest due say which come first."""
    inbox.enqueue(message("m1", [{"id": "A"}, {"id": "B"}]))
    inbox.claim("erp", 10)
    clock.advance(50)
    inbox.enqueue(message("m2", [{"id": "C"}]))
    clock.advance(20)
    inbox.enqueue(message("m3", [{"id": "D"}]))
    claims = [{claimed.external_id for claimed in inbox.claim("erp", 10)} for _ in range(3)]
    assert claims == [{"C", "D"}, {"A", "B"}, set()]


def test_backoff_doubles_up_to_six_hours_with_equal_jitter():
    assert [backoff_s(n, lambda: 1.0) for n in (1, 2, 10, 14, 15, 25)] == [2, 4, 1024, 16384, 21600, 21600]
    assert [backoff_s(n, lambda: 0.0) for n in (1, 2, 25)] == [1, 2, 10800]
    assert backoff_s(3, lambda: 0.5) == 6


def test_g10_25_failed_attempts_end_as_a_dead_letter(inbox, message, database, clock):
    inbox.enqueue(message("m1", {"id": "A"}))
    for attempt in range(MAX_ATTEMPTS):
        [claimed] = inbox.claim("erp", 10)
        assert claimed.attempts == attempt
        with database.write() as connection:
            assert inbox.retry_later(connection, claimed, code="bad_item", error="name: too long\0")
        clock.advance(6 * 3600)
    [dead] = inbox.list_messages()
    assert (dead.state, dead.attempts, dead.code, dead.error) == (
        MessageState.DEAD,
        25,
        "bad_item",
        "name: too long",
    )


def test_the_wait_is_the_backoff(inbox, claimed, database, clock):
    with database.write() as connection:
        inbox.retry_later(connection, claimed, code="x", error="y")
    assert inbox.counts("erp") == Counts(later=1)
    clock.advance(1.4)
    assert not inbox.has_due("erp")
    clock.advance(0.1)
    assert inbox.has_due("erp")
