"""The JSON client: what it sends, retries, refuses and never tells."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from sync_defs.connectors import JsonClient
from sync_defs.errors import FetchError

TOKEN = "t0p-secret-token"
BASE = "https://erp.example.com"


class Script:
    """A source that gives prepared answers in turn and keeps the requests; errors are raised."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **settings) -> JsonClient:
        settings = {"token": TOKEN, "sleep": self.waits.append, "jitter": lambda: 0.0, **settings}
        return JsonClient(BASE, transport=httpx.MockTransport(self), **settings)


class Broken(httpx.SyncByteStream):
    """A body that ends before it is complete, or is not what its encoding says."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            yield part


def ok(value: object = None, **headers: str) -> httpx.Response:
    return httpx.Response(200, json={"items": []} if value is None else value, headers=headers)


def failure(script: Script, **settings) -> FetchError:
    with pytest.raises(FetchError) as caught:
        list(script.client(**settings).pages("/api/inventory", {"sku": "SKU-SECRET"}))
    error = caught.value
    assert str(error).startswith("GET /api/inventory")
    assert TOKEN not in f"{error}{error.__cause__!r}"
    assert "SKU-SECRET" not in str(error)
    return error


# What is sent.


def test_request_carries_the_token_and_asks_for_json() -> None:
    script = Script(ok())
    script.client().get_json("/api/inventory", {"sku": ["A", "B"], "limit": 2})
    (request,) = script.requests
    assert str(request.url) == f"{BASE}/api/inventory?sku=A&sku=B&limit=2"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["accept"] == "application/json"
    assert request.headers["accept-encoding"] == "gzip"


def test_no_token_sends_no_authorization() -> None:
    script = Script(ok())
    script.client(token=None).get_json("/healthz")
    assert "authorization" not in script.requests[0].headers


def test_a_path_in_the_base_url_is_kept() -> None:
    script = Script(ok())
    JsonClient(f"{BASE}/v2/", transport=httpx.MockTransport(script)).get_json("/items")
    assert str(script.requests[0].url) == f"{BASE}/v2/items"


def test_long_ids_are_spread_over_short_urls() -> None:
    script = Script(*(ok() for _ in range(10)))
    script.client().lookup("/api/inventory", name="sku", values=["ü" * 200 + str(n) for n in range(20)])
    assert sum(len(request.url.params.get_list("sku")) for request in script.requests) == 20
    assert max(len(str(request.url)) for request in script.requests) < 7000


def test_one_connection_serves_all_pages_of_a_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    enter = httpx.Client.__enter__
    monkeypatch.setattr(httpx.Client, "__enter__", lambda self: opened.append(self) or enter(self))
    script = Script(ok({"items": [], "next_page_token": "2"}), ok({"items": [], "next_page_token": ""}))
    assert list(script.client().pages("/api/inventory")) == [[], []]
    assert len(opened) == 1
    assert [request.url.params.get("page_token") for request in script.requests] == [None, "2"]


# What is retried.


@pytest.mark.parametrize(
    "first",
    [
        httpx.Response(500),
        httpx.Response(503),
        httpx.Response(429),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.Response(
            200,
            headers={"content-type": "application/json"},
            stream=Broken(b'{"items"', httpx.RemoteProtocolError("closed early")),
        ),
        httpx.Response(
            200,
            headers={"content-type": "application/json", "content-encoding": "gzip"},
            stream=Broken(b"no gzip at all"),
        ),
    ],
    ids=["500", "503", "429", "refused", "timeout", "cut-off", "bad-gzip"],
)
def test_a_passing_failure_is_tried_again(first: httpx.Response | Exception) -> None:
    script = Script(first, ok({"items": [{"sku": "A"}]}))
    assert list(script.client().pages("/api/inventory")) == [[{"sku": "A"}]]
    assert script.waits == [0.5]


def test_attempts_are_bounded_and_the_waits_grow() -> None:
    script = Script(*(httpx.Response(503) for _ in range(9)))
    error = failure(script)
    assert (error.code, str(error)) == ("http_status", "GET /api/inventory: answered 503")
    assert len(script.requests) == 5
    assert script.waits == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize("status", [400, 404, 410, 304])
def test_a_lasting_failure_is_not_tried_again(status: int) -> None:
    script = Script(httpx.Response(status))
    assert failure(script).code == "http_status"
    assert script.waits == []


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("301", 300.0),
        ("9" * 400, 300.0),
        ("Mon, 05 Jan 2026 08:00:30 GMT", 30.0),
        ("Mon, 05 Jan 2026 07:00:00 GMT", 0.0),
        ("Mon, 05 Jan 2026 08:00:30 -0000", 30.0),
        ("soon", 0.5),
        ("-5", 0.5),
        ("٣", 0.5),
        ("", 0.5),
    ],
)
def test_retry_after_is_honoured_up_to_five_minutes(retry_after: str, wait_s: float) -> None:
    headers = [(b"retry-after", retry_after.encode())]
    script = Script(httpx.Response(429, headers=headers), ok())
    now = datetime(2026, 1, 5, 8, tzinfo=UTC).timestamp()
    script.client(clock=lambda: now).get_json("/api/inventory")
    assert script.waits == [wait_s]


def test_the_last_retry_after_is_kept_in_the_error() -> None:
    error = failure(Script(*(httpx.Response(429, headers={"retry-after": "600"}) for _ in range(5))))
    assert (error.code, error.retry_after_s) == ("rate_limited", 600.0)


# What is refused.


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example.com/api/inventory",
        "//evil.example.com/x",
        "http://erp.example.com/api/inventory",
        "https://erp.example.com:8443/api/inventory",
        "https://user:pw@erp.example.com/api/inventory",
        "file:///etc/passwd",
        "https://[",
    ],
)
def test_a_redirect_elsewhere_is_refused_and_gets_no_token(location: str) -> None:
    script = Script(httpx.Response(302, headers={"location": location}))
    assert failure(script).code == "redirect_refused"
    assert [request.url.host for request in script.requests] == ["erp.example.com"]


def test_a_redirect_on_the_same_host_is_followed() -> None:
    script = Script(httpx.Response(307, headers={"location": "/v2/inventory?a=1"}), ok({"n": 1}))
    assert script.client().get_json("/api/inventory") == {"n": 1}
    assert str(script.requests[1].url) == f"{BASE}/v2/inventory?a=1"
    assert script.requests[1].headers["authorization"] == f"Bearer {TOKEN}"


def test_the_step_up_to_https_is_followed() -> None:
    script = Script(httpx.Response(301, headers={"location": f"{BASE}/x"}), ok({"n": 1}))
    client = JsonClient("http://erp.example.com", transport=httpx.MockTransport(script))
    assert client.get_json("/x") == {"n": 1}


def test_a_redirect_to_no_url_is_an_error() -> None:
    location = {"location": "https://erp.example.com:port/"}
    assert failure(Script(*(httpx.Response(302, headers=location) for _ in range(5)))).code == "unreachable"


def test_redirects_in_a_circle_end() -> None:
    script = Script(*(httpx.Response(302, headers={"location": "/api/inventory"}) for _ in range(9)))
    assert failure(script).code == "redirect_refused"
    assert len(script.requests) == 6


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "text/plain", "", "application/jsonx"])
def test_what_is_not_json_is_refused(content_type: str) -> None:
    answer = httpx.Response(200, content=b'{"items": []}', headers={"content-type": content_type})
    assert failure(Script(answer)).code == "bad_content_type"


@pytest.mark.parametrize("content_type", ["application/json;charset=utf-8", "Application/HAL+JSON"])
def test_kinds_of_json_are_accepted(content_type: str) -> None:
    answer = httpx.Response(200, content=b'{"n": 1}', headers={"content-type": content_type})
    assert Script(answer).client().get_json("/x") == {"n": 1}


def test_an_encoding_that_was_not_asked_for_is_refused() -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip, gzip"}
    assert failure(Script(httpx.Response(200, headers=headers, stream=Broken(b"")))).code == "bad_content_type"


@pytest.mark.parametrize("is_packed", [True, False])
def test_an_answer_above_the_limit_is_refused(is_packed: bool) -> None:
    body = b'{"items": [' + b" " * 64 * 2**20 + b"]}"
    headers = {"content-type": "application/json"} | ({"content-encoding": "gzip"} if is_packed else {})
    sent = gzip.compress(body, compresslevel=1) if is_packed else body
    assert failure(Script(httpx.Response(200, headers=headers, stream=Broken(sent)))).code == "response_too_large"


def test_an_answer_at_the_limit_is_accepted() -> None:
    body = b'{"n": 1}'
    answers = [httpx.Response(200, content=body, headers={"content-type": "application/json"}) for _ in range(2)]
    script = Script(*answers)
    assert script.client(max_body_bytes=len(body)).get_json("/api/inventory") == {"n": 1}
    assert failure(script, max_body_bytes=len(body) - 1).code == "response_too_large"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xff", b"[" * 200_000, b"1" * 5000, b'{"items": SECRET}'])
def test_what_does_not_parse_is_an_error_without_the_body(body: bytes) -> None:
    answer = httpx.Response(200, content=body, headers={"content-type": "application/json"})
    error = failure(Script(answer))
    assert error.code == "bad_json"
    assert error.__cause__ is None
    assert "SECRET" not in str(error)


@pytest.mark.parametrize(
    "page",
    [
        [],
        "text",
        {},
        {"items": None},
        {"items": {"sku": "A"}},
        {"items": [{"sku": "A"}, None]},
        {"items": [], "next_page_token": True},
        {"items": [], "next_page_token": ["x"]},
    ],
)
def test_what_is_no_page_is_an_error(page: object) -> None:
    assert failure(Script(httpx.Response(200, json=page))).code == "bad_page"


def test_a_page_token_that_comes_twice_is_an_error() -> None:
    tokens = ["b", "c", "b"]
    script = Script(*(ok({"items": [{"sku": token}], "next_page_token": token}) for token in tokens))
    assert failure(script).code == "pagination_loop"
    assert len(script.requests) == 3


def test_a_listing_without_an_end_is_an_error() -> None:
    script = Script(*(ok({"items": [], "next_page_token": n}) for n in range(1, 9)))
    assert failure(script, max_pages=3).code == "too_many_pages"
    assert len(script.requests) == 3


# What comes out.


def test_numbers_keep_their_exact_value() -> None:
    body = b'[1.10, 1e-2, 9007199254740993, NaN, 1e99999999999999999999, "\\ud800"]'
    answer = httpx.Response(200, content=body, headers={"content-type": "application/json"})
    got = Script(answer).client().get_json("/x")
    assert repr(got) == (
        "[Decimal('1.10'), Decimal('0.01'), 9007199254740993, Decimal('NaN'), '1e99999999999999999999', '\\ud800']"
    )
    assert isinstance(got, list)
    assert got[0] == Decimal("1.1")


@pytest.mark.parametrize("token", ["", "a b", "a\n", "Ü", "a\x00"])
def test_a_token_that_no_header_can_carry_is_refused_unseen(token: str) -> None:
    with pytest.raises(ValueError, match="the token is empty, or holds") as caught:
        JsonClient(BASE, token=token)
    assert repr(token) not in repr(caught.value)


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "erp.example.com",
        "ftp://x",
        "https://",
        "https://u:pw@x",
        "https://x?k=pw",
        "https://x#pw",
        "http://x:65536",
        "http://x\n",
    ],
)
def test_a_base_url_that_is_not_plain_is_refused_unseen(base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url must be") as caught:
        JsonClient(base_url)
    assert "pw" not in str(caught.value)


def test_a_path_without_a_slash_is_refused() -> None:
    """Otherwise it would become a part of the host name."""
    with pytest.raises(ValueError, match="starts with a slash"):
        JsonClient(BASE).get_json(".evil.example.com/x")
