"""What a request must look like before anybody asks who sent it: headers, size, time."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterable, Callable, Mapping
from typing import Final

from starlette.datastructures import Headers

MAX_BODY: Final = 1024 * 1024
_FRAMING = frozenset(
    {"host", "authorization", "content-length", "content-type", "content-encoding", "transfer-encoding"}
)
_LENGTH = re.compile(r"[0-9]{1,19}", re.ASCII)
_JSON = re.compile(r"application/(?:json|[a-z0-9.+_-]{1,100}\+json)", re.ASCII)
_CLOSE: Final = {"Connection": "close"}
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS  # zlib's way to say: a gzip header, and no other


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """The request is refused; becomes the response."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        """Take the status, the stable code, a fixed text, and headers of the response."""
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


def check_headers(headers: Headers, *, once: frozenset[str], accepts_gzip: bool = False) -> None:
    """Check what the headers say about the body, before any of it is read.

    Args:
        headers: all of them, with repetitions.
        once: lower-case names that may not be repeated, besides those that frame the request: two values are read
            differently by a proxy and by us.
        accepts_gzip: whether the body may be compressed so.

    Raises:
        Refused: 400, 413 or 415.
    """
    names = [name for name in headers if name in once or name in _FRAMING]
    if len(set(names)) != len(names):
        raise Refused(400, "duplicate_header", "a header that may come once came twice", headers=_CLOSE)
    length = headers.get("content-length")
    if headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
        raise Refused(400, "bad_transfer_encoding", "no transfer-encoding but chunked is taken", headers=_CLOSE)
    if length is not None and ("transfer-encoding" in headers or not _LENGTH.fullmatch(length)):
        raise Refused(400, "bad_content_length", "the content-length is malformed or not alone", headers=_CLOSE)
    if length is not None and int(length) > MAX_BODY:
        raise _too_large()
    if not accepts_gzip and _encoding(headers):
        raise Refused(415, "unsupported_encoding", "send the body without content-encoding", headers=_CLOSE)
    if _encoding(headers) not in ("", "gzip"):
        raise Refused(415, "unsupported_encoding", "no content-encoding but gzip is taken", headers=_CLOSE)
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not _JSON.fullmatch(media_type):
        raise Refused(415, "unsupported_media_type", "the content-type must be application/json", headers=_CLOSE)


async def read_body(
    chunks: AsyncIterable[bytes], headers: Headers, *, timeout_s: float, reserve: Callable[[int], None]
) -> bytes:
    """Read the body, inflated, of at most 1 MiB and in time; memory is bounded whatever the sender does.

    Args:
        chunks: the body as it comes in.
        headers: those that `check_headers` has passed.
        timeout_s: how long all of it may take.
        reserve: is told how many bytes more are to be kept, before they are; may refuse.

    Raises:
        Refused: 413 as soon as it is too large, 408 when it takes too long, 400 if it is not what its encoding says.
        ClientDisconnect: the sender went away.
    """
    body = bytearray()
    decoder = _Inflater() if _encoding(headers) else None
    received = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in chunks:
                received += len(chunk)
                if received > MAX_BODY:
                    raise _too_large()
                found = chunk if decoder is None else decoder.feed(chunk, room=MAX_BODY - len(body))
                if len(body) + len(found) > MAX_BODY:
                    raise _too_large()
                reserve(len(found))
                body += found
    except TimeoutError:
        raise Refused(408, "timeout", "the body took too long", headers=_CLOSE) from None
    if decoder is not None:
        decoder.finish()
    return bytes(body)


class _Inflater:
    """Inflates one gzip stream, never to more than there is room for."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_WINDOW)

    def feed(self, chunk: bytes, *, room: int) -> bytes:
        """Return what a chunk adds, at most one byte more than there is room for."""
        if self._stream.eof and chunk:
            raise _bad_encoding()
        try:
            found = self._stream.decompress(chunk, room + 1)
        except zlib.error:
            raise _bad_encoding() from None
        if self._stream.unused_data:
            raise _bad_encoding()
        return found

    def finish(self) -> None:
        """Check that the stream has come to its end."""
        if not self._stream.eof:
            raise _bad_encoding()


def _encoding(headers: Headers) -> str:
    found = headers.get("content-encoding", "").strip().lower()
    return "" if found == "identity" else found


def _too_large() -> Refused:
    return Refused(413, "too_large", f"a body has at most {MAX_BODY} bytes", headers=_CLOSE)


def _bad_encoding() -> Refused:
    return Refused(400, "bad_encoding", "the body is not the one gzip stream that its encoding says", headers=_CLOSE)
