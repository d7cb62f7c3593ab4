"""Group commit: what shares a transaction, and what a failure or a sender that goes away costs the others."""

import threading
from concurrent.futures import wait
from contextlib import contextmanager

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from sync_defs.inbox import EnqueueStatus, Message, MessageItem
from sync_defs.receiver import create_app
from sync_defs.receiver.intake import Refused
from sync_defs.receiver.writer import Writer
from sync_defs.store.database import Database
from tests.receiver.conftest import NOW, SECRET, Sender, make_job

pytestmark = pytest.mark.parametrize("migrated_url", ["sqlite", "postgresql"], indirect=True)
TIMEOUT_S = 30


def message(number: int, external_id: str | None = None) -> Message:
    item = MessageItem(external_id=external_id or f"item {number}", payload=b"{}")
    return Message(job="erp", message_id=f"m{number}", items=(item,))


@pytest.fixture
def writer(inbox):
    writer = Writer(inbox)
    yield writer
    writer.close()


class Gate:
    """Holds the first commit of a writing transaction until it is opened, and counts all of these."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.commits = 0
        self.reached = threading.Event()
        self.open = threading.Event()
        self.failure = failure

    def note(self, connection, cursor, statement, *_) -> None:
        if statement.startswith("INSERT"):
            connection.info["writes"] = True

    def commit(self, connection: sa.Connection) -> None:
        if not connection.info.pop("writes", False):
            return
        self.commits += 1
        if self.commits == 1:
            self.reached.set()
            assert self.open.wait(TIMEOUT_S)
            if self.failure is not None:
                raise self.failure


@contextmanager
def gate(database: Database, failure: Exception | None = None):
    held = Gate(failure)
    listeners = {"before_cursor_execute": held.note, "commit": held.commit}
    for name, listener in listeners.items():
        event.listen(database.engine, name, listener)
    try:
        yield held
    finally:
        held.open.set()
        for name, listener in listeners.items():
            event.remove(database.engine, name, listener)


def submit_behind(writer, held, messages):
    """Submit one message that waits in its commit, and others behind it that have been read meanwhile."""
    first = writer.submit(lambda: message(0))
    assert held.reached.wait(TIMEOUT_S)
    read = threading.Semaphore(0)

    def reader(found):
        def run():
            read.release()
            return found

        return run

    promises = [writer.submit(reader(found)) for found in messages]
    for _ in promises:
        assert read.acquire(timeout=TIMEOUT_S)
    held.open.set()
    return [first, *promises]


def test_messages_that_come_in_during_a_commit_share_the_next(writer, inbox, database):
    with gate(database) as held:
        promises = submit_behind(writer, held, [message(number) for number in range(1, 101)])
        results = [promise.result(TIMEOUT_S) for promise in promises]
    assert {result.status for result in results} == {EnqueueStatus.QUEUED}
    assert inbox.counts("erp").ready == 101
    # The group that waited, and the four that may have been on their way to it.
    assert 2 <= held.commits <= 6


def test_one_bad_message_does_not_fail_its_neighbours(writer, inbox, database, caplog):
    bad = message(2, external_id="geheim \ud800")
    with gate(database) as held:
        promises = submit_behind(writer, held, [message(1), bad, message(3)])
        wait(promises, TIMEOUT_S)
    assert [promise.exception() is None for promise in promises] == [True, True, False, True]
    assert isinstance(promises[2].exception(), Refused)
    assert inbox.counts("erp").ready == 3
    assert "geheim" not in caplog.text


def test_a_failed_commit_fails_its_whole_group_and_stores_none_of_it(writer, inbox, database, caplog):
    broken = OperationalError("COMMIT", None, Exception("geheim"))
    with gate(database, broken) as held:
        promise = writer.submit(lambda: message(1))
        held.open.set()
        refused = promise.exception(TIMEOUT_S)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.code) == (503, "unavailable")
    assert inbox.depth() == {}
    assert "geheim" not in caplog.text
    assert writer.submit(lambda: message(1)).result(TIMEOUT_S).status is EnqueueStatus.QUEUED


def test_what_cannot_be_read_fails_alone_and_shows_nothing(writer, caplog):
    def read():
        raise LookupError("geheim")

    refused = writer.submit(read).exception(TIMEOUT_S)
    assert isinstance(refused, Refused)
    assert (refused.status, "geheim" in caplog.text, "LookupError" in caplog.text) == (503, False, True)


def test_closing_waits_for_what_was_submitted_and_a_later_message_starts_anew(writer, inbox):
    promises = [writer.submit(lambda number=number: message(number)) for number in range(20)]
    writer.close()
    assert all(promise.done() for promise in promises)
    assert inbox.counts("erp").ready == 20
    assert writer.submit(lambda: message(20)).result(TIMEOUT_S).status is EnqueueStatus.QUEUED


def test_a_sender_that_goes_away_before_the_answer_loses_nothing(database, inbox):
    """Its request is cancelled while the commit is under way."""
    app = create_app(jobs=[make_job()], database=database, secrets=lambda _: [SECRET], clock=lambda: NOW)
    body = b'{"id": 7}'
    headers = [(name.encode(), value.encode()) for name, value in Sender(None).headers(body, "m1").items()]
    scope = {"type": "http", "method": "POST", "path": "/webhooks/erp", "query_string": b"", "headers": headers}

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(sent):
        raise AssertionError(sent)

    async def deliver(held):
        async with app.router.lifespan_context(app), anyio.create_task_group() as group:
            group.start_soon(app, scope, receive, send)
            await anyio.to_thread.run_sync(held.reached.wait, TIMEOUT_S)
            group.cancel_scope.cancel()
            held.open.set()

    with gate(database) as held:
        anyio.run(deliver, held)
    assert [claimed.payload for claimed in inbox.claim("erp", 10)] == [body]
