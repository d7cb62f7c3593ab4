"""The schemes of senders: their own published examples, and what each refuses."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest

from sync_defs.errors import ConfigurationError
from sync_defs.policies import Webhook
from sync_defs.receiver import verifier_for
from tests.receiver.conftest import make_job

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
STAMP = str(int(NOW.timestamp()))
BODY = b'{"id": "evt_1", "data": {"id": 7}}'
BODY_ID = hashlib.sha256(BODY).hexdigest()
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SLACK = Webhook(
    scheme="hmac",
    signature_header="X-Slack-Signature",
    signature_prefix="v0=",
    timestamp_header="X-Slack-Request-Timestamp",
    signed_text="v0:{timestamp}:{body}",
)


def test_the_example_of_standard_webhooks():
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    verifier = verifier_for(Webhook(), ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    now = datetime.fromtimestamp(1614265330, UTC)
    assert verifier.verify(headers, b'{"test": 2432232314}', now=now) == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_the_example_of_github():
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": signature, "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}
    verifier = verifier_for(Webhook(scheme="github"), ["It's a Secret to Everybody"])
    assert verifier.verify(headers, b"Hello, World!", now=NOW) == "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    bare = headers | {"x-hub-signature-256": signature.removeprefix("sha256=")}
    assert verifier.verify(bare, b"Hello, World!", now=NOW) is None


def test_the_example_of_slack():
    """A configured HMAC with a time that is signed."""
    headers = {
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        "x-slack-request-timestamp": "1531420618",
    }
    verifier = verifier_for(SLACK, ["8f742231b10e8888abcd99yyyzzz85a5"])
    sent_at = datetime.fromtimestamp(1531420618, UTC)
    assert verifier.verify(headers, SLACK_BODY, now=sent_at) == hashlib.sha256(SLACK_BODY).hexdigest()
    assert verifier.verify(headers, SLACK_BODY, now=sent_at + timedelta(seconds=301)) is None
    assert verifier.verify(headers | {"x-slack-request-timestamp": "1531420619"}, SLACK_BODY, now=sent_at) is None
    assert verifier.verify({"x-slack-signature": headers["x-slack-signature"]}, SLACK_BODY, now=sent_at) is None


def shopify(secret=b"old", **more):
    signature = base64.b64encode(hmac.new(secret, BODY, hashlib.sha256).digest()).decode()
    return {"x-shopify-hmac-sha256": signature} | {name.replace("_", "-"): value for name, value in more.items()}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (shopify(x_shopify_topic="products/update", x_shopify_event_id="e1"), "products/update:e1"),
        (shopify(x_shopify_event_id="e1"), "e1"),
        (shopify(x_shopify_webhook_id="w1"), BODY_ID),
        (shopify(b"new"), BODY_ID),
        (shopify(b"other"), None),
        (shopify(x_shopify_event_id="e 1"), None),
        ({"x-shopify-hmac-sha256": shopify()["x-shopify-hmac-sha256"].rstrip("=")}, None),
        ({}, None),
    ],
    ids=range(8),
)
def test_shopify(sent, expected):
    assert verifier_for(Webhook(scheme="shopify"), ["new", "old"]).verify(sent, BODY, now=NOW) == expected


def stripe(secret=b"whsec_text", stamp=STAMP):
    return hmac.new(secret, f"{stamp}.".encode() + BODY, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("header", "is_taken"),
    [
        (f"t={STAMP},v1={stripe()}", True),
        (f"t={STAMP},v1={stripe()},v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39", True),
        (f"t={STAMP},v1=00,v1={stripe(b'whsec_other')},v1={stripe()}", True),
        (f"t={STAMP},v1={stripe(b'whsec_previous')}", True),
        (f"t={STAMP}," + "v1=00," * 10 + f"v1={stripe()}", False),
        (f"t={STAMP},v0={stripe()}", False),
        (f"t={STAMP},v1={stripe(b'whsec_other')}", False),
        (f"t={STAMP},t={STAMP},v1={stripe()}", False),
        (f"t=0{STAMP},v1={stripe(stamp='0' + STAMP)}", False),
        (f"v1={stripe()}", False),
        (f"t={int(STAMP) - 301},v1={stripe(stamp=str(int(STAMP) - 301))}", False),
        (f"t={int(STAMP) - 300},v1={stripe(stamp=str(int(STAMP) - 300))}", True),
        (f"t={STAMP},v1={stripe()}," + "x" * 2_000, False),
        ("t=é,v1=é", False),
        ("", False),
    ],
    ids=range(15),
)
def test_stripe(header, is_taken):
    verifier = verifier_for(Webhook(scheme="stripe"), ["whsec_text", "whsec_previous"])
    assert verifier.verify({"stripe-signature": header}, BODY, now=NOW) == (BODY_ID if is_taken else None)


@pytest.mark.parametrize("digest", ["sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", [None, "", "sig="])
def test_a_configured_hmac(digest, encoding, prefix):
    webhook = Webhook(scheme="hmac", digest=digest, encoding=encoding, signature_prefix=prefix)
    raw = hmac.new(b"secret", BODY, digest).digest()
    text = raw.hex() if encoding == "hex" else base64.b64encode(raw).decode()
    verifier = verifier_for(webhook, ["secret"])
    taken = ["", f"{digest}="] if prefix is None else [prefix]
    for given in ("", "sig=", f"{digest}="):
        found = verifier.verify({"x-signature-256": f"{given}{text}"}, BODY, now=NOW)
        assert found == (BODY_ID if given in taken else None)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"scheme": "rot13"}, "scheme 'rot13' is unknown"),
        ({"scheme": "hmac", "digest": "md5"}, "digest 'md5' is unknown"),
        ({"scheme": "hmac", "encoding": "rot13"}, "encoding 'rot13' is unknown"),
        ({"on_invalid": "drop"}, "on_invalid 'drop' is unknown"),
        ({"id_header": "x-id"}, "id_header is not an option of scheme 'standard'"),
        ({"id_field": "id"}, "id_field is not an option of scheme 'standard'"),
        ({"scheme": "stripe", "id_header": "x-id"}, "id_header is not an option of scheme 'stripe'"),
        ({"scheme": "github", "digest": "sha512"}, "digest is not an option of scheme 'github', but of 'hmac'"),
        ({"scheme": "hmac", "signature_header": "x y"}, "signature_header 'x y' is no name of a header"),
        ({"scheme": "hmac", "id_field": "a..b"}, "id_field 'a..b' is no name"),
        ({"scheme": "hmac", "signed_text": "{body}"}, "signed_text has to hold"),
        ({"scheme": "hmac", "signed_text": "{timestamp}{body}{id}"}, "signed_text has to hold"),
        ({"max_per_minute": 0}, "max_per_minute is no whole number above 0"),
        ({"max_per_minute": True}, "max_per_minute is no whole number above 0"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_when_it_is_given(options, problem):
    with pytest.raises(ConfigurationError) as caught:
        Webhook(**options)
    assert problem in caught.value.message


@pytest.mark.parametrize("scheme", ["github", "shopify", "stripe", "hmac"])
def test_an_empty_secret_is_refused(scheme):
    with pytest.raises(ConfigurationError, match="secret 2 is empty"):
        verifier_for(Webhook(scheme=scheme), ["one", ""])


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("body", "message_id"),
    [
        ({"id": "evt_1", "data": {"id": 7}}, "evt_1"),
        ({"id": 12, "data": {"id": 7}}, "12"),
        ({"id": "e v t", "data": {"id": 7}}, None),
        ({"id": True, "data": {"id": 7}}, None),
        ({"data": {"id": 7}}, None),
        ([{"id": "evt_1", "data": {"id": 7}}], None),
    ],
    ids=range(6),
)
def test_the_id_in_the_body_is_read_after_the_signature(make_client, inbox, body, message_id):
    text = json.dumps(body).encode()
    signature = hmac.new(b"secret", f"{STAMP}.".encode() + text, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", "stripe-signature": f"t={STAMP},v1={signature}"}
    client = make_client(jobs=[make_job(webhook=Webhook(scheme="stripe"))], secrets=lambda _: ["secret"])
    answers = [client.post("/webhooks/erp", content=text, headers=headers).json()["status"] for _ in range(2)]
    assert answers == ["quarantined" if isinstance(body, list) else "queued", "duplicate"]
    [row] = inbox.list_messages()
    assert row.message_id == (message_id or hashlib.sha256(text).hexdigest())


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_an_id_may_lie_deeper_in_the_body(make_client, inbox):
    text = b'{"event": {"id": "e7"}, "data": {"id": 7}}'
    signature = "sha256=" + hmac.new(b"s", text, "sha256").hexdigest()
    headers = {"content-type": "application/json", "x-hub-signature-256": signature}
    job = make_job(webhook=Webhook(scheme="github", id_field="event.id"))
    make_client(jobs=[job], secrets=lambda _: ["s"]).post("/webhooks/erp", content=text, headers=headers)
    assert [row.message_id for row in inbox.list_messages()] == ["e7"]
