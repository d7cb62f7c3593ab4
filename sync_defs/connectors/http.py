"""JSON over HTTP for sources that answer in pages: retries, limits and nothing sent to the wrong host."""

import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import cast
from urllib.parse import quote_plus

import httpx

from sync_defs.connectors.http_answer import (
    check_content,
    is_same_site,
    no_answer,
    parse_json,
    read_body,
    redirect_refused,
    status_error,
)
from sync_defs.errors import FetchError

Params = Mapping[str, str | int | Sequence[str]]
"""Query parameters; a sequence repeats its name."""

MAX_WAIT_S = 300.0
"""The longest wait between two attempts, whatever the source asks for."""
_MAX_REDIRECTS = 5
_RETRIED = frozenset({429, *range(500, 600)})
# Servers commonly refuse a request line above 8 KiB.
_MAX_LOOKUP_CHARS = 6000
_MAX_LOOKUP_VALUES = 100


@dataclass(frozen=True, slots=True)
class JsonClient:
    """A source of JSON at one base URL. It holds no connection: each fetch opens one and closes it.

    A request is tried again after a connection error, a timeout, 429 and 5xx, with exponential backoff or as
    ``Retry-After`` says. Redirects are followed on the same host only, so that the token stays there. Numbers
    with decimals come as ``Decimal``. Errors are ``FetchError``; they name the path and the status, never the
    query, the token or the body.

    Example:
        >>> answer = httpx.MockTransport(lambda request: httpx.Response(200, json={"stock": 7}))
        >>> JsonClient("https://pim.example.com", transport=answer).get_json("/items/A-1")
        {'stock': 7}
    """

    base_url: str
    """Scheme, host and perhaps a path; paths of requests are put behind it."""
    _: KW_ONLY
    token: str | None = field(default=None, repr=False)
    """Sent as ``Authorization: Bearer``."""
    timeout_s: float = 30.0
    """How long to wait for the connection, and for each part of an answer."""
    max_pages: int = 100_000
    """A listing with more pages is taken for an endless one."""
    max_body_bytes: int = 64 * 2**20
    """The largest answer, after decompression."""
    attempts: int = 5
    """How often a request is tried in all."""
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False, compare=False)
    """Waits so many seconds between attempts."""
    jitter: Callable[[], float] = field(default=random.random, repr=False, compare=False)
    """Returns 0 to 1, spreads the attempts of several clients."""
    clock: Callable[[], float] = field(default=time.time, repr=False, compare=False)
    """Returns the Unix time, for a ``Retry-After`` that is a date."""
    transport: httpx.BaseTransport | None = field(default=None, repr=False, compare=False)
    """Replaces the network, in tests."""

    def __post_init__(self) -> None:
        """Check the settings, so that a mistake shows at once.

        Raises:
            ValueError: The URL is no plain http or https URL, the token does not fit in a header, or a limit
                is below its least value.
        """
        _check_base_url(self.base_url)
        # An HTTP library quotes a header that it refuses; the token would stand in its error.
        if self.token is not None and not (self.token and _is_header_safe(self.token)):
            message = "the token is empty, or holds a space, a line break or a non-ASCII character"
            raise ValueError(message)
        if self.timeout_s <= 0 or min(self.max_pages, self.max_body_bytes, self.attempts) < 1:
            message = "timeout_s, max_pages, max_body_bytes and attempts must be positive"
            raise ValueError(message)

    def get_json(self, path: str, params: Params | None = None) -> object:
        """Return the JSON value at a path below the base URL.

        Raises:
            FetchError: The source is not reachable, refuses, or answers something unusable.
        """
        with self._connect() as connection:
            return connection.get_json(path, params or {})

    def pages(
        self,
        path: str,
        params: Params | None = None,
        *,
        items: str = "items",
        next_token: str = "next_page_token",  # noqa: S107 - a field's name
        token_param: str = "page_token",  # noqa: S107 - a parameter's name
    ) -> Iterator[list[dict[str, object]]]:
        """Yield the pages of a listing, each a list of objects, over one connection; read once.

        Args:
            path: The listing, below the base URL.
            params: Sent with the request for each page.
            items: The field of an answer that holds the objects.
            next_token: The field that holds the next page's token; absent, null or empty on the last page.
            token_param: The parameter that sends it back.

        Raises:
            FetchError: As ``get_json``; or an answer is no page, a page token comes a second time
                (``pagination_loop``), or there are more than ``max_pages`` (``too_many_pages``). The pages
                before it were yielded: the listing is incomplete.
        """
        query = dict(params or {})
        seen: set[str] = set()
        with self._connect() as connection:
            for _ in range(self.max_pages):
                answer = connection.get_json(path, query)
                token = _next_token(answer, next_token, path)
                if token in seen:
                    message = f"GET {path}: page {len(seen) + 1} names a page that was read before"
                    raise FetchError(message, code="pagination_loop")
                yield _rows(answer, items, path)
                if token is None:
                    return
                seen.add(token)
                query[token_param] = token
        message = f"GET {path}: more than {self.max_pages} pages; narrow the fetch or raise max_pages"
        raise FetchError(message, code="too_many_pages")

    def lookup(self, path: str, *, name: str, values: Iterable[str], items: str = "items") -> list[dict[str, object]]:
        """Return the objects with these values of a parameter, asked for in as few requests as fit in URLs.

        A value that is given twice is asked for once; one that the source does not know gives nothing.

        Raises:
            FetchError: As ``get_json``, or an answer is no page.
        """
        found: list[dict[str, object]] = []
        with self._connect() as connection:
            for batch in _batches(name, dict.fromkeys(values)):
                found += _rows(connection.get_json(path, {name: batch}), items, path)
        return found

    @contextmanager
    def _connect(self) -> Generator["_Connection"]:
        # Only encodings whose size is bounded while they are unpacked are asked for and accepted.
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        with httpx.Client(headers=headers, timeout=self.timeout_s, transport=self.transport) as client:
            yield _Connection(client, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    error: FetchError
    cause: Exception | None = None


class _Connection:
    def __init__(self, client: httpx.Client, settings: JsonClient) -> None:
        self._client = client
        self._settings = settings

    def get_json(self, path: str, params: Params) -> object:
        if not path.startswith("/"):
            message = f"a path starts with a slash: {path!r}"
            raise ValueError(message)
        url = httpx.URL(self._settings.base_url.rstrip("/") + path)
        url = url.copy_with(params=params) if params else url
        attempt = 1
        while isinstance(answer := self._attempt(url), _Failure):
            if attempt >= self._settings.attempts:
                raise answer.error from answer.cause
            self._settings.sleep(self._wait_s(attempt, answer.error.retry_after_s))
            attempt += 1
        return parse_json(answer, url.path)

    def _attempt(self, url: httpx.URL) -> bytearray | _Failure:
        current = url
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                with self._client.stream("GET", current) as response:
                    if response.next_request is None:
                        return self._read(response, url.path)
                    target = response.next_request.url
                    if not is_same_site(current, target):
                        raise redirect_refused(url.path, "to another host, or with credentials")
                    current = target
        except (httpx.TransportError, httpx.DecodingError) as error:
            return _Failure(error=no_answer(url.path, error), cause=error)
        raise redirect_refused(url.path, f"more than {_MAX_REDIRECTS} redirects")

    def _read(self, response: httpx.Response, path: str) -> bytearray | _Failure:
        if response.is_success:
            check_content(response, path)
            return read_body(response, path, limit=self._settings.max_body_bytes)
        error = status_error(response, path, now=self._settings.clock())
        if response.status_code in _RETRIED:
            return _Failure(error=error)
        raise error

    def _wait_s(self, attempt: int, retry_after_s: float | None) -> float:
        if retry_after_s is not None:
            return min(MAX_WAIT_S, retry_after_s)
        return min(MAX_WAIT_S, 0.5 * 2 ** (attempt - 1) * (1 + self._settings.jitter()))


def _next_token(answer: object, name: str, path: str) -> str | None:
    token = _object(answer, path).get(name)
    if token is None or token == "":
        return None
    if isinstance(token, bool) or not isinstance(token, str | int):
        message = f"GET {path}: {name} is {type(token).__name__}, not text"
        raise FetchError(message, code="bad_page")
    return str(token)


def _rows(answer: object, name: str, path: str) -> list[dict[str, object]]:
    rows = _object(answer, path).get(name)
    if not isinstance(rows, list):
        message = f"GET {path}: {name} is {type(rows).__name__}, not a list"
        raise FetchError(message, code="bad_page")
    for place, row in enumerate(cast("list[object]", rows)):
        if not isinstance(row, dict):
            message = f"GET {path}: {name}[{place}] is {type(row).__name__}, not an object"
            raise FetchError(message, code="bad_page")
    return cast("list[dict[str, object]]", rows)


def _object(answer: object, path: str) -> dict[str, object]:
    if not isinstance(answer, dict):
        message = f"GET {path}: the answer is {type(answer).__name__}, not an object with a page in it"
        raise FetchError(message, code="bad_page")
    return cast("dict[str, object]", answer)


def _batches(name: str, values: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    length = 0
    for value in values:
        cost = len(name) + len(quote_plus(value)) + 2
        if batch and (length + cost > _MAX_LOOKUP_CHARS or len(batch) == _MAX_LOOKUP_VALUES):
            yield batch
            batch, length = [], 0
        batch.append(value)
        length += cost
    if batch:
        yield batch


def _is_header_safe(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _check_base_url(base_url: str) -> None:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL()
    is_plain = not (url.userinfo or url.query or url.fragment) and (url.port or 1) < 2**16
    if url.scheme not in {"http", "https"} or not url.host or not is_plain:
        # The value is not shown: it may hold a password.
        message = "base_url must be http(s)://host/path, without a user, a query or a fragment"
        raise ValueError(message)
