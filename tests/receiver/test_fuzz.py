"""Whatever strangers send: an answer of ours, nothing stored, memory flat.

The long form has more than 10,000 inputs: `pytest tests/receiver/test_fuzz.py --hypothesis-profile=long`.
"""

import asyncio
import base64
import gc
import gzip
import hashlib
import hmac
import itertools
import json
import tracemalloc
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from starlette.applications import Starlette

from sync_defs.errors import MessageError
from sync_defs.inbox import Inbox, strict_json
from sync_defs.policies import Webhook
from sync_defs.receiver import create_app, openapi_schema, verifier_for
from sync_defs.store.database import Database
from tests.receiver.conftest import NOW, SECRET, make_job

STAMP = str(int(NOW.timestamp()))
TEXT_SECRET = "any text is a secret"
WEBHOOKS = {
    "standard": Webhook(accepts_gzip=True),
    "github": Webhook(scheme="github", on_invalid="reject"),
    "shopify": Webhook(scheme="shopify"),
    "stripe": Webhook(scheme="stripe"),
    "hmac": Webhook(scheme="hmac", digest="sha512", timestamp_header="x-time", id_field="event.id"),
}
JOBS = {name: make_job(name, webhook) for name, webhook in WEBHOOKS.items()}
REFUSALS = {400, 401, 404, 405, 413, 415, 422}


def secrets_of(job):
    return [SECRET] if job.name == "standard" else [TEXT_SECRET]


class Receiver:
    """Calls the app as a server does, all requests in one event loop."""

    def __init__(self, app: Starlette, inbox: Inbox, runner: asyncio.Runner) -> None:
        self.app = app
        self.inbox = inbox
        self._runner = runner

    def send(self, path: str, headers: list[tuple[bytes, bytes]], body: bytes, *, method: str = "POST"):
        """Return the status and the answer; what the app raises is raised."""
        return self._runner.run(self._call(path, headers, body, method))

    async def _call(self, path, headers, body, method):
        parts = [body[:7], body[7:]]
        sent: list[dict] = []

        async def receive():
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
        await self.app(scope, receive, send)
        return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


@pytest.fixture(scope="module")
def receiver(tmp_path_factory) -> Iterator[Receiver]:
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.db"
    with Database(f"sqlite:///{path}", clock=lambda: NOW) as database, asyncio.Runner() as runner:
        database.upgrade()
        app = create_app(jobs=JOBS, database=database, secrets=secrets_of, clock=lambda: NOW)
        yield Receiver(app, Inbox(database), runner)


def signed(name: str, body: bytes, message_id: str) -> dict[str, str]:
    """Return the headers of a message as its sender would write them."""
    key = TEXT_SECRET.encode()
    match name:
        case "standard":
            digest = hmac.new(base64.b64decode(SECRET[6:]), f"{message_id}.{STAMP}.".encode() + body, hashlib.sha256)
            signature = "v1," + base64.b64encode(digest.digest()).decode()
            return {"webhook-id": message_id, "webhook-timestamp": STAMP, "webhook-signature": signature}
        case "github":
            signature = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
            return {"x-hub-signature-256": signature, "x-github-delivery": message_id}
        case "shopify":
            signature = base64.b64encode(hmac.new(key, body, hashlib.sha256).digest()).decode()
            return {"x-shopify-hmac-sha256": signature, "x-shopify-event-id": message_id}
        case "stripe":
            signature = hmac.new(key, f"{STAMP}.".encode() + body, hashlib.sha256).hexdigest()
            return {"stripe-signature": f"t={STAMP},v1={signature}"}
    signature = hmac.new(key, f"{STAMP}.".encode() + body, hashlib.sha512).hexdigest()
    return {"x-signature-256": f"sha512={signature}", "x-time": STAMP, "x-webhook-id": message_id}


names = st.sampled_from(sorted(WEBHOOKS))
ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="."), min_size=1, max_size=40)
latin = st.text(st.characters(max_codepoint=0xFF), max_size=60)
numbers = itertools.count()

keys = st.sampled_from(["id", "data", "type", "event", "ids", "name"]) | st.text(max_size=3)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | keys
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
fragments = st.lists(
    st.sampled_from(
        ['"', "\\", "\\ud800", "\\u0000", "{", "}", "[", "]", ":", ",", "1", "-", "0", ".5", "e9", "NaN", "Infinity",
         "null", "true", '"id"', '{"id":1}', "\ufeff", " ", "\n", "[" * 70, "9" * 50, '{"id":1,"id":2}', "é"]
    ),
    max_size=20,
).map("".join)  # fmt: skip
bodies = (
    documents.map(lambda found: json.dumps(found).encode())
    | fragments.map(str.encode)
    | st.binary(max_size=60)
    | st.builds(lambda found: gzip.compress(found.encode()), fragments)
)


