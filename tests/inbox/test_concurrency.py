"""Many threads at once, on real databases."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from sync_defs.inbox import EnqueueStatus, MessageState

pytestmark = pytest.mark.each_database

THREADS = 8


def at_once(work):
    """Run a function in many threads that start together; return the results in order."""
    barrier = Barrier(THREADS)

    def start(n):
        barrier.wait(30)
        return work(n)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(start, range(THREADS)))


def test_two_claimers_never_get_the_same_row(inbox, message):
    inbox.enqueue(message("m1", [{"id": f"item {n}"} for n in range(200)]))

    def claim_all(_):
        found = []
        while claims := inbox.claim("erp", 7):
            found += [claimed.external_id for claimed in claims]
        return found

    claimed = [external_id for found in at_once(claim_all) for external_id in found]
    assert sorted(claimed) == sorted(f"item {n}" for n in range(200))


def test_g3_the_same_message_id_at_once_has_one_effect(inbox, message):
    results = at_once(lambda _: inbox.enqueue(message("m1", {"id": "A"})).status)
    assert Counter(results) == {EnqueueStatus.QUEUED: 1, EnqueueStatus.DUPLICATE: THREADS - 1}
    assert [claimed.generation for claimed in inbox.claim("erp", 10)] == [1]


def test_messages_for_one_new_item_at_once_are_one_row(inbox, message):
    at_once(lambda n: inbox.enqueue(message(f"m{n}", {"id": "A"})))
    assert [claimed.generation for claimed in inbox.claim("erp", 10)] == [THREADS]


def test_messages_with_the_same_items_in_other_orders_do_not_lock_each_other_out(inbox, message):
    items = [{"id": f"item {n}"} for n in range(50)]

    def enqueue(n):
        order = items if n % 2 else items[::-1]
        return [inbox.enqueue(message(f"m{n}.{k}", order)).queued for k in range(3)]

    assert at_once(enqueue) == [[50, 50, 50]] * THREADS
    assert {claimed.generation for claimed in inbox.claim("erp", 100)} == {3 * THREADS}


def test_nothing_is_lost_between_accepting_and_acknowledging(inbox, message, database, job):
    """Half of the threads bring ever newer states of one item, the others apply what they can claim."""
    applied = []

    def work(n):
        for k in range(20):
            if n % 2:
                inbox.enqueue(message(f"m{n}.{k}", {"id": "A", "name": f"{n}.{k}"}))
            for claimed in inbox.claim("erp", 5):
                with database.write() as connection:
                    if inbox.lock(connection, [claimed]):
                        assert inbox.acknowledge(connection, claimed)
                        applied.append(claimed.generation)

    at_once(work)
    while claims := inbox.claim("erp", 5):
        with database.write() as connection:
            assert inbox.lock(connection, claims) == {0}
            assert inbox.acknowledge(connection, claims[0])
            applied.append(claims[0].generation)  # the threads may each time have come too late
    assert applied
    assert inbox.state("erp", "A") is MessageState.DONE
