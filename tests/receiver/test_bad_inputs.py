"""The corpus of bad inputs, as far as the receiver answers for it."""

import base64
import hmac
import json
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sync_defs.errors import ConfigurationError
from sync_defs.policies import Webhook
from sync_defs.receiver import verifier_for
from tests.receiver.conftest import NOW, PREVIOUS, SECRET

CORPUS = Path(__file__).parents[3] / "shared" / "bad_inputs.json"
AREAS = ("signature", "json", "external_id", "http")
FOREIGN = "whsec_" + base64.b64encode(b"x" * 32).decode()


def cases(*areas: str) -> list[Any]:
    if not CORPUS.exists():
        return [
            pytest.param(None, marks=pytest.mark.skip(reason="the corpus of bad inputs is not beside the repository"))
        ]
    found = json.loads(CORPUS.read_text())["cases"]
    # Raw sockets and slow senders are for `test_wire`; there are no retired routes.
    wanted = [case for case in found if case["area"] in areas and case["id"] != "http-31"]
    return [
        pytest.param(case, id=case["id"])
        for case in wanted
        if case["area"] == "secret" or {"path", "body"} <= case["input"].keys()
    ]


def raw_cases() -> list[Any]:
    """Return what is sent to a socket as it is."""
    if not CORPUS.exists():
        return cases()
    found = json.loads(CORPUS.read_text())["cases"]
    return [pytest.param(case, id=case["id"]) for case in found if "raw_latin1" in case["input"]]


def spell(text: Any) -> bytes:
    """Return the bytes that the corpus's small language describes."""
    match text:
        case str():
            return text.encode()
        case {"text": str(plain)}:
            return plain.encode()
        case {"b64": str(encoded)}:
            return base64.b64decode(encoded)
        case {"repeat": str(part), "times": int(times)}:
            return part.encode() * times
        case {"concat": list(parts)}:
            return b"".join(spell(part) for part in parts)
        case {"python": "json of 100000 keys + data.id (1.3 MB)"}:
            return json.dumps({"data": {"id": "x"}} | {f"key{n}": n for n in range(100_000)}).encode()
    raise AssertionError(text)


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def sign(how: str, message_id: str, body: bytes) -> dict[str, str]:
    at = NOW - timedelta(seconds=int(how.partition(":")[2])) if how.startswith("age:") else NOW
    timestamp = str(int(at.timestamp()))
    timestamp = {"ts_pad": f"  {timestamp} ", "ts_underscore": f"{timestamp[:3]}_{timestamp[3:]}"}.get(how, timestamp)
    secret = {"previous_key": PREVIOUS, "foreign_key": FOREIGN}.get(how, SECRET)
    good = signature(secret, message_id, timestamp, body)
    signatures = {
        "junk_in_b64": f"{good[:9]}!{good[9:]}",
        "version:v2": f"v2,{good[3:]}",
        "rotated_both": f"{signature(PREVIOUS, message_id, timestamp, body)} {good}",
        "after_10000": " ".join([*["v1,AAAA"] * 10_000, good]),
    }
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signatures.get(how, good),
    }


@pytest.mark.parametrize("case", cases(*AREAS))
def test_answer(case, sender, inbox):
    given, expect = case["input"], case["expect"]
    body = spell(given["body"])
    message_id = spell(given["headers"].get("webhook-id", secrets.token_hex(8))).decode()
    headers = {"content-type": "application/json", **sign(given["sign"], message_id, body)}
    headers |= {name: spell(value).decode() for name, value in given["headers"].items()}
    for name in given["drop_headers"]:
        del headers[name]
    raw = [(name.encode(), value.encode("latin-1")) for name, value in [*headers.items(), *given["extra_headers"]]]
    path = given["path"].replace("/hooks/", "/webhooks/")
    answers = [sender.client.post(path, content=body, headers=raw) for _ in range(given.get("repeat", 1))]

    codes = [(answer.status_code, answer.json()["code"]) for answer in answers]
    if expect["code"] == "queued then duplicate, duplicate":
        assert codes == [(202, "queued"), (202, "duplicate"), (202, "duplicate")]
    else:
        assert codes == [(expect["status"], expect["code"])]
    stored = [entry.payload for entry in inbox.list_messages()]
    assert stored == ([body] if expect["status"] == 202 else [])
    assert inbox.counts("erp").dead == ("quarantined" in codes[0][1])


@pytest.mark.parametrize("case", cases("secret"))
def test_secret(case):
    with pytest.raises(ConfigurationError):
        verifier_for(Webhook(), [case["input"]["secret"]])
