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


def test_a_message_is_shown_whole_and_its_payload_only_when_asked(any_project, inbox):
    done = any_project.run("inbox", "show", "stock", "B")
    facts = dict(line.split(": ", 1) for line in done.out.splitlines())
    assert (done.code, done.err) == (0, "")
    assert facts.pop("received at").startswith("20")
    assert facts == {
        "job": "stock",
        "external id": "B",
        "message id": "m2",
        "state": "dead",
        "attempts": "1",
        "deaths": "0",
        "code": "bad",
        "error": "of \\x1b no use",
        "due at": "-",
        "payload bytes": "27",
    }
    assert any_project.run("inbox", "show", "stock", "B", "--payload").out == done.out + (
        'payload:\n  {"sku": "B", "quantity": 8}\n'
    )


def test_a_shown_message_as_json(any_project, inbox):
    found = json.loads(any_project.run("inbox", "show", "stock", "--message", "m3", "--payload", "--json").out)
    assert (found["external_id"], found["code"], found["payload"]) == (None, "not_json", "not \x1b[2J")
    assert "payload" not in json.loads(any_project.run("inbox", "show", "stock", "A", "--json").out)


def test_the_raw_payload_is_the_bytes_that_came(any_project, inbox):
    job = Deployment().job("stock")
    inbox.enqueue(read_message(job, message_id="m4", body=b"\xff\x00\n", now=inbox.database.now()))
    with any_project.start("inbox", "show", "stock", "--message", "m4", "--raw") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, b"\xff\x00\n", b"")
    assert any_project.run("inbox", "show", "stock", "--message", "m4", "--payload").out.endswith(
        "payload: not UTF-8; --raw writes its bytes\n"
    )


def test_each_item_of_a_message_is_shown_and_one_alone_is_raw(any_project, inbox):
    body = b'{"data": [{"sku": "X", "quantity": 1}, {"sku": "Y", "quantity": 2}]}'
    inbox.enqueue(read_message(Deployment().job("stock"), message_id="m5", body=body, now=inbox.database.now()))
    assert len(json.loads(any_project.run("inbox", "show", "stock", "--message", "m5", "--json").out)) == 2
    done = any_project.run("inbox", "show", "stock", "--message", "m5", "--raw")
    assert (done.code, done.out) == (2, "")
    assert "the message has 2 items; give the ID of one." in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["stock", "Z"], 1, "[no_message] stock has no such message in its queue; see: sync-defs inbox list stock"),
        (["stok", "Z"], 2, "[unknown_job] there is no job 'stok'"),
        (["stock"], 2, "give either ID or --message ID."),
        (["stock", "A", "--raw", "--json"], 2, "--raw excludes --payload and --json."),
    ],
)
def test_a_message_that_cannot_be_shown_is_one_sentence(project, arguments, code, reason):
    done = project.run("inbox", "show", *arguments)
    assert (done.code, done.out) == (code, "")
    assert reason in done.err
