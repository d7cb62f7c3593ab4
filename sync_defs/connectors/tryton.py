"""Tryton, the free ERP, as a source: products with price and stock, over its JSON-RPC interface.

Written against Tryton 8.2 (modules ``product`` and ``stock``). JSON-RPC is used rather than the REST
interface, because REST knows no passwords, only keys of registered applications.
"""

import base64
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from http import HTTPStatus
from time import sleep
from typing import cast
from urllib.parse import quote

import httpx

from sync_defs.errors import ConfigurationError, FetchError

MAX_ANSWER_BYTES = 64 * 2**20
"""The largest answer that is read, after decompression."""
MAX_WAIT_S = 300.0
"""The longest wait between two attempts, whatever the server asks for."""
_DATE_PARTS = ("year", "month", "day")
_TIME_PARTS = ("hour", "minute", "second", "microsecond")
_RETRIED = frozenset({429, *range(500, 600)})
_FIELDS = (
    "code",
    "name",
    # A variant's own list_price is empty where the product's counts; this is the one that is sold at.
    "list_price_used",
    "quantity",
    "active",
    "create_date",
    "write_date",
    "template.active",
    "template.write_date",
)


@dataclass(frozen=True, slots=True)
class TrytonClient:
    """Read a Tryton database's products. It holds no connection: each fetch logs in, reads and logs out.

    Reads are tried again after a connection error, 429 and 5xx. A log-in is sent once: Tryton counts failed
    ones, delays each by up to 2**n seconds and locks the user out after five. Redirects are not followed,
    since the log-in carries the password.

    Each product is a mapping of:

    - ``code``: text, None if it has none;
    - ``name``: in the user's language;
    - ``list_price``: Decimal, of the variant or else of its product, for the user's company; None if unset;
    - ``quantity``: Decimal, today's stock in the warehouses' storage zones, in the product's default unit;
    - ``active``: False as soon as the variant or its product is out of use;
    - ``write_date``: when one of the two was last written or the variant created, aware, UTC.

    Example:
        >>> TrytonClient("https://erp.example.com", database="shop", username="sync", password="hidden")
        TrytonClient(url='https://erp.example.com', database='shop', username='sync', warehouse=None, \
page_size=500, timeout_s=60.0)
    """

    url: str
    """Scheme, host and perhaps a path of the server, without the database."""
    _: KW_ONLY
    database: str
    """The name of the database."""
    username: str
    """A user who may read products, stock locations and stock moves."""
    password: str = field(repr=False)
    """The user's password; it appears in no error and no repr."""
    warehouse: str | None = None
    """The code of the warehouse whose stock counts; None adds up all of them."""
    page_size: int = 500
    """Products in a page."""
    timeout_s: float = 60.0
    """How long to wait for the connection, and for each part of an answer."""
    attempts: int = field(default=4, repr=False)
    """How often a read is tried in all."""
    sleep: Callable[[float], None] = field(default=sleep, repr=False, compare=False)
    """Waits so many seconds between attempts."""
    transport: httpx.BaseTransport | None = field(default=None, repr=False, compare=False)
    """Replaces the network, in tests."""

    def __post_init__(self) -> None:
        """Check the settings, so that a mistake shows at once.

        Raises:
            ValueError: A setting is of no use.
        """
        _check_url(self.url)
        if not self.database or not self.username or ":" in self.username:
            # Tryton splits its session header at colons.
            message = "database and username must not be empty, and a username holds no colon"
            raise ValueError(message)
        if self.timeout_s <= 0 or min(self.page_size, self.attempts) < 1:
            message = "page_size, timeout_s and attempts must be positive"
            raise ValueError(message)

    def products(self, since: str | datetime | None = None) -> Iterator[list[dict[str, object]]]:
        """Yield pages of products in the order of their ids, inactive ones included; read once.

        Without ``since`` all of them. With it, those that were created or written at that moment or later; a
        text is an ISO 8601 time. **A movement of stock writes neither the product nor its template**, so that
        ``since`` misses every change of ``quantity``: fetch all where the stock matters, and do not take
        ``write_date`` as a record's version there. Tryton may stamp a change before it commits it; let
        ``since`` reach back over the longest transaction.

        Raises:
            FetchError: The fetch failed; the pages before it are not the whole listing.
            ConfigurationError: There is no such warehouse, or none that the user may see.
            ValueError: ``since`` has no time zone.
        """
        return self._pages([] if since is None else [_changed_since(since)])

    def products_by_code(self, codes: Iterable[str]) -> list[dict[str, object]]:
        """Return the products with these codes, in no promised order; unknown codes give nothing.

        A code may come twice: Tryton keeps it unique among active products only.

        Raises:
            FetchError: The fetch failed.
            ConfigurationError: There is no such warehouse, or none that the user may see.
        """
        wanted = list(dict.fromkeys(codes))
        found: list[dict[str, object]] = []
        if wanted:
            with self._connect() as session:
                for start in range(0, len(wanted), self.page_size):
                    some = wanted[start : start + self.page_size]
                    for page in self._read([["code", "in", some]], session):
                        found += page
        return found

    def _pages(self, domain: Sequence[object]) -> Iterator[list[dict[str, object]]]:
        with self._connect() as session:
            yield from self._read(domain, session)

    def _read(self, domain: Sequence[object], session: "_Session") -> Iterator[list[dict[str, object]]]:
        """Page by id, not by offset: a product that is added or removed meanwhile shifts no page."""
        context = session.context | {
            "locations": self._warehouses(session),
            "stock_skip_warehouse": True,
            # A clause on `active` is not enough: Tryton adds its own test to every nested list of a domain.
            "active_test": False,
        }
        last, size = 0, self.page_size
        while size == self.page_size:
            clauses = [["id", ">", last], *domain]
            rows = session.rows("product.product", clauses, limit=self.page_size, fields=_FIELDS, context=context)
            size = len(rows)
            if rows:
                last = _ids(rows, after=last)[-1]
                yield _products(rows)

    def _warehouses(self, session: "_Session") -> list[int]:
        domain = [["type", "=", "warehouse"]]
        if self.warehouse is not None:
            domain.append(["code", "=", self.warehouse])
        rows = session.rows("stock.location", domain, limit=None, fields=["id"], context=session.context)
        if not rows:
            # Without a location Tryton answers 0 for every stock.
            named = "any warehouse" if self.warehouse is None else f"a warehouse with the code {self.warehouse!r}"
            message = f"the Tryton user {self.username!r} does not see {named}"
            raise ConfigurationError(message)
        return _ids(rows)

    @contextmanager
    def _connect(self) -> Generator["_Session"]:
        # Tryton marks a long answer as gzip, asked for or not; it must always be asked for.
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        with httpx.Client(headers=headers, timeout=self.timeout_s, transport=self.transport) as http:
            session = _Session(http, self)
            session.log_in()
            session.load_context()
            yield session
            # Not after an error: Tryton ends an idle session by itself.
            session.log_out()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    content_type: str
    body: bytes


