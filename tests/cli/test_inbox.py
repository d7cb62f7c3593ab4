"""`inbox`: what waits, and what is done with dead messages."""

import json

import pytest

from sync_defs.cli.deployment import Deployment
from sync_defs.inbox import Inbox, read_message
from sync_defs.store.database import Database
from tests.cli.conftest import Done


@pytest.fixture
def inbox(any_project):
    """The project's inbox with one pending and two dead messages, one of them without an id."""
    job = Deployment().job("stock")
    with Database(any_project.database_url) as database:
        inbox = Inbox(database)
        bodies = {
            "m1": b'{"sku": "A", "quantity": 7}',
            "m2": b'{"sku": "B", "quantity": 8}',
            "m3": b"not \x1b[2J",
        }
        for message_id, body in bodies.items():
            inbox.enqueue(read_message(job, message_id=message_id, body=body, now=database.now()))
        kept, dying = sorted(inbox.claim("stock", 10), key=lambda claimed: str(claimed.external_id))
        with database.write() as connection:
            inbox.dead_letter(connection, dying, code="bad", error="of \x1b no use")
        inbox.release([kept])
        yield inbox


def test_empty_inbox_says_so(any_project):
    assert any_project.run("inbox") == Done(0, "no messages\n", "")
    assert json.loads(any_project.run("inbox", "--json").out) == {"counts": {}, "messages": []}


def test_counts_and_messages_are_listed(any_project, inbox):
    done = any_project.run("inbox")
    head, counts, blank, *messages = done.out.splitlines()
    assert (done.code, done.err, blank) == (0, "", "")
    assert head.split() == ["JOB", "READY", "CLAIMED", "LATER", "DEAD", "OLDEST", "READY"]
    assert counts.split()[:5] == ["stock", "1", "0", "0", "2"]
    assert len(messages) == 4
    assert "of \\x1b no use [bad]" in done.out


def test_only_dead_messages(any_project, inbox):
    for arguments in (["inbox", "--dead", "--json"], ["inbox", "list", "stock", "--dead", "--json"]):
        found = json.loads(any_project.run(*arguments).out)
        assert {(m["external_id"], m["message_id"], m["code"]) for m in found["messages"]} == {
            ("B", "m2", "bad"),
            (None, "m3", "not_json"),
        }


def test_retry_makes_a_dead_message_due(any_project, inbox):
    assert any_project.run("inbox", "retry", "stock", "B") == Done(0, "1 message due again\n", "")
    assert (inbox.counts("stock").dead, inbox.counts("stock").ready) == (1, 2)


def test_message_without_an_item_is_named_by_its_own_id(any_project, inbox):
    assert any_project.run("inbox", "discard", "stock", "--message", "m3").out == "1 message discarded\n"
    assert inbox.counts("stock").dead == 1


def test_all_dead_messages_at_once(any_project, inbox):
    assert any_project.run("inbox", "discard", "stock", "--all").out == "2 messages discarded\n"
    assert inbox.counts("stock").dead == 0


def test_message_that_is_not_dead_is_left_alone(any_project, inbox):
    done = any_project.run("inbox", "discard", "stock", "A")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("sync-defs: [no_dead_message] stock has no such dead message;")


@pytest.mark.parametrize("arguments", [["stock"], ["stock", "A", "--all"], ["stock", "A", "--message", "m1"]])
def test_what_is_meant_must_be_said_once(project, arguments):
    done = project.run("inbox", "discard", *arguments)
    assert (done.code, done.out) == (2, "")
    assert "give one of ID, --message ID and --all." in done.err


def test_unknown_job_is_told(project):
    assert project.run("inbox", "retry", "stok", "A").code == 2
    assert project.run("inbox", "list", "stok").code == 2


def test_prune_forgets_no_young_ids(any_project, inbox):
    assert any_project.run("inbox", "prune") == Done(0, "0 message ids forgotten\n", "")
    assert any_project.run("inbox", "prune", "--days", "13").code == 2
