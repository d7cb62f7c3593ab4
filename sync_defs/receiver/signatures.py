"""Who may deliver: one class per signature scheme, made by `verifier_for`.

A verifier answers with the message's id or with None, and raises nothing whatever the headers hold: the sender
chooses them. Every secret is tried on every candidate, in constant time, so that the time tells nothing.
"""

import base64
import binascii
import hashlib
import hmac
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import standardwebhooks

from sync_defs.errors import ConfigurationError
from sync_defs.policies import Webhook

TOLERANCE: Final = timedelta(seconds=300)
_MIN_KEY_BYTES: Final = 24
_MAX_ENTRIES: Final = 10
_MAX_HEADER_CHARS: Final = 2_000
# Visible ASCII but the dot: it separates id, timestamp and body in what is signed.
_STANDARD_ID = re.compile(r"[!-\-/-~]{1,255}")
_HMAC_ID = re.compile(r"[!-~]{1,255}")
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,10}", re.ASCII)
_HEX_DIGEST = re.compile(r"(?:sha256=)?([0-9a-fA-F]{64})", re.ASCII)


class Verifier(ABC):
    """One way of signing, with the secrets that are live now."""

    headers: frozenset[str] = frozenset()
    """Lower-case names of the headers that it reads; each may come once only."""

    @abstractmethod
    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> str | None:
        """Return the id of a message that is signed and fresh, None for any other; never raises.

        Args:
            headers: by lower-case name.
            body: the raw bytes.
            now: what the timestamp is held against.
        """


class StandardVerifier(Verifier):
    """Standard Webhooks, version 1 with symmetric keys: `standardwebhooks` signs, the comparison is ours.

    The library's own `verify` decodes what the sender sent, and so raises or accepts what it should refuse: text
    that is not base64, junk inside of it, timestamps like `1_7e9`, ids with dots.
    """

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
        sent_at = datetime.fromtimestamp(int(timestamp), UTC)
        entries = [entry.encode("utf-8", "replace") for entry in signatures.split(" ")[:_MAX_ENTRIES]]
        is_signed = False
        for key in self._keys:
            expected = _signature(key, message_id, sent_at, body).encode()
            for entry in entries:
                is_signed |= hmac.compare_digest(expected, entry)
        return message_id if is_signed and abs(now - sent_at) <= TOLERANCE else None


class HmacVerifier(Verifier):
    """Hex HMAC-SHA256 of the raw body in one header, as GitHub and many others sign.

    Neither the id nor a time is signed, so a recorded message can be sent again under another id; the job's version
    guard is what keeps it from doing harm.
    """

    def __init__(self, secrets: Sequence[str], *, signature_header: str, id_header: str) -> None:
        """Take the secrets, as text, and the names of the headers."""
        self._keys = [secret.encode() for secret in secrets]
        self._signature_header = signature_header.lower()
        self._id_header = id_header.lower()
        self.headers = frozenset({self._signature_header, self._id_header})

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> str | None:
        """Return the id header's value, or else the SHA-256 of the body."""
        match = _HEX_DIGEST.fullmatch(headers.get(self._signature_header, ""))
        message_id = _id_or_digest(headers.get(self._id_header), body)
        if match is None or message_id is None:
            return None
        sent = bytes.fromhex(match[1])
        is_signed = False
        for key in self._keys:
            is_signed |= hmac.compare_digest(hmac.digest(key, body, "sha256"), sent)
        return message_id if is_signed else None


class UnsignedVerifier(Verifier):
    """Takes everything; for a job without secrets in a receiver that was told to be insecure."""

    headers = frozenset({"webhook-id"})

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> str | None:
        """Return `webhook-id`, or else the SHA-256 of the body."""
        return _id_or_digest(headers.get("webhook-id"), body)


def verifier_for(webhook: Webhook, secrets: Sequence[str]) -> Verifier:
    """Return the verifier of a job's scheme, with at least one secret.

    Raises:
        ConfigurationError: the scheme is unknown, there is no secret, or one is malformed; never shows a secret.
    """
    if not secrets:
        raise ConfigurationError("there is no secret to verify with")
    match webhook.scheme:
        case "standard":
            return StandardVerifier(secrets)
        case "hmac":
            return HmacVerifier(secrets, signature_header=webhook.signature_header, id_header=webhook.id_header)
        case scheme:
            raise ConfigurationError(f"webhook scheme {scheme!r} is unknown; use 'standard' or 'hmac'")


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


def _signature(key: bytes, message_id: str, sent_at: datetime, body: bytes) -> str:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        # The library signs text only. Such a body is still worth a verdict: signed, it is kept as a dead letter.
        signed = b".".join((message_id.encode(), str(int(sent_at.timestamp())).encode(), body))
        return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return standardwebhooks.Webhook(key).sign(message_id, sent_at, text)


def _id_or_digest(message_id: str | None, body: bytes) -> str | None:
    if message_id is None:
        return hashlib.sha256(body).hexdigest()
    return message_id if _HMAC_ID.fullmatch(message_id) else None