class _Session:
    """A logged-in user. A session that Tryton ended, after five idle minutes, is opened again."""

    def __init__(self, http: httpx.Client, settings: TrytonClient) -> None:
        self._http = http
        self._settings = settings
        self._url = f"{settings.url.rstrip('/')}/{quote(settings.database, safe='')}/rpc/"
        self._who = f"the user {settings.username!r} of the database {settings.database!r}"
        self._authorization = ""
        self.context: dict[str, object] = {}

    def log_in(self) -> None:
        username, method = self._settings.username, "common.db.login"
        self._authorization = ""
        answer = self._send(method, [username, {"password": self._settings.password}])
        if isinstance(answer, FetchError):
            raise answer
        if answer.status == HTTPStatus.UNAUTHORIZED:
            message = f"Tryton refused {self._who}; check the username and the password"
            raise FetchError(message, code="not_authorized")
        result = self._result(answer, method)
        if not isinstance(result, list) or len(cast("list[object]", result)) < 2:
            message = f"{method}: the answer holds no session; is this a Tryton server?"
            raise FetchError(message, code="bad_page")
        user_id, token = cast("list[object]", result)[:2]
        session = f"{username}:{user_id}:{token}".encode()
        self._authorization = "Session " + base64.b64encode(session).decode("ascii")

    def load_context(self) -> None:
        """Keep the user's preferences: prices and stock depend on the company, names on the language."""
        context = self.call("model.res.user.get_preferences", True, {})
        self.context = cast("dict[str, object]", context) if isinstance(context, dict) else {}

    def log_out(self) -> None:
        self._send("common.db.logout", [])

    def rows(
        self,
        model: str,
        domain: Sequence[object],
        *,
        limit: int | None,
        fields: Sequence[str],
        context: Mapping[str, object],
    ) -> list[dict[str, object]]:
        order = [["id", "ASC"]]
        rows = self.call(f"model.{model}.search_read", domain, 0, limit, order, fields, context)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in cast("list[object]", rows)):
            message = f"Tryton answered {model} with no list of records"
            raise FetchError(message, code="bad_page")
        return cast("list[dict[str, object]]", rows)

    def call(self, method: str, *params: object) -> object:
        """Return what a method answers; the call is repeated, so it must only read."""
        attempt = 1
        while True:
            answer = self._send(method, params)
            if isinstance(answer, _Answer) and answer.status == HTTPStatus.UNAUTHORIZED:
                self.log_in()
                answer = self._send(method, params)
            if isinstance(answer, _Answer):
                return self._result(answer, method)
            if attempt >= self._settings.attempts:
                raise answer
            backoff_s = 0.5 * 2 ** (attempt - 1)
            self._settings.sleep(min(answer.retry_after_s or backoff_s, MAX_WAIT_S))
            attempt += 1

    def _send(self, method: str, params: Sequence[object]) -> _Answer | FetchError:
        """Return the answer, or the error of a call that may be tried again; other errors are raised."""
        content = json.dumps({"id": 0, "method": method, "params": params}, default=_encode)
        headers = {"Content-Type": "application/json"}
        if self._authorization:
            headers["Authorization"] = self._authorization
        try:
            with self._http.stream("POST", self._url, content=content, headers=headers) as response:
                if response.status_code in _RETRIED:
                    return _busy(response, method)
                return _Answer(
                    status=response.status_code,
                    content_type=response.headers.get("content-type", ""),
                    body=_read_body(response, method),
                )
        except (httpx.TransportError, httpx.DecodingError) as error:
            # Without the error itself: it holds the request, and that of a log-in the password.
            return FetchError(f"{method}: no answer from Tryton ({type(error).__name__})", code="unreachable")

    def _result(self, answer: _Answer, method: str) -> object:
        status = answer.status
        if status in {401, 403}:
            message = f"{method}: Tryton does not let {self._who} do this"
            raise FetchError(message, code="not_authorized")
        if status == HTTPStatus.NOT_FOUND:
            message = f"{method}: Tryton answered 404; is there a database {self._settings.database!r}?"
            raise FetchError(message, code="http_status")
        if 300 <= status < 400:
            message = f"{method}: answered {status}, a redirect; set url to the address itself"
            raise FetchError(message, code="redirect_refused")
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            message = f"{method}: more records than the server allows in a request; lower page_size"
            raise FetchError(message, code="http_status")
        if status != HTTPStatus.OK:
            message = f"{method}: answered {status}; is url the address of a Tryton server?"
            raise FetchError(message, code="http_status")
        if answer.content_type.partition(";")[0].strip().lower() != "application/json":
            message = f"{method}: the answer is not JSON; is this a Tryton server?"
            raise FetchError(message, code="bad_content_type")
        return _unwrap(_decode(answer.body, method), method)


