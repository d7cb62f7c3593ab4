"""The receiver's answers, in the order of refusal, over real databases."""

import hashlib
import hmac
import logging

import pytest
import sqlalchemy as sa

from sync_defs.errors import ConfigurationError, DatabaseNotReadyError
from sync_defs.inbox import EnqueueStatus
from sync_defs.policies import Webhook
from sync_defs.receiver import create_app
from sync_defs.receiver.intake import MAX_BODY
from sync_defs.store.database import Database
from tests.receiver.conftest import NOW, PREVIOUS, SECRET, Sender, make_job


def code(response):
    return response.status_code, response.json()["code"]


def test_g1_accepted_means_stored(sender, inbox):
    response = sender.post({"id": 7, "name": "x"})
    assert (response.status_code, response.json()) == (202, {"status": "queued", "code": "queued"})
    assert [claimed.payload for claimed in inbox.claim("erp", 10)] == [b'{"data": {"id": 7, "name": "x"}}']


def test_g3_a_repeated_delivery_is_a_duplicate(sender, inbox):
    answers = [sender.post({"id": 7}).json() for _ in range(3)]
    assert [answer["status"] for answer in answers] == ["queued", "duplicate", "duplicate"]
    assert inbox.counts("erp").ready == 1


def test_a_signed_but_unusable_message_is_kept_as_a_dead_letter(sender, inbox):
    response = sender.post(b"nope")
    assert (response.status_code, response.json()) == (202, {"status": "quarantined", "code": "quarantined:not_json"})
    assert [dead.payload for dead in inbox.list_messages(dead_only=True)] == [b"nope"]


def test_g19_secrets_rotate_without_a_refused_delivery(sender, make_client):
    sender.secret = PREVIOUS
    assert code(sender.post({"id": 7})) == (202, "queued")
    rotated = Sender(make_client(secrets=lambda _: [SECRET]), secret=PREVIOUS)
    assert code(rotated.post({"id": 7})) == (401, "unauthorized")


def test_g19_nothing_unsigned_is_stored(sender, inbox):
    for changed in ({"webhook_signature": None}, {"webhook_signature": "v1,AAAA"}, {"webhook_id": "other"}):
        assert code(sender.post({"id": 7}, **changed)) == (401, "unauthorized")
    assert inbox.depth() == {}


def test_a_refusal_says_the_same_whatever_was_wrong(sender):
    answers = {sender.post({"id": 7}, **{name: None}).text for name in ("webhook_id", "webhook_signature")}
    assert len(answers) == 1


@pytest.mark.parametrize("path", ["/", "/webhooks", "/webhooks/", "/webhooks/erp/", "/webhooks/other", "/webhooks/ERP"])
def test_an_unknown_route_comes_before_everything_else(sender, path):
    for method in ("GET", "POST", "BREW"):
        assert code(sender.client.request(method, path)) == (404, "not_found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_only_post_is_taken(sender, method):
    response = sender.client.request(method, "/webhooks/erp")
    assert (*code(response), response.headers["allow"]) == (405, "method_not_allowed", "POST")
    assert code(sender.client.post("/healthz")) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    "name",
    ["webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "content-encoding", "Content-Length"],
)
def test_a_repeated_security_header_is_refused(sender, name):
    body = b"{}"
    headers = [*sender.headers(body, "m1").items(), ("content-encoding", "identity"), (name, "1")]
    if name.lower() == "content-length":
        headers.append((name, "2"))
    assert code(sender.client.post(sender.path, content=body, headers=headers)) == (400, "duplicate_header")


def test_the_headers_of_an_hmac_job_may_not_be_repeated_either(make_client):
    job = make_job(webhook=Webhook(scheme="hmac", signature_header="X-Sig"))
    headers = [("content-type", "application/json"), ("x-sig", "a"), ("X-SIG", "b")]
    response = make_client(jobs=[job]).post("/webhooks/erp", content=b"{}", headers=headers)
    assert code(response) == (400, "duplicate_header")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"content_length": str(MAX_BODY + 1)}, (413, "too_large")),
        ({"content_length": "9" * 400}, (400, "bad_content_length")),
        ({"content_length": "+2"}, (400, "bad_content_length")),
        ({"content_length": "2", "transfer_encoding": "chunked"}, (400, "bad_content_length")),
        ({"transfer_encoding": "gzip, chunked"}, (400, "bad_transfer_encoding")),
        ({"content_encoding": "gzip"}, (415, "unsupported_encoding")),
        ({"content_encoding": "identity"}, (202, "queued")),
        ({"content_type": None}, (415, "unsupported_media_type")),
        ({"content_type": "text/plain"}, (415, "unsupported_media_type")),
        ({"content_type": "application/jsonx"}, (415, "unsupported_media_type")),
        ({"content_type": "application/x-www-form-urlencoded"}, (415, "unsupported_media_type")),
        ({"content_type": "Application/JSON; charset=utf-16"}, (202, "queued")),
        ({"content_type": "application/vnd.shop+json"}, (202, "queued")),
    ],
    ids=str,
)
def test_headers_are_judged_before_the_signature(sender, changed, expected):
    signature = {} if expected[0] == 202 else {"webhook_signature": None}
    assert code(sender.post({"id": 7}, **changed, **signature)) == expected


