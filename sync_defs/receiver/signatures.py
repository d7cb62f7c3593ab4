"""Who may deliver: one class per way of signing, made by `verifier_for`.

A verifier answers with the message's id or with None, and raises nothing whatever the headers hold: the sender
chooses them. What was sent is never decoded: what it should be is written down and compared, in constant time, with
each signature that was sent, for every live secret, so that the time tells nothing.
"""

import base64
import binascii
import hashlib
import hmac
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from sync_defs.errors import ConfigurationError
from sync_defs.policies import Webhook

TOLERANCE: Final = timedelta(seconds=300)
_MIN_KEY_BYTES: Final = 24
_MAX_ENTRIES: Final = 10
_MAX_HEADER_CHARS: Final = 2_000
# Visible ASCII but the dot: it separates id, timestamp and body in what is signed.
_STANDARD_ID = re.compile(r"[!-\-/-~]{1,255}")
_PLAIN_ID = re.compile(r"[!-~]{1,255}")
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,10}", re.ASCII)


class Verifier(ABC):
    """One way of signing, with the secrets that are live now."""

    headers: frozenset[str] = frozenset()
    """Lower-case names of the headers that it reads; each may come once only."""
    id_field: str | None = None
    """Where the body has the message id, by names joined by dots; where it is there, it counts."""

    @abstractmethod
    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> str | None:
        """Return the id of a message that is signed and fresh, None for any other; never raises.

        Args:
            headers: by lower-case name.
            body: the raw bytes.
            now: what the timestamp is held against.
        """


