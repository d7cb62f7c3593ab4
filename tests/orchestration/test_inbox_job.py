"""The inbox job: messages applied, and the asset told of it."""

import json

import dagster as dg
import pytest

from sync_defs import table_sync
from sync_defs.inbox import DrainOptions, Inbox, MessageState, read_message
from sync_defs.inbox.attendance import is_attended
from sync_defs.inbox.guests import Guests
from sync_defs.orchestration import INBOX_CHECK_NAME, build_sync_definitions
from sync_defs.orchestration.inbox_job import Pace, bursts, inbox_job
from sync_defs.orchestration.metadata import items_table
from sync_defs.orchestration.names import DATABASE_KEY, HANDOFF_KEY
from sync_defs.results import Action, ItemResult
from sync_defs.store import SqlStore
from tests.orchestration.conftest import stock


@pytest.fixture
def send(shop):
    """Put a message of one item into the inbox."""

    def enqueue(message_id, *, deleted=False, **record):
        kind = "stock.deleted" if deleted else "stock.changed"
        body = json.dumps({"type": kind, "data": record}).encode()
        message = read_message(shop.job, message_id=message_id, body=body, now=shop.database.now())
        return Inbox(shop.database).enqueue(message)

    return enqueue


@pytest.fixture
def run(shop):
    """Run the inbox job once, without waiting for more messages."""
    pace = Pace(linger_s=0, burst=DrainOptions(linger_s=0))

    def execute():
        return inbox_job(shop.job, pace=pace).execute_in_process(
            instance=shop.instance,
            resources={DATABASE_KEY: shop.database, HANDOFF_KEY: dg.mem_io_manager},
            raise_on_error=False,
        )

    return execute


def check_of(result, name="no_rejected_records"):
    events = [e for e in result.all_events if e.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION]
    [found] = [e.event_specific_data for e in events if e.event_specific_data.check_name == name]
    return found


def test_messages_are_applied_and_materialize_the_asset(shop, send, run, as_plain):
    shop.put([{"sku": "A", "quantity": 1}, {"sku": "C", "quantity": 1}])
    send("m1", sku="A", qty=5)
    send("m2", sku="B", qty=2)
    send("m3", sku="C", deleted=True)
    result = run()
    assert result.success
    assert shop.rows() == {"A": 5, "B": 2, "C": 1}
    [materialization] = shop.materializations()
    metadata = as_plain(materialization.metadata)
    assert metadata.pop("sync_defs/duration_ms") >= 0
    items = sorted(metadata.pop("sync_defs/items"), key=lambda row: row["external_id"])
    assert items == [
        {"external_id": "A", "action": "updated", "reason": ""},
        {"external_id": "B", "action": "created", "reason": ""},
        {"external_id": "C", "action": "marked", "reason": ""},
    ]
    summary = metadata.pop("sync_defs/summary")
    assert summary.startswith("stock: 3 messages applied = ")
    assert metadata == {
        "sync_defs/created": 1,
        "sync_defs/updated": 1,
        "sync_defs/unchanged": 0,
        "sync_defs/skipped": 0,
        "sync_defs/stale": 0,
        "sync_defs/rejected": 0,
        "sync_defs/deleted": 0,
        "sync_defs/marked": 1,
        "sync_defs/retried": 0,
        "sync_defs/dead": 0,
        "sync_defs/transactions": 1,
        "sync_defs/trigger": "webhook",
        "sync_defs/run_id": f"{result.run_id}.1",
    }
    assert check_of(result).passed
    assert Inbox(shop.database).depth() == {}
    assert not is_attended(shop.database, "stock")


def test_a_rejected_message_fails_the_check_and_is_kept(shop, send, run, as_plain):
    send("m1", sku="A", qty=5)
    send("m2", sku="B", qty="many")
    result = run()
    assert result.success
    assert shop.rows() == {"A": 5}
    check = check_of(result)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    metadata = as_plain(check.metadata)
    assert metadata["sync_defs/rejected"] == 1
    assert [row["external_id"] for row in metadata["sync_defs/rejected_records"]] == ["B"]
    assert Inbox(shop.database).state("stock", "B") is MessageState.PENDING