@given(
    st.sampled_from(["/webhooks/", "/webhooks/x/", "/", "//webhooks/"]),
    names | latin,
    st.sampled_from(["POST", "POST", "GET", "BREW", "HEAD"]),
    st.dictionaries(
        st.sampled_from(
            ["content-type", "content-length", "content-encoding", "transfer-encoding", "host", "webhook-id",
             "webhook-timestamp", "webhook-signature", "stripe-signature", "x-hub-signature-256", "x-time"]
        )
        | st.text("abcxyz-", min_size=1, max_size=8),
        latin | st.sampled_from(["gzip", "application/json", "chunked", "identity", "1e3", "v1,", "t=,v1=", STAMP]),
    ),
    bodies,
)  # fmt: skip
def test_what_is_not_signed_gets_an_answer_and_leaves_nothing(receiver, prefix, name, method, headers, body):
    before = receiver.inbox.depth()
    raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
    status, answer = receiver.send(prefix + name, raw, body, method=method)
    assert status in REFUSALS
    assert answer["status"] == "refused"
    assert receiver.inbox.depth() == before


@given(names, bodies, st.booleans())
def test_what_is_signed_is_kept_whatever_it_is(receiver, name, body, is_packed):
    message_id = f"m{next(numbers)}"
    headers = {"content-type": "application/json", **signed(name, body, message_id)}
    sent = body
    if is_packed and name == "standard":
        headers["content-encoding"], sent = "gzip", gzip.compress(body)
    raw = [(key.encode(), value.encode()) for key, value in headers.items()]
    status, answer = receiver.send(f"/webhooks/{name}", raw, sent)
    assert (status, answer["status"]) in {
        (202, "queued"), (202, "duplicate"), (202, "quarantined"), *([(422, "refused")] if name == "github" else []),
    }  # fmt: skip


@given(names, bodies, ids, st.data())
def test_a_signature_is_for_its_bytes_alone(name, body, message_id, data):
    headers = signed(name, body, message_id)
    verifier = verifier_for(WEBHOOKS[name], secrets_of(JOBS[name]))
    assert verifier.verify(headers, body, now=NOW) is not None
    other = data.draw(st.binary(max_size=60).filter(lambda found: found != body))
    assert verifier.verify(headers, other, now=NOW) is None
    bent = data.draw(st.sampled_from([key for key, value in headers.items() if STAMP in value or len(value) > 40]))
    changed = data.draw(latin | st.sampled_from([headers[bent][:-1], headers[bent] + "0", headers[bent].swapcase()]))
    found = verifier.verify(headers | {bent: changed}, body, now=NOW)
    # Hex digits may be written in capitals; the prefix and everything else may not.
    assert found is None or changed.lower() == headers[bent].lower() or bent == "x-github-delivery"


@given(bodies)
def test_json_has_one_meaning_or_is_refused(body):
    try:
        value = strict_json.decode(body)
    except MessageError:
        return
    text = strict_json.encode(value)
    assert strict_json.decode(text.encode()) == value
    assert json.loads(text) == json.loads(body)


@given(st.text(max_size=40), st.integers(0, 80))
def test_depth_is_bounded_whatever_stands_in_strings(text, depth):
    document = "[" * depth + json.dumps(text) + "]" * depth
    if depth <= strict_json.MAX_DEPTH:
        assert (
            strict_json.encode(strict_json.decode(document.encode()))
            == "[" * depth + json.dumps(text, ensure_ascii=False) + "]" * depth
        )
    else:
        with pytest.raises(MessageError) as caught:
            strict_json.decode(document.encode())
        assert caught.value.code == "too_deep"


@pytest.mark.slow
@given(st.data())
def test_the_openapi_document_holds(receiver, data):
    schema = schemathesis.openapi.from_dict(openapi_schema(JOBS))
    schema.app = receiver.app
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == len(WEBHOOKS) + 3
    case = data.draw(st.sampled_from(operations).flatmap(lambda operation: operation.as_strategy()))
    response = case.call()
    case.validate_response(response)
    assert response.status_code in REFUSALS | {200}


def test_memory_stays_flat_under_a_flood_of_strangers(receiver):
    def flood(count):
        for _ in range(count):
            number = next(numbers)
            headers = {"content-type": "application/json", **signed("standard", b"{}", f"m{number}")}
            headers["webhook-signature"] = f"v1,{number}"
            raw = [(key.encode(), value.encode()) for key, value in headers.items()]
            assert receiver.send(f"/webhooks/{number}", raw, b"{}")[0] == 404
            assert receiver.send("/webhooks/standard", raw, b"{" * 1_000)[0] == 401
            assert receiver.send("/webhooks/standard", [*raw, (b"x", b"y" * 1_000)], b"", method=f"M{number}")[0] == 405
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = flood(200)
        assert flood(500) - before < 100_000
    finally:
        tracemalloc.stop()