def _decode(text: bytes, method: str) -> object:
    try:
        return json.loads(text, object_hook=_typed)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        message = f"{method}: Tryton's answer cannot be read ({type(error).__name__})"
        # Without the cause: it holds the whole text.
        raise FetchError(message, code="bad_json") from None


def _typed(value: dict[str, object]) -> object:
    """Return the Python value of one of Tryton's typed objects; other mappings stay as they are."""
    kind = value.get("__class__")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    return value if reader is None else reader(value)


def _numbers(value: Mapping[str, object], names: Sequence[str]) -> list[int]:
    return [cast("int", value[name]) for name in names]


def _read_time(value: Mapping[str, object]) -> time:
    hour, minute, second, microsecond = _numbers(value, _TIME_PARTS)
    return time(hour, minute, second, microsecond)


def _read_datetime(value: Mapping[str, object]) -> datetime:
    # Tryton keeps UTC, without saying so.
    return datetime.combine(date(*_numbers(value, _DATE_PARTS)), _read_time(value), UTC)


_READERS: Mapping[str, Callable[[Mapping[str, object]], object]] = {
    "Decimal": lambda value: Decimal(cast("str", value["decimal"])),
    "datetime": _read_datetime,
    "date": lambda value: date(*_numbers(value, _DATE_PARTS)),
    "time": _read_time,
    "timedelta": lambda value: timedelta(seconds=cast("float", value["seconds"])),
    "bytes": lambda value: base64.b64decode(cast("str", value["base64"])),
}