def test_a_body_without_a_length_is_cut_off_at_the_limit(sender, inbox):
    sent = []

    def endless():
        for n in range(200):
            sent.append(n)
            yield b"x" * 65536

    response = sender.client.post(sender.path, content=endless(), headers={"content-type": "application/json"})
    assert code(response) == (413, "too_large")
    assert inbox.depth() == {}


def test_a_body_of_exactly_the_limit_is_taken(sender):
    body = b'{"data": {"id": 7}, "x": "' + b"x" * (MAX_BODY - 28) + b'"}'
    assert len(body) == MAX_BODY
    assert code(sender.post(body)) == (202, "queued")
    assert code(sender.post(body + b" ", message_id="m2")) == (413, "too_large")


def test_hmac_scheme(make_client, inbox):
    job = make_job(webhook=Webhook(scheme="hmac", signature_header="X-Hub-Signature-256", id_header="X-Delivery"))
    client = make_client(jobs={"erp": job}, secrets=lambda _: ["a secret"])
    body = b'{"id": 7}'
    digest = hmac.new(b"a secret", body, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", "X-Hub-Signature-256": f"sha256={digest}", "X-Delivery": "d.1"}
    answers = [code(client.post("/webhooks/erp", content=body, headers=headers)) for _ in range(2)]
    assert answers == [(202, "queued"), (202, "duplicate")]
    assert [claimed.message_id for claimed in inbox.claim("erp", 10)] == ["d.1"]


def test_g2_what_cannot_be_stored_is_not_acknowledged(sender, database, caplog):
    with database.write() as connection:
        schema = f"{database.dialect.schema}." if database.dialect.schema else ""
        connection.execute(sa.text(f"DROP TABLE {schema}sync_queue"))
    response = sender.post({"id": 7, "name": "geheim"})
    assert (*code(response), response.headers["retry-after"]) == (503, "unavailable", "10")
    assert "geheim" not in caplog.text
    database.close()


@pytest.mark.parametrize("url", ["postgresql://nobody:geheim@127.0.0.1:9/x", "sqlite:////proc/no/such/x.db"])
def test_g2_a_database_that_is_away_is_a_503(make_client, url, caplog):
    try:
        with Database(url) as away:
            sender = Sender(make_client(database=away))
            assert code(sender.post({"id": 7})) == (503, "unavailable")
            assert code(sender.client.get("/readyz")) == (503, "database_unreachable")
            assert sender.client.get("/healthz").json() == {"status": "ok"}
    finally:
        assert "geheim" not in caplog.text


def test_ready_means_reachable_and_migrated(sender, make_client, tmp_path):
    assert (sender.client.get("/readyz").status_code, sender.client.get("/readyz").json()) == (200, {"status": "ready"})
    with Database(f"sqlite:///{tmp_path / 'empty.db'}") as empty:
        response = make_client(database=empty).get("/readyz")
        assert (*code(response), response.headers["retry-after"]) == (503, "database_not_ready", "10")


def test_it_refuses_to_start_on_a_newer_database(make_client, database):
    with database.write() as connection:
        schema = f"{database.dialect.schema}." if database.dialect.schema else ""
        connection.execute(sa.text(f"UPDATE {schema}sync_schema_version SET version_num = '9999'"))
    with pytest.raises(DatabaseNotReadyError, match="newer"), make_client():
        pass


def test_it_starts_without_a_database_and_makes_a_fresh_sqlite_file(make_client, tmp_path):
    with Database("postgresql://nobody@127.0.0.1:9/x") as away, make_client(database=away) as client:
        assert client.get("/healthz").status_code == 200
    with Database(f"sqlite:///{tmp_path / 'fresh.db'}") as fresh, make_client(database=fresh) as client:
        assert client.get("/readyz").status_code == 200


def test_a_job_without_a_secret_refuses_to_start(database, monkeypatch):
    with pytest.raises(ConfigurationError, match=r"'erp'.*SYNC_WEBHOOK_SECRET_ERP or SYNC_WEBHOOK_SECRET"):
        create_app(jobs=[make_job()], database=database)
    monkeypatch.setenv("SYNC_WEBHOOK_SECRET", "whsec_abc")
    with pytest.raises(ConfigurationError, match=r"'erp'.*secret 1 .*SYNC_WEBHOOK_SECRET_ERP"):
        create_app(jobs=[make_job()], database=database)
    monkeypatch.setenv("SYNC_WEBHOOK_SECRET", f"{SECRET} {PREVIOUS}")
    create_app(jobs=[make_job()], database=database)


def test_insecure_takes_unsigned_messages_of_jobs_without_secrets_only(make_client, inbox):
    found = {"erp": [], "shop": [SECRET]}
    client = make_client(jobs=[make_job("erp"), make_job("shop")], secrets=lambda job: found[job.name], insecure=True)
    headers = {"content-type": "application/json"}
    answers = [code(client.post(f"/webhooks/{name}", content=b'{"id": 7}', headers=headers)) for name in found]
    assert answers == [(202, "queued"), (401, "unauthorized")]
    assert inbox.due_jobs() == ["erp"]


def test_a_job_without_webhooks_has_no_route(make_client):
    job = make_job()
    job.webhook = None
    assert code(make_client(jobs=[job], secrets=lambda _: []).post("/webhooks/erp")) == (404, "not_found")


def test_g20_logs_hold_no_body_and_no_secret(sender, caplog):
    with caplog.at_level(logging.DEBUG):
        sender.post({"id": 7, "name": "geheim"})
        sender.post(b'{"data": "geheim"}', message_id="m2")
        sender.post(b"geheim", message_id="m3", webhook_signature="v1,geheim")
    assert "geheim" not in caplog.text
    assert SECRET[6:] not in caplog.text
    assert "job erp: 1 items of a message kept as dead letters: external_id_missing" in caplog.text


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_a_sender_that_goes_away_leaves_nothing_behind(database, inbox):
    import anyio

    app = create_app(jobs=[make_job()], database=database, secrets=lambda _: [SECRET], clock=lambda: NOW)
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive():
        return next(messages)

    async def send(message):
        raise AssertionError(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    scope = {"type": "http", "method": "POST", "path": "/webhooks/erp", "query_string": b"", "headers": headers}
    anyio.run(app, scope, receive, send)
    assert inbox.depth() == {}


def test_a_status_is_a_plain_word():
    assert [str(status) for status in EnqueueStatus] == ["queued", "duplicate", "quarantined"]
