"""What a person does about dead messages in the web interface: the check, and the jobs that show and settle them."""

import json

import dagster as dg
import pytest

from sync_defs.inbox import Inbox, MessageState, read_message


@pytest.fixture
def inbox(shop):
    """The inbox of the shop: one message waits, one is dead by its content and one without an id."""
    inbox = Inbox(shop.database)
    bodies = {"m1": {"sku": "A", "qty": 5}, "m2": {"sku": "B", "qty": 6}, "m3": {"secret": "s3cret"}}
    for message_id, body in bodies.items():
        given = {"message_id": message_id, "body": json.dumps(body).encode(), "now": shop.database.now()}
        inbox.enqueue(read_message(shop.job, **given))
    kept, dying = sorted(inbox.claim("stock", 10), key=lambda claimed: str(claimed.external_id))
    with shop.database.write() as connection:
        inbox.dead_letter(connection, dying, code="bad_item", error="of no use")
    inbox.release([kept])
    return inbox


@pytest.fixture
def operate(shop):
    """Run a job of the deployment with a launchpad config."""

    def run(name, /, **config):
        definition = shop.defs.resolve_job_def(name)
        return definition.execute_in_process(instance=shop.instance, run_config=config, raise_on_error=False)

    return run


def told_by(result, as_plain):
    [output] = [e.step_output_data.metadata for e in result.all_events if e.is_successful_output]
    return as_plain(output)


def failure_of(result):
    assert not result.success
    [failure] = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    return failure.user_failure_data.description


def checks_of(result):
    events = [e for e in result.all_events if e.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION]
    return {e.event_specific_data.check_name: e.event_specific_data for e in events}


DEAD = {
    ("stock", "B", "m2", "dead", "bad_item", "of no use", "1"),
    ("stock", "", "m3", "dead", "external_id_missing", "sku: the record has no such field", "0"),
}


def without_time(rows):
    return {tuple(value for key, value in row.items() if key != "received") for row in rows}


def test_the_check_warns_of_dead_messages_without_their_payload(operate, inbox, as_plain):
    result = operate("check_inboxes")
    check = checks_of(result)["inbox_has_no_dead_messages"]
    assert (result.success, check.passed, check.severity) == (True, False, dg.AssetCheckSeverity.WARN)
    metadata = as_plain(check.metadata)
    assert without_time(metadata.pop("sync_defs/dead_messages")) == DEAD
    assert metadata.pop("sync_defs/oldest_due_age_s") >= 0
    assert metadata == {"sync_defs/dead": 2, "sync_defs/waiting": 1}
    assert "s3cret" not in str(check)


def test_a_full_sync_evaluates_the_check_and_0_is_said(shop, as_plain):
    shop.source.records = [{"sku": "A", "qty": 1}]
    checks = checks_of(shop.run())
    check = checks["inbox_has_no_dead_messages"]
    expected = {"sync_defs/dead": 0, "sync_defs/waiting": 0, "sync_defs/oldest_due_age_s": 0.0}
    assert (check.passed, as_plain(check.metadata)) == (True, expected)


def test_messages_are_shown(operate, inbox, as_plain):
    metadata = told_by(operate("inbox_show", job="stock", dead=True), as_plain)
    assert without_time(metadata["sync_defs/messages"]) == DEAD
    [counts] = metadata["sync_defs/inbox"]
    assert counts.pop("oldest_ready_age_s").isdigit()
    assert counts == {"job": "stock", "ready": "1", "claimed": "0", "later": "0", "dead": "2"}
    assert len(told_by(operate("inbox_show"), as_plain)["sync_defs/messages"]) == 3
    [row] = told_by(operate("inbox_show", external_id="A"), as_plain)["sync_defs/messages"]
    assert (row["external_id"], row["state"]) == ("A", "pending")


def test_a_dead_message_is_retried(operate, inbox, as_plain):
    metadata = told_by(operate("inbox_retry", job="stock", external_id="B"), as_plain)
    assert metadata["sync_defs/summary"] == "stock: 1 messages due again"
    assert [row["external_id"] for row in metadata["sync_defs/messages"]] == ["B"]
    assert inbox.state("stock", "B") is MessageState.PENDING
    assert inbox.counts("stock").dead == 1


def test_dead_messages_are_discarded(operate, inbox, as_plain):
    assert told_by(operate("inbox_discard", job="stock", message_id="m3"), as_plain)["sync_defs/count"] == 1
    assert told_by(operate("inbox_discard", job="stock", all=True), as_plain)["sync_defs/count"] == 1
    assert (inbox.counts("stock").dead, inbox.counts("stock").ready) == (0, 1)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"job": "stok", "all": True}, "there is no job 'stok'; known jobs: stock"),
        ({"job": "stock"}, "give one of external_id, message_id and all: true"),
        ({"job": "stock", "external_id": "B", "all": True}, "give one of external_id, message_id and all: true"),
        ({"job": "stock", "external_id": "A"}, "stock has no such dead message; see: sync-defs inbox list stock"),
    ],
)
def test_wrong_input_is_one_sentence(operate, inbox, config, reason):
    assert failure_of(operate("inbox_discard", **config)).startswith(reason)
    assert inbox.counts("stock").dead == 2


def test_an_unknown_job_is_not_shown_as_empty(operate):
    assert failure_of(operate("inbox_show", job="stok")) == "there is no job 'stok'; known jobs: stock"
