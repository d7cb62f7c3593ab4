"""How much a receiver takes on at once, and bodies that are inflated."""

import gzip

import pytest
from standardwebhooks import Webhook as Signer

from sync_defs.policies import Webhook
from sync_defs.receiver import Limits
from sync_defs.receiver.intake import MAX_BODY, Refused
from sync_defs.receiver.limits import Admission, Rate
from tests.receiver.conftest import NOW, SECRET, Sender, make_job

on_sqlite = pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
BODY = b'{"id": 7}'


def code(response):
    return response.status_code, response.json()["code"]


def test_a_minutes_worth_may_come_at_once_and_then_so_many_evenly():
    now = 0.0
    rate = Rate(6, monotonic=lambda: now)
    for _ in range(6):
        rate.take()
    with pytest.raises(Refused) as caught:
        rate.take()
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "11"})
    now = 10.0
    rate.take()
    with pytest.raises(Refused):
        rate.take()
    now = 1_000.0
    for _ in range(6):
        rate.take()
    with pytest.raises(Refused):
        rate.take()


def test_places_and_bytes_are_bounded_and_come_back():
    admission = Admission(Limits(max_deliveries=2, max_bytes=10))
    first, second = admission.enter(), admission.enter()
    with pytest.raises(Refused, match="receiver_full"):
        admission.enter()
    first.reserve(6)
    with pytest.raises(Refused, match="receiver_full"):
        second.reserve(5)
    second.reserve(4)
    first.leave()
    admission.enter().reserve(6)
    assert admission.deliveries == 2


@on_sqlite
def test_too_many_messages_are_answered_429_but_nobody_unsigned_counts(make_client, inbox):
    sender = Sender(make_client(jobs=[make_job(webhook=Webhook(max_per_minute=1))]))
    for _ in range(3):
        assert code(sender.post({"id": 7}, webhook_signature="v1,AAAA")) == (401, "unauthorized")
    assert code(sender.post({"id": 7})) == (202, "queued")
    response = sender.post({"id": 8}, message_id="m2")
    assert (*code(response), response.headers["retry-after"]) == (429, "too_many_messages", "60")
    assert inbox.counts("erp").ready == 1


@on_sqlite
def test_a_full_receiver_answers_503_before_it_reads_anything(make_client):
    sender = Sender(make_client(limits=Limits(max_deliveries=0)))
    response = sender.post({"id": 7}, content_length=str(MAX_BODY + 1))
    assert (*code(response), response.headers["retry-after"]) == (503, "receiver_full", "10")
    assert code(sender.client.get("/webhooks/erp")) == (405, "method_not_allowed")


@on_sqlite
def test_bodies_together_are_bounded_and_their_room_comes_back(make_client):
    sender = Sender(make_client(limits=Limits(max_bytes=100)))
    assert code(sender.post({"id": 7, "name": "x" * 100})) == (503, "receiver_full")
    answers = [code(sender.post({"id": 7}, message_id=f"m{n}")) for n in range(20)]
    assert answers == [(202, "queued")] * 20


@pytest.fixture
def packed(make_client):
    """Send what was signed before it was compressed, or anything else in its place."""
    client = make_client(jobs=[make_job(webhook=Webhook(accepts_gzip=True))])

    def send(body: bytes, *, signed: bytes = BODY, encoding: str = "gzip"):
        headers = {
            "content-type": "application/json",
            "content-encoding": encoding,
            "webhook-id": "m1",
            "webhook-timestamp": str(int(NOW.timestamp())),
            "webhook-signature": Signer(SECRET).sign("m1", NOW, signed.decode()),
        }
        return client.post("/webhooks/erp", content=body, headers=headers)

    return send


@on_sqlite
def test_a_compressed_body_is_taken_where_the_job_says_so(packed, inbox):
    assert code(packed(gzip.compress(BODY))) == (202, "queued")
    assert [row.payload for row in inbox.list_messages()] == [BODY]


@on_sqlite
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (gzip.compress(BODY)[:-1], (400, "bad_encoding")),
        (gzip.compress(BODY) + b"x", (400, "bad_encoding")),
        (gzip.compress(BODY) + gzip.compress(BODY), (400, "bad_encoding")),
        (BODY, (400, "bad_encoding")),
        (b"", (400, "bad_encoding")),
        (gzip.compress(b" " * (MAX_BODY + 1)), (413, "too_large")),
        (gzip.compress(b"\0" * 300 * MAX_BODY), (413, "too_large")),
        (gzip.compress(BODY + b" "), (401, "unauthorized")),
    ],
    ids=["cut", "more", "two", "plain", "empty", "one byte more", "bomb", "unsigned"],
)
def test_a_compressed_body_that_is_wrong(packed, inbox, body, expected):
    assert code(packed(body)) == expected
    assert inbox.depth() == {}


@on_sqlite
def test_a_compressed_body_may_be_as_large_as_any_other(packed):
    body = BODY + b" " * (MAX_BODY - len(BODY))
    assert code(packed(gzip.compress(body), signed=body)) == (202, "queued")


@on_sqlite
@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_no_other_encoding_is_taken(packed, encoding):
    assert code(packed(gzip.compress(BODY), encoding=encoding)) == (415, "unsupported_encoding")


@on_sqlite
def test_a_message_that_is_not_stored_in_time_is_refused(make_client, database, inbox):
    """Another writer holds the database; its place is held until the message is stored after all."""
    client = make_client(limits=Limits(timeout_s=0.05))
    with database.write():
        assert code(Sender(client).post({"id": 7})) == (503, "unavailable")
        assert "sync_webhooks_under_way 1" in client.get("/metrics").text
    with client:
        pass  # ends as a server does: all that was taken is stored
    assert inbox.counts("erp").ready == 1