def test_the_resources_of_fetch_items_reach_the_drain(shop, send):
    def fetch_items(external_ids, warehouse):
        return [{"sku": external_id, "qty": warehouse[external_id]} for external_id in external_ids]

    @table_sync(
        target=stock, key="sku", fields={"quantity": "qty"}, fetch_items=fetch_items, refetch=True, create_table=True
    )
    def stock_job(source):
        """Stock levels."""
        return source

    stock_job.name = "stock"
    send("m1", sku="A", qty=5)
    url = shop.database.engine.url.render_as_string(hide_password=False)
    resources = {"source": [], "warehouse": {"A": 7}}
    defs = build_sync_definitions({"stock": stock_job}, database_url=url, resources=resources)
    drain = defs.resolve_job_def("stock_inbox").graph.node_dict["drain"].definition
    assert isinstance(drain, dg.OpDefinition)
    assert drain.required_resource_keys == {"sync_database", "warehouse"}
    job = inbox_job(stock_job, pace=Pace(linger_s=0, burst=DrainOptions(linger_s=0)))
    given = {DATABASE_KEY: shop.database, HANDOFF_KEY: dg.mem_io_manager, "warehouse": resources["warehouse"]}
    assert job.execute_in_process(instance=shop.instance, resources=given).success
    assert shop.rows() == {"A": 7}


def test_an_empty_inbox_tells_no_more_than_that(shop, run, as_plain):
    result = run()
    assert result.success
    assert shop.materializations() == []
    check = check_of(result, INBOX_CHECK_NAME)
    expected = {"sync_defs/dead": 0, "sync_defs/waiting": 0, "sync_defs/oldest_due_age_s": 0.0}
    assert (check.passed, as_plain(check.metadata)) == (True, expected)


def test_a_message_that_dies_fails_the_check_of_the_inbox(shop, send, run, as_plain):
    send("m1", sku="A" * 300, qty=5)
    send("m2", sku="B", qty="many")
    check = check_of(run(), INBOX_CHECK_NAME)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    metadata = as_plain(check.metadata)
    assert (metadata["sync_defs/dead"], metadata["sync_defs/waiting"]) == (1, 1)
    assert [(row["message_id"], row["code"]) for row in metadata["sync_defs/dead_messages"]] == [
        ("m1", "external_id_too_long")
    ]


def alone(shop, pace) -> Guests:
    return Guests(shop.job, database=shop.database, run_id="r", monotonic=pace.monotonic)


def test_a_burst_is_reported_before_the_drain_ends(shop, send):
    """A process that lingers for more messages has already told of those that it has applied."""
    now = [0.0]
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        now[0] += seconds
        if now[0] == 5:
            send("m2", sku="B", qty=2)

    pace = Pace(linger_s=30, burst=DrainOptions(linger_s=0, poll_s=0.5), monotonic=lambda: now[0], sleep=sleep)
    send("m1", sku="A", qty=1)
    seen = [
        (results.applied, now[0])
        for results in bursts(shop.job, SqlStore(shop.database), alone(shop, pace), run_id="r", pace=pace)
    ]
    assert seen == [(1, 0.0), (1, 5.0)]
    assert now[0] == 35


def test_a_drain_under_constant_load_ends_some_time(shop, send):
    now = [0.0]

    def monotonic():
        now[0] += 10
        send(f"m{now[0]}", sku="A", qty=int(now[0]))
        return now[0]

    pace = Pace(stay_s=100, burst=DrainOptions(linger_s=0), monotonic=monotonic)
    assert len(list(bursts(shop.job, SqlStore(shop.database), alone(shop, pace), run_id="r", pace=pace))) <= 10


def test_an_item_tried_twice_is_shown_once_by_its_last_attempt(as_plain):
    tried = [
        ItemResult(
            action=Action.REJECTED, external_id="A", message="quantity: an integer is wanted", code="bad_integer"
        ),
        ItemResult(action=Action.CREATED, external_id="B"),
        ItemResult(action=Action.UPDATED, external_id="A"),
    ]
    assert as_plain({"items": items_table(tried)})["items"] == [
        {"external_id": "A", "action": "updated", "reason": ""},
        {"external_id": "B", "action": "created", "reason": ""},
    ]