def _encode(value: object) -> dict[str, object]:
    """Return the typed object for a Python value; what it writes, `_READERS` reads."""
    match value:
        case Decimal():
            return {"__class__": "Decimal", "decimal": str(value)}
        case datetime():
            return _parts("datetime", value.astimezone(UTC), (*_DATE_PARTS, *_TIME_PARTS))
        case date():
            return _parts("date", value, _DATE_PARTS)
        case time():
            return _parts("time", value, _TIME_PARTS)
        case timedelta():
            return {"__class__": "timedelta", "seconds": value.total_seconds()}
        case bytes():
            return {"__class__": "bytes", "base64": base64.b64encode(value).decode("ascii")}
        case _:
            message = f"Tryton has no typed object for {type(value).__name__}"
            raise TypeError(message)


def _parts(kind: str, value: object, names: Sequence[str]) -> dict[str, object]:
    return {"__class__": kind} | {name: cast("object", getattr(value, name)) for name in names}


def _unwrap(answer: object, method: str) -> object:
    if not isinstance(answer, dict) or not {"result", "error"} & set(cast("dict[str, object]", answer)):
        message = f"{method}: the answer is neither a result nor an error; is this a Tryton server?"
        raise FetchError(message, code="bad_page")
    parts = cast("dict[str, object]", answer)
    if "error" not in parts:
        return parts["result"]
    kind, reason = _error_parts(parts["error"])
    if kind == "LoginException":
        message = f"{method}: Tryton asks for a second factor; use a user who logs in by password alone"
        raise FetchError(message, code="not_authorized")
    if kind == "UserError":
        raise FetchError(f"{method}: Tryton refused it: {reason[:200]}")
    # The text of any other error may quote a record.
    message = f"{method}: Tryton failed, its log says why; are its modules product and stock active?"
    raise FetchError(message)


def _error_parts(error: object) -> tuple[str, str]:
    """Return an error's kind and reason: Tryton answers [kind, [reason, ...]], for a defect [text, trace]."""
    if not isinstance(error, list):
        return "", ""
    kind, details = [*cast("list[object]", error), "", ""][:2]
    reason = cast("list[object]", details)[0] if isinstance(details, list) and details else ""
    return str(kind), str(reason)


def _busy(response: httpx.Response, method: str) -> FetchError:
    code = "rate_limited" if response.status_code == HTTPStatus.TOO_MANY_REQUESTS else "http_status"
    wait = response.headers.get("retry-after", "")
    retry_after_s = float(wait) if wait.isascii() and wait.isdigit() else None
    return FetchError(f"{method}: answered {response.status_code}", code=code, retry_after_s=retry_after_s)


def _read_body(response: httpx.Response, method: str) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            message = f"{method}: the answer is larger than {MAX_ANSWER_BYTES} bytes; lower page_size"
            raise FetchError(message, code="response_too_large")
    return bytes(body)


def _products(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    try:
        return [_product(row) for row in rows]
    except (KeyError, AttributeError, TypeError, ArithmeticError) as error:
        message = f"a product's record from Tryton cannot be read ({type(error).__name__})"
        raise FetchError(message, code="bad_page") from None


def _product(row: Mapping[str, object]) -> dict[str, object]:
    template = cast("Mapping[str, object]", row["template."])
    written = (row["write_date"], template["write_date"], row["create_date"])
    quantity = row["quantity"]
    return {
        "code": row["code"] or None,
        "name": row["name"],
        "list_price": row["list_price_used"],
        # Tryton's stock is a float; its shortest text is the number that Tryton shows.
        "quantity": None if quantity is None else Decimal(str(quantity)),
        # On SQLite Tryton answers 0 and 1. A product is out of use as soon as its template is.
        "active": bool(row["active"]) and bool(template["active"]),
        "write_date": max((moment for moment in written if isinstance(moment, datetime)), default=None),
    }


def _changed_since(since: str | datetime) -> list[object]:
    moment = datetime.fromisoformat(since) if isinstance(since, str) else since
    if moment.tzinfo is None:
        message = "since needs a time zone"
        raise ValueError(message)
    names = ("create_date", "write_date", "template.write_date")
    return ["OR", *([name, ">=", moment] for name in names)]


def _ids(rows: Sequence[Mapping[str, object]], *, after: int = 0) -> list[int]:
    ids: list[int] = []
    for row in rows:
        match row.get("id"):
            case int() as found if found > after:
                ids.append(found)
                after = found
            case _:
                message = "Tryton's records do not come in the order of their ids"
                raise FetchError(message, code="bad_page")
    return ids


def _check_url(url: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    is_plain = not (parsed.userinfo or parsed.query or parsed.fragment)
    if parsed.scheme not in {"http", "https"} or not parsed.host or not is_plain:
        # The value is not shown: it may hold a password.
        message = "url must be http(s)://host/path, without a user, a query or a fragment"
        raise ValueError(message)