class StandardVerifier(Verifier):
    """Standard Webhooks, version 1 with symmetric keys."""

    headers = frozenset({"webhook-id", "webhook-timestamp", "webhook-signature"})

    def __init__(self, secrets: Sequence[str]) -> None:
        """Take the secrets, base64 with or without `whsec_`.

        Raises:
            ConfigurationError: one is not base64 of at least 24 bytes; it says which by position only.
        """
        self._keys = [_key(secret, position) for position, secret in enumerate(secrets, start=1)]

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> str | None:
        """Return `webhook-id` if one of the first ten signatures is by one of the keys."""
        message_id = headers.get("webhook-id", "")
        timestamp = headers.get("webhook-timestamp", "")
        signatures = headers.get("webhook-signature", "")
        if not _STANDARD_ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp):
            return None
        if len(signatures) > _MAX_HEADER_CHARS:
            return None
        signed = b"%b.%b.%b" % (message_id.encode(), timestamp.encode(), body)
        expected = [b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256")) for key in self._keys]
        is_signed = _is_any(expected, signatures.split(" ")[:_MAX_ENTRIES])
        return message_id if is_signed and _is_fresh(timestamp, now) else None


class StripeVerifier(Verifier):
    """Stripe's `t=…,v1=…` over time and body; the id is that of the event in the body."""

    headers = frozenset({"stripe-signature"})

    def __init__(self, secrets: Sequence[str], *, id_field: str | None = None) -> None:
        """Take the secrets as Stripe shows them, `whsec_` included: the text itself is the key."""
        self._keys = _texts(secrets)
        self.id_field = id_field or "id"

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> str | None:
        """Return the SHA-256 of the body if one of the first ten `v1` is by one of the secrets."""
        header = headers.get("stripe-signature", "")
        if len(header) > _MAX_HEADER_CHARS:
            return None
        pairs = [part.partition("=") for part in header.split(",")]
        times = [value for name, _, value in pairs if name == "t"]
        sent = [value for name, _, value in pairs if name == "v1"][:_MAX_ENTRIES]
        if len(times) != 1 or not _TIMESTAMP.fullmatch(times[0]):
            return None
        signed = b"%b.%b" % (times[0].encode(), body)
        is_signed = _is_any([hmac.digest(key, signed, "sha256").hex().encode() for key in self._keys], sent)
        return _digest_id(body) if is_signed and _is_fresh(times[0], now) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacForm:
    """How a sender writes an HMAC into a header; all names of headers in lower case."""

    signature_header: str
    id_headers: tuple[str, ...]
    """Their values, joined by colons, are the message id; where the last is absent, the SHA-256 of the body is."""
    id_field: str | None = None
    digest: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    needs_prefix: bool = True
    timestamp_header: str | None = None
    signed_text: str = "{timestamp}.{body}"
    """What is signed where there is a timestamp; else it is the body alone."""


GITHUB: Final = HmacForm(
    signature_header="x-hub-signature-256", id_headers=("x-github-delivery",), prefix="sha256=",
)  # fmt: skip
# One event id may come with several topics, and is what Shopify says to tell duplicates by:
# https://shopify.dev/docs/apps/build/webhooks/ignore-duplicates
SHOPIFY: Final = HmacForm(
    signature_header="x-shopify-hmac-sha256", id_headers=("x-shopify-topic", "x-shopify-event-id"), encoding="base64",
)  # fmt: skip


class HmacVerifier(Verifier):
    """An HMAC of the raw body in one header, as GitHub, Shopify and many others sign.

    The id is not signed, and a time only where the form has one, so a recorded message can be sent again under
    another id; the job's version guard is what keeps it from doing harm.
    """

    def __init__(self, secrets: Sequence[str], form: HmacForm) -> None:
        """Take the secrets, as text, and the form."""
        self._keys = _texts(secrets)
        self._form = form
        self.id_field = form.id_field
        times = () if form.timestamp_header is None else (form.timestamp_header,)
        self.headers = frozenset({form.signature_header, *form.id_headers, *times})

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> str | None:
        """Return the id of the headers, or else the SHA-256 of the body."""
        form = self._form
        sent = headers.get(form.signature_header, "")
        timestamp = None if form.timestamp_header is None else headers.get(form.timestamp_header, "")
        message_id = self._message_id(headers, body)
        if (
            message_id is None
            or len(sent) > _MAX_HEADER_CHARS
            or (form.needs_prefix and not sent.startswith(form.prefix))
        ):
            return None
        if timestamp is not None and not _TIMESTAMP.fullmatch(timestamp):
            return None
        signature = sent.removeprefix(form.prefix)
        signature = signature.lower() if form.encoding == "hex" else signature
        signed = body if timestamp is None else self._signed(timestamp, body)
        is_signed = _is_any([self._expected(key, signed) for key in self._keys], [signature])
        return message_id if is_signed and (timestamp is None or _is_fresh(timestamp, now)) else None

    def _expected(self, key: bytes, signed: bytes) -> bytes:
        digest = hmac.digest(key, signed, self._form.digest)
        return digest.hex().encode() if self._form.encoding == "hex" else base64.b64encode(digest)

    def _signed(self, timestamp: str, body: bytes) -> bytes:
        before, _, after = self._form.signed_text.replace("{timestamp}", timestamp).partition("{body}")
        return before.encode() + body + after.encode()

    def _message_id(self, headers: Mapping[str, str], body: bytes) -> str | None:
        if self._form.id_headers[-1] not in headers:
            return _digest_id(body)
        message_id = ":".join(headers[name] for name in self._form.id_headers if name in headers)
        return message_id if _PLAIN_ID.fullmatch(message_id) else None


class UnsignedVerifier(Verifier):
    """Takes everything; for a job without secrets in a receiver that was told to be insecure."""

    headers = frozenset({"webhook-id"})

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> str | None:
        """Return `webhook-id`, or else the SHA-256 of the body."""
        message_id = headers.get("webhook-id")
        if message_id is None:
            return _digest_id(body)
        return message_id if _PLAIN_ID.fullmatch(message_id) else None


def verifier_for(webhook: Webhook, secrets: Sequence[str]) -> Verifier:
    """Return the verifier of a job's scheme, with at least one secret.

    Raises:
        ConfigurationError: there is no secret, or one is malformed; never shows a secret.
    """
    if not secrets:
        raise ConfigurationError("there is no secret to verify with")
    match webhook.scheme:
        case "standard":
            return StandardVerifier(secrets)
        case "stripe":
            return StripeVerifier(secrets, id_field=webhook.id_field)
        case _:
            return HmacVerifier(secrets, form_of(webhook))


def form_of(webhook: Webhook) -> HmacForm:
    """Return the form of a scheme that is not `standard` or `stripe`."""
    known = {"github": GITHUB, "shopify": SHOPIFY}.get(webhook.scheme)
    given = None if webhook.id_header is None else (webhook.id_header.lower(),)
    if known is not None:
        return replace(known, id_headers=given or known.id_headers, id_field=webhook.id_field)
    prefix = webhook.signature_prefix
    return HmacForm(
        signature_header=webhook.signature_header.lower(),
        id_headers=given or ("x-webhook-id",),
        id_field=webhook.id_field,
        digest=webhook.digest,
        encoding=webhook.encoding,
        prefix=f"{webhook.digest}=" if prefix is None else prefix,
        needs_prefix=prefix is not None,
        timestamp_header=None if webhook.timestamp_header is None else webhook.timestamp_header.lower(),
        signed_text=webhook.signed_text,
    )


def _is_any(expected: Sequence[bytes], sent: Sequence[str]) -> bool:
    """Tell whether one of the signatures is one of the expected; compares all with all, in constant time."""
    entries = [entry.encode("utf-8", "replace") for entry in sent]
    is_found = False
    for wanted in expected:
        for entry in entries:
            is_found |= hmac.compare_digest(wanted, entry)
    return is_found


def _is_fresh(timestamp: str, now: datetime) -> bool:
    return abs(now - datetime.fromtimestamp(int(timestamp), UTC)) <= TOLERANCE


def _digest_id(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _texts(secrets: Sequence[str]) -> list[bytes]:
    if not all(secrets):
        raise ConfigurationError(f"secret {[*secrets].index('') + 1} is empty")
    return [secret.encode() for secret in secrets]


def _key(secret: str, position: int) -> bytes:
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(
            f"secret {position} is not base64; it looks like whsec_ and 32 or more letters and digits"
        ) from None
    if len(key) < _MIN_KEY_BYTES:
        raise ConfigurationError(f"secret {position} has {len(key)} bytes; {_MIN_KEY_BYTES} or more are needed")
    return key
