"""Metrics, the mounted receiver, and its OpenAPI document."""

import pytest
from sqlalchemy import event
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from sync_defs.inbox import Counts, EnqueueStatus, Inbox
from sync_defs.policies import Webhook
from sync_defs.receiver import create_app, openapi_schema
from sync_defs.receiver.metrics import Metrics
from sync_defs.store.database import Database
from tests.receiver.conftest import NOW, SECRET, Sender, make_job

on_sqlite = pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)


def test_the_text_of_metrics():
    metrics = Metrics(["erp"])
    metrics.count_received("erp", EnqueueStatus.QUEUED)
    metrics.count_received("erp", EnqueueStatus.QUEUED)
    metrics.count_refused("erp", "unauthorized")
    metrics.count_refused("no such job", "not_found")
    depth = {"erp": Counts(ready=3, leased=2, later=1, dead=4, oldest_due_age_s=1.5), "gone": Counts(ready=9)}
    assert (
        metrics.text(under_way=5, depth=depth)
        == """\
# HELP sync_webhooks_received_total Messages that were stored, by outcome.
# TYPE sync_webhooks_received_total counter
sync_webhooks_received_total{job="erp",status="queued"} 2
sync_webhooks_received_total{job="erp",status="duplicate"} 0
sync_webhooks_received_total{job="erp",status="quarantined"} 0
# HELP sync_webhooks_refused_total Requests that were refused, by code.
# TYPE sync_webhooks_refused_total counter
sync_webhooks_refused_total{job="",code="not_found"} 1
sync_webhooks_refused_total{job="erp",code="unauthorized"} 1
# HELP sync_webhooks_under_way Deliveries that wait for their answer.
# TYPE sync_webhooks_under_way gauge
sync_webhooks_under_way 5
# HELP sync_queue_messages Rows of the queue, by state.
# TYPE sync_queue_messages gauge
sync_queue_messages{job="erp",state="ready"} 3
sync_queue_messages{job="erp",state="leased"} 2
sync_queue_messages{job="erp",state="later"} 1
sync_queue_messages{job="erp",state="dead"} 4
# HELP sync_queue_oldest_due_age_seconds How long the oldest row has been due.
# TYPE sync_queue_oldest_due_age_seconds gauge
sync_queue_oldest_due_age_seconds{job="erp"} 1.5
"""
    )


def test_metrics_count_what_was_answered(sender):
    sender.post({"id": 7})
    sender.post({"id": 7})
    sender.post(b"nope", message_id="m2")
    sender.post({"id": 7}, webhook_signature=None)
    for n in range(50):
        sender.client.post(f"/webhooks/other{n}")
    response = sender.client.get("/metrics")
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert lines == [
        'sync_webhooks_received_total{job="erp",status="queued"} 1',
        'sync_webhooks_received_total{job="erp",status="duplicate"} 1',
        'sync_webhooks_received_total{job="erp",status="quarantined"} 1',
        'sync_webhooks_refused_total{job="",code="not_found"} 50',
        'sync_webhooks_refused_total{job="erp",code="unauthorized"} 1',
        "sync_webhooks_under_way 0",
        'sync_queue_messages{job="erp",state="ready"} 1',
        'sync_queue_messages{job="erp",state="leased"} 0',
        'sync_queue_messages{job="erp",state="later"} 0',
        'sync_queue_messages{job="erp",state="dead"} 1',
        'sync_queue_oldest_due_age_seconds{job="erp"} 0.0',
    ]


@on_sqlite
def test_a_flood_of_scrapes_asks_the_database_once_in_a_while_only(make_client, database):
    client = make_client()
    asked = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    answers = {client.get(path).status_code for _ in range(20) for path in ("/metrics", "/readyz")}
    assert answers == {200}
    assert len([statement for statement in asked if "sync_queue" in statement]) == 1


def test_metrics_without_a_database_are_a_503(make_client):
    with Database("sqlite:////proc/no/such/x.db") as away:
        response = make_client(database=away).get("/metrics")
    assert (response.status_code, response.json()["code"]) == (503, "database_unreachable")


def test_it_may_be_mounted_in_an_app_that_does_not_run_its_lifespan(tmp_path):
    with Database(f"sqlite:///{tmp_path / 'fresh.db'}") as database:
        app = create_app(jobs=[make_job()], database=database, secrets=lambda _: [SECRET], clock=lambda: NOW)
        with TestClient(Starlette(routes=[Mount("/hooks/{tenant}", app)])) as client:
            sender = Sender(client, path="/hooks/a/webhooks/erp")
            assert sender.post({"id": 7}).json() == {"status": "queued", "code": "queued"}
            assert client.get("/hooks/a/readyz").status_code == 200
            assert client.post("/hooks/a/webhooks/other").status_code == 404
        assert Inbox(database).counts("erp").ready == 1


@on_sqlite
def test_a_job_may_have_unusable_messages_rejected(make_client, inbox):
    sender = Sender(make_client(jobs=[make_job(webhook=Webhook(on_invalid="reject"))]))
    response = sender.post(b"nope")
    assert (response.status_code, response.json()["code"]) == (422, "not_json")
    assert sender.post([{"id": 7}, {"name": "no id"}], message_id="m2").status_code == 202
    assert (inbox.counts("erp").ready, inbox.counts("erp").dead) == (1, 1)


def test_the_openapi_document_names_what_each_job_reads():
    jobs = {
        "erp": make_job(),
        "shop": make_job("shop", Webhook(scheme="shopify")),
        "pay": make_job("pay", Webhook(scheme="stripe")),
    }
    paths = openapi_schema(jobs)["paths"]
    needed = {
        path: {parameter["name"]: parameter["required"] for parameter in operations["post"]["parameters"]}
        for path, operations in paths.items()
        if "post" in operations
    }
    assert needed == {
        "/webhooks/erp": {"webhook-id": True, "webhook-timestamp": True, "webhook-signature": True},
        "/webhooks/shop": {"x-shopify-hmac-sha256": True, "x-shopify-topic": False, "x-shopify-event-id": False},
        "/webhooks/pay": {"stripe-signature": True},
    }
    assert {"/healthz", "/readyz", "/metrics"} <= set(paths)
