"""Several messages in one transaction: the same as one after the other, and no deadlock."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_defs import Database
from sync_defs.inbox import EnqueueResult, EnqueueStatus, Inbox, Message, MessageItem
from tests.inbox.conftest import START


def message(message_id, *items):
    made = tuple(
        MessageItem(external_id=key, payload=f"{message_id} {place}".encode(), version=version, code=code)
        for place, (key, version, code) in enumerate(items)
    )
    return Message(job="erp", message_id=message_id, items=made)


def test_a_later_message_of_a_group_counts(inbox):
    found = inbox.enqueue_all(
        [message("m1", ("A", None, None), ("B", None, None)), message("m2", ("A", None, None)), message("m1")]
    )
    queued = EnqueueResult(status=EnqueueStatus.QUEUED, queued=1)
    assert found == [dataclasses.replace(queued, queued=2), queued, EnqueueResult(status=EnqueueStatus.DUPLICATE)]
    assert {row.external_id: row.payload for row in inbox.list_messages()} == {"A": b"m2 0", "B": b"m1 1"}


versions = st.sampled_from([None, "n:1", "n:2", "n:3"])
items = st.tuples(st.sampled_from("ABC"), versions, st.none()) | st.tuples(st.none(), st.none(), st.just("not_json"))
names = st.sampled_from(["m1", "m2", "m3"])
messages = st.builds(lambda name, found: message(name, *found), names, st.lists(items, min_size=1, max_size=3))
groups = st.lists(messages, max_size=6)


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    one, many = (Database(f"sqlite:///{folder / name}", clock=lambda: START) for name in ("one.db", "many.db"))
    with one, many:
        one.upgrade()
        many.upgrade()
        yield Inbox(one), Inbox(many)


def rows(inbox):
    return sorted((dataclasses.astuple(row) for row in inbox.list_messages()), key=repr)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(groups, max_size=3))
def test_a_group_ends_as_its_messages_one_after_the_other(schema, found):
    one, many = schema
    for inbox in schema:
        inbox.discard("erp")
        for claimed in inbox.claim("erp", 1_000):
            with inbox.database.write() as connection:
                inbox.acknowledge(connection, claimed)
        inbox.prune(timedelta(seconds=-1))
    for group in found:
        assert many.enqueue_all(group) == [one.enqueue(single) for single in group]
    assert rows(many) == rows(one)


def test_groups_with_the_same_ids_and_items_never_lock_each_other_out(database, inbox):
    keys = [f"K{number}" for number in range(20)]
    there = [message(key, (key, None, None)) for key in keys]
    mixed = [message(f"{key} again", (other, None, None)) for key, other in zip(keys, reversed(keys), strict=True)]
    start = threading.Barrier(4)

    def deliver(group):
        start.wait()
        return [result.status for result in inbox.enqueue_all(group)]

    groups = [there, there[::-1], mixed, mixed[::-1]]
    with ThreadPoolExecutor(4) as threads:
        found = [status for statuses in threads.map(deliver, groups) for status in statuses]
    assert sorted(found) == ["duplicate"] * 40 + ["queued"] * 40
    assert inbox.counts("erp").ready == 20
