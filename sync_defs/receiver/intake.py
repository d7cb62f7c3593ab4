"""What a request must look like before anybody asks who sent it: headers, size, time."""

import asyncio
import re
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request

MAX_BODY: Final = 1024 * 1024
BODY_TIMEOUT_S: Final = 10.0
_FRAMING = frozenset(
    {"host", "authorization", "content-length", "content-type", "content-encoding", "transfer-encoding"}
)
_LENGTH = re.compile(r"[0-9]{1,19}", re.ASCII)
_JSON = re.compile(r"application/(?:json|[a-z0-9.+_-]{1,100}\+json)", re.ASCII)


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """The request is refused; becomes the response."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        """Take the status, the stable code, a fixed text, and headers of the response."""
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


def check_headers(headers: Headers, *, once: frozenset[str]) -> None:
    """Check what the headers say about the body, before any of it is read.

    Args:
        headers: all of them, with repetitions.
        once: lower-case names that may not be repeated, besides those that frame the request: two values are read
            differently by a proxy and by us.

    Raises:
        Refused: 400, 413 or 415.
    """
    names = [name for name in headers if name in once or name in _FRAMING]
    if len(set(names)) != len(names):
        raise Refused(400, "duplicate_header", "a header that may come once came twice")
    length = headers.get("content-length")
    if headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
        raise Refused(400, "bad_transfer_encoding", "no transfer-encoding but chunked is taken")
    if length is not None and ("transfer-encoding" in headers or not _LENGTH.fullmatch(length)):
        raise Refused(400, "bad_content_length", "the content-length is malformed or not alone")
    if length is not None and int(length) > MAX_BODY:
        raise _too_large()
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Refused(415, "unsupported_encoding", "send the body without content-encoding")
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not _JSON.fullmatch(media_type):
        raise Refused(415, "unsupported_media_type", "the content-type must be application/json")


async def read_body(request: Request) -> bytes:
    """Read the body, of at most 1 MiB and within 10 s; memory is bounded whatever the sender does.

    Raises:
        Refused: 413 as soon as it is too large, 408 when it takes too long.
        ClientDisconnect: the sender went away.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                if len(body) + len(chunk) > MAX_BODY:
                    raise _too_large()
                body += chunk
    except TimeoutError:
        raise Refused(408, "timeout", "the body took too long", headers={"Connection": "close"}) from None
    return bytes(body)


def _too_large() -> Refused:
    return Refused(413, "too_large", f"a body has at most {MAX_BODY} bytes", headers={"Connection": "close"})
