"""Signatures: what the library signs is taken, nothing else is, and nothing is ever raised."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Signer

from sync_defs.errors import ConfigurationError
from sync_defs.policies import Webhook
from sync_defs.receiver import StandardVerifier, verifier_for

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
KEYS = [bytes([n]) * 24 for n in range(3)]
SECRETS = ["whsec_" + base64.b64encode(key).decode() for key in KEYS]
VERIFIER = StandardVerifier(SECRETS[:2])
HMAC = verifier_for(
    Webhook(scheme="hmac", signature_header="X-Hub-Signature-256", id_header="X-Delivery"),
    ["first secret", "second secret"],
)
BODY = b'{"data": {"id": 1}}'


def headers(message_id="m1", *, key=KEYS[0], at=NOW, body=BODY):
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Signer(key).sign(message_id, at, body.decode()),
    }


def verify(changed=None, *, body=BODY, now=NOW, **options):
    return VERIFIER.verify(headers(**options) | (changed or {}), body, now=now)


ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="."), min_size=1, max_size=255)


@given(ids, st.text(st.characters(codec="utf-8")), st.integers(-300, 300), st.sampled_from(KEYS[:2]))
def test_takes_what_the_library_signs(message_id, text, age, key):
    sent = headers(message_id, key=key, at=NOW - timedelta(seconds=age), body=text.encode())
    assert VERIFIER.verify(sent, text.encode(), now=NOW) == message_id


junk = st.text(st.characters(max_codepoint=0xFF)) | st.sampled_from(["v1,", "v1", "v1,abc", "v1,é", ",", "\0", "1e9"])


@given(st.binary(), st.dictionaries(st.sampled_from([*headers(), "x-hub-signature-256", "x-delivery"]), junk))
def test_raises_nothing_and_takes_no_junk(body, changed):
    assert VERIFIER.verify(changed, body, now=NOW) is None
    assert VERIFIER.verify(headers(key=KEYS[2]) | changed, body, now=NOW) is None
    assert HMAC.verify(changed, body, now=NOW) is None


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_all_three_headers_are_needed(name):
    sent = headers()
    del sent[name]
    assert VERIFIER.verify(sent, BODY, now=NOW) is None


@pytest.mark.parametrize(
    "timestamp",
    ["", " 1795456800", "1795456800 ", "+1795456800", "1_795_456_800", "1795456800.0", "1.7954568e9", "-1", "0",
     "01795456800", "\u0661", "nan", "inf", "9" * 11, "9" * 400],
    ids=repr,
)  # fmt: skip
def test_a_timestamp_is_digits_only(timestamp):
    assert int(NOW.timestamp()) == 1795456800
    signed = b".".join((b"m1", timestamp.encode(), BODY))
    signature = "v1," + base64.b64encode(hmac.digest(KEYS[0], signed, "sha256")).decode()
    assert verify({"webhook-timestamp": timestamp, "webhook-signature": signature}) is None


@pytest.mark.parametrize(("age", "expected"), [(300, "m1"), (301, None), (-300, "m1"), (-301, None)])
def test_a_timestamp_is_at_most_300_s_off(age, expected):
    assert verify(at=NOW - timedelta(seconds=age)) == expected


@pytest.mark.parametrize(
    "message_id", ["", "a.b", "a b", "a\tb", "é", "x" * 256], ids=lambda text: f"{len(text)} {text[:3]!r}"
)
def test_an_id_is_visible_ascii_without_a_dot(message_id):
    assert verify(message_id=message_id) is None


def test_any_other_byte_of_body_or_id_is_refused():
    assert verify(body=BODY + b" ") is None
    assert verify({"webhook-id": "m2"}) is None
    assert verify(key=KEYS[2]) is None


def test_several_signatures_are_allowed_but_only_ten_are_looked_at():
    good = headers()["webhook-signature"]
    assert verify({"webhook-signature": f"v2,{good[3:]} v1,AAAA {good}"}) == "m1"
    assert verify({"webhook-signature": " ".join(["v1,AAAA"] * 9 + [good])}) == "m1"
    assert verify({"webhook-signature": " ".join(["v1,AAAA"] * 10 + [good])}) is None
    assert verify({"webhook-signature": " ".join([good, "v1," + "A" * 2_000])}) is None


def test_the_signature_is_canonical_base64_of_version_1():
    good = headers()["webhook-signature"]
    for bent in (good[:10] + "!" + good[10:], good.rstrip("="), good + "=", f"v2,{good[3:]}", good[3:], good.upper()):
        assert verify({"webhook-signature": bent}) is None


def test_a_body_that_is_not_utf8_is_verified_all_the_same():
    body = b'{"name": "\xe9"}'
    signed = b"m1.1795456800." + body
    signature = "v1," + base64.b64encode(hmac.digest(KEYS[1], signed, "sha256")).decode()
    assert verify({"webhook-signature": signature}, body=body) == "m1"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_abc", "whsec_AA==", "whsec_!!!!", "plain-password", "é" * 40])
def test_a_weak_or_malformed_secret_is_refused_without_being_shown(secret):
    with pytest.raises(ConfigurationError) as caught:
        verifier_for(Webhook(), [SECRETS[0], secret])
    assert "secret 2" in str(caught.value)
    assert not secret or secret not in str(caught.value).replace("whsec_ and", "")


def test_an_unknown_scheme_or_no_secret_is_refused():
    with pytest.raises(ConfigurationError, match="'rot13'"):
        verifier_for(Webhook(scheme="rot13"), SECRETS)
    with pytest.raises(ConfigurationError, match="no secret"):
        verifier_for(Webhook(), [])


def hmac_headers(key="first secret", prefix="sha256=", **more):
    digest = hmac.new(key.encode(), BODY, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": prefix + digest, **more}


@pytest.mark.parametrize("sent", [hmac_headers(), hmac_headers(prefix=""), hmac_headers("second secret")], ids=range(3))
def test_hmac_without_an_id_header_takes_the_digest_of_the_body(sent):
    assert HMAC.verify(sent, BODY, now=NOW) == hashlib.sha256(BODY).hexdigest()


def test_hmac_takes_the_id_header():
    assert HMAC.verify(hmac_headers(**{"x-delivery": "d.1"}), BODY, now=NOW) == "d.1"


@pytest.mark.parametrize(
    "sent",
    [{}, hmac_headers("third secret"), hmac_headers(prefix="sha1="), hmac_headers(**{"x-delivery": "a b"}),
     hmac_headers(**{"x-delivery": "x" * 256})],
    ids=range(5),
)  # fmt: skip
def test_hmac_refuses(sent):
    assert HMAC.verify(sent, BODY, now=NOW) is None
