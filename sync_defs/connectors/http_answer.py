"""What makes an HTTP answer usable: its status, type, size, redirects and JSON; and the errors if not."""

import json
import time
from datetime import UTC
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime

import httpx

from sync_defs.errors import FetchError

_DENIED = frozenset({401, 403})
_LONGEST_RETRY_AFTER_S = 86400.0
_DEFAULT_PORTS = {"http": 80, "https": 443}


def no_answer(path: str, error: Exception) -> FetchError:
    """Return the error for a request that got no complete answer."""
    return FetchError(f"GET {path}: no answer ({type(error).__name__})", code="unreachable")


def redirect_refused(path: str, reason: str) -> FetchError:
    """Return the error for a redirect that is not followed."""
    return FetchError(f"GET {path}: redirect refused, {reason}; set base_url to the address", code="redirect_refused")


def status_error(response: httpx.Response, path: str, *, now: float) -> FetchError:
    """Return the error for an answer that is no success, with the wait that it asks for."""
    status = response.status_code
    if status in _DENIED:
        return FetchError(f"GET {path}: answered {status}; check the token", code="not_authorized")
    code = "rate_limited" if status == 429 else "http_status"
    wait = retry_after_s(response.headers.get("retry-after"), now=now)
    is_passing = status == 429 or status >= 500
    return FetchError(f"GET {path}: answered {status}", code=code, retry_after_s=wait, is_passing=is_passing)


def is_same_site(here: httpx.URL, there: httpx.URL) -> bool:
    """Say whether a token may go from one URL to the other: same host and port, or the step up to https."""
    if there.userinfo or here.host != there.host:
        return False
    is_upgrade = (here.scheme, _port(here), there.scheme, _port(there)) == ("http", 80, "https", 443)
    return is_upgrade or (here.scheme, _port(here)) == (there.scheme, _port(there))


def check_content(response: httpx.Response, path: str) -> None:
    """Check that an answer says it is JSON, plain or in gzip.

    Raises:
        FetchError: It says something else (``bad_content_type``), such as a login page.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        message = f"GET {path}: answered {response.status_code} with {kind[:80] or 'no type'}, not JSON"
        raise FetchError(message, code="bad_content_type")
    # Other encodings, or one inside the other, can unpack to gigabytes before the size is known.
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", ""}:
        message = f"GET {path}: answered in the encoding {encoding[:80]}, which was not asked for"
        raise FetchError(message, code="bad_content_type")


def read_body(response: httpx.Response, path: str, *, limit: int) -> bytearray:
    """Return the body of a streamed answer.

    Raises:
        FetchError: It is larger than ``limit`` bytes (``response_too_large``).
        httpx.TransportError: The connection broke.
    """
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > limit:
            message = f"GET {path}: the answer is larger than {limit} bytes; ask for smaller pages"
            raise FetchError(message, code="response_too_large")
    return body


def parse_json(body: bytearray, path: str) -> object:
    """Return the value of a JSON text; numbers with decimals as ``Decimal``, NaN and Infinity included.

    Raises:
        FetchError: It is no JSON (``bad_json``).
    """
    try:
        return json.loads(body, parse_float=_decimal, parse_constant=Decimal)
    except (ValueError, RecursionError) as error:
        message = f"GET {path}: the answer is not valid JSON ({type(error).__name__})"
        # Without the cause: it holds the whole body.
        raise FetchError(message, code="bad_json") from None


def _decimal(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:
        # An exponent beyond what Decimal holds: the record is rejected for it later, not the whole page.
        return text


def _port(url: httpx.URL) -> int | None:
    return url.port or _DEFAULT_PORTS.get(url.scheme)


def retry_after_s(value: str | None, *, now: float | None = None) -> float | None:
    """Return the wait that a `Retry-After` asks for, in seconds; `now` is the Unix time, for one that is a date."""
    # RFC 9110, section 10.2.3: seconds, or an HTTP date.
    if value is None:
        return None
    now = time.time() if now is None else now
    if value.isascii() and value.isdigit():
        return min(_LONGEST_RETRY_AFTER_S, float(value))
    try:
        moment = parsedate_to_datetime(value)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return min(_LONGEST_RETRY_AFTER_S, max(0.0, moment.timestamp() - now))
    except (ValueError, TypeError, OverflowError):
        return None
