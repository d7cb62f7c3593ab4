"""The Tryton client: what it reads from a real Tryton; what it sends, repeats, refuses and never tells."""

import doctest
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

import sync_defs.connectors.tryton
from sync_defs.connectors.tryton import TrytonClient
from sync_defs.errors import ConfigurationError, FetchError
from sync_defs.testing.tryton_server import TrytonProduct, TrytonServer, sample_products
from tests.tryton import COUNT

PASSWORD = "s3cret-passw0rd"

# --- against a real Tryton ------------------------------------------------------------------------

real = [pytest.mark.tryton, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def untouched(tryton_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrytonServer]:
    """A running Tryton that no test changes."""
    with TrytonServer(tmp_path_factory.mktemp("untouched"), template=tryton_template) as server:
        yield server


@pytest.fixture
def erp(tryton_template: Path, tmp_path: Path) -> Iterator[TrytonServer]:
    """A running Tryton of this test's own."""
    with TrytonServer(tmp_path / "erp", template=tryton_template) as server:
        yield server


def client_of(server: TrytonServer, **settings: Any) -> TrytonClient:
    named: dict[str, Any] = {
        "database": server.database,
        "username": server.username,
        "password": server.password,
    }
    return TrytonClient(server.url, **named | settings)


def read(pages: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [record for page in pages for record in page]


def as_products(records: list[dict[str, Any]]) -> list[TrytonProduct]:
    """Leave `write_date` out: XML-RPC, which the oracle speaks, cuts it to seconds."""
    return [TrytonProduct(**{name: record[name] for name in record if name != "write_date"}) for record in records]


class TestAgainstTryton:
    pytestmark = real

    def test_it_returns_exactly_what_tryton_says(self, untouched: TrytonServer) -> None:
        records = read(client_of(untouched).products())
        assert {product.code: product for product in as_products(records)} == untouched.products()
        assert sorted(as_products(records), key=lambda product: product.code) == sample_products(COUNT)

    def test_values_have_the_promised_types(self, untouched: TrytonServer) -> None:
        [record] = read([client_of(untouched).products_by_code(["TRY-00004"])])
        kinds = {name: type(value) for name, value in record.items()}
        assert kinds == {
            "code": str,
            "name": str,
            "list_price": Decimal,
            "quantity": Decimal,
            "active": bool,
            "write_date": datetime,
        }
        assert abs(datetime.now(UTC) - record["write_date"]) < timedelta(hours=1)

    def test_every_page_size_gives_the_same_products(self, untouched: TrytonServer) -> None:
        """100 divides 500, so that the last page is followed by an empty answer."""
        everything = read(client_of(untouched).products())
        for page_size, lengths in ((100, [100] * 5), (333, [333, 167])):
            pages = list(client_of(untouched, page_size=page_size).products())
            assert [len(page) for page in pages] == lengths
            assert read(pages) == everything

    def test_products_by_code_returns_the_known_ones_once(self, untouched: TrytonServer) -> None:
        codes = ["TRY-00007", "no such code", "TRY-00490", "TRY-00007"]
        found = as_products(client_of(untouched, page_size=1).products_by_code(codes))
        assert found == [sample_products(1, first=7)[0], sample_products(1, first=490)[0]]

    def test_products_by_no_code_asks_nothing(self) -> None:
        nowhere = TrytonClient("http://127.0.0.1:9", database="demo", username="u", password=PASSWORD)
        assert nowhere.products_by_code([]) == []

    def test_changes_are_visible(self, erp: TrytonServer) -> None:
        erp.set_price("TRY-00001", Decimal("1234.5678"))
        erp.set_stock("TRY-00002", 77)
        erp.set_stock("TRY-00004", Decimal("0.05"))
        erp.set_name("TRY-00003", "Äpfel & <Birnen> 🍐")
        erp.deactivate("TRY-00005")
        erp.create_products(1, first=COUNT)
        expected = {product.code: asdict(product) for product in sample_products(COUNT + 1)}
        expected["TRY-00001"]["list_price"] = Decimal("1234.5678")
        expected["TRY-00002"]["quantity"] = Decimal(77)
        expected["TRY-00004"]["quantity"] = Decimal("0.05")
        expected["TRY-00003"]["name"] = "Äpfel & <Birnen> 🍐"
        expected["TRY-00005"] |= {"quantity": Decimal(0), "active": False}
        found = {product.code: product for product in as_products(read(client_of(erp).products()))}
        assert {code: asdict(product) for code, product in found.items()} == expected
        assert found == erp.products()

    def test_since_sees_written_products_but_no_stock(self, erp: TrytonServer) -> None:
        """A stock movement writes no product; whoever wants the stock must fetch all."""
        start = max(record["write_date"] for record in read(client_of(erp).products()))
        start += timedelta(microseconds=1)
        erp.set_stock("TRY-00002", 77)
        assert read(client_of(erp).products(since=start)) == []
        erp.set_price("TRY-00001", Decimal("9.99"))
        erp.set_name("TRY-00003", "renamed")
        erp.deactivate("TRY-00004")
        erp.create_products(1, first=COUNT)
        codes = {"TRY-00001", "TRY-00003", "TRY-00004", f"TRY-{COUNT:05d}"}
        for since in (start, start.astimezone().isoformat()):
            assert {record["code"] for record in read(client_of(erp).products(since=since))} == codes

    def test_a_wrong_password_is_told_without_it(self, untouched: TrytonServer) -> None:
        with pytest.raises(FetchError, match="refused the user 'admin' of the database 'demo'") as caught:
            read(client_of(untouched, password=PASSWORD).products())
        assert caught.value.code == "not_authorized"
        assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"

    def test_an_unknown_database_is_told(self, untouched: TrytonServer) -> None:
        with pytest.raises(FetchError, match="is there a database 'elsewhere'"):
            read(client_of(untouched, database="elsewhere").products())

    def test_an_unknown_warehouse_is_a_wrong_setting(self, untouched: TrytonServer) -> None:
        """Tryton itself would answer a stock of 0 for each product."""
        assert len(read(client_of(untouched, warehouse="WH").products())) == COUNT
        with pytest.raises(ConfigurationError, match="does not see a warehouse with the code 'X'"):
            read(client_of(untouched, warehouse="X").products())

    def test_a_server_that_is_gone_is_unreachable(self, erp: TrytonServer) -> None:
        client = client_of(erp)
        erp.stop()
        with pytest.raises(FetchError, match="no answer from Tryton") as caught:
            read(client.products())
        assert caught.value.code == "unreachable"


# --- against prepared answers ---------------------------------------------------------------------

ROW = {
    "id": 1,
    "code": "A",
    "name": "Apple",
    "list_price_used": {"__class__": "Decimal", "decimal": "1.10"},
    "quantity": 2.5,
    "active": 1,
    "create_date": None,
    "write_date": None,
    "template.": {"id": 1, "active": 1, "write_date": None},
}
WRITTEN = dict(zip(("year", "month", "day", "hour", "minute", "second"), (2026, 1, 5, 8, 0, 0), strict=True))


def answer(result: object = None, **others: object) -> httpx.Response:
    return httpx.Response(200, json={"id": 0, **(others or {"result": result})})


class Script:
    """A Tryton that gives prepared answers in turn, by method; errors are raised."""

    def __init__(self, **answers: list[httpx.Response | Exception]) -> None:
        self.answers = {
            "login": [answer([1, "token", None]) for _ in range(9)],
            "get_preferences": [answer({"company": 1})],
            "logout": [answer()],
        } | answers
        self.calls: list[tuple[str, list[object]]] = []
        self.waits: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        name = body["method"].rpartition(".")[2]
        if name == "search_read" and "location" in body["method"]:
            return answer([{"id": 4}])
        self.calls.append((name, body["params"]))
        given = self.answers[name].pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    def client(self, **settings: Any) -> TrytonClient:
        named: dict[str, Any] = {"database": "shop", "username": "sync", "password": PASSWORD}
        return TrytonClient(
            "https://erp.example.com/",
            transport=httpx.MockTransport(self),
            sleep=self.waits.append,
            **named | settings,
        )

    def products(self) -> list[dict[str, Any]]:
        return read(self.client().products())

    def failure(self) -> FetchError:
        with pytest.raises(FetchError) as caught:
            self.products()
        assert PASSWORD not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
        return caught.value

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


def test_a_record_is_mapped_field_by_field() -> None:
    """The newest of the three times counts; on SQLite Tryton writes booleans as numbers."""
    row = ROW | {
        "create_date": {"__class__": "datetime", "microsecond": 1, **WRITTEN},
        "template.": {
            "id": 1,
            "active": 0,
            "write_date": {"__class__": "datetime", "microsecond": 2, **WRITTEN},
        },
    }
    assert Script(search_read=[answer([row])]).products() == [
        {
            "code": "A",
            "name": "Apple",
            "list_price": Decimal("1.10"),
            "quantity": Decimal("2.5"),
            "active": False,
            "write_date": datetime(2026, 1, 5, 8, 0, 0, 2, tzinfo=UTC),
        }
    ]


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ({"__class__": "Decimal", "decimal": "-0.10"}, Decimal("-0.10")),
        (
            {"__class__": "datetime", "microsecond": 7, **WRITTEN},
            datetime(2026, 1, 5, 8, 0, 0, 7, tzinfo=UTC),
        ),
        ({"__class__": "date", "year": 2026, "month": 1, "day": 5}, date(2026, 1, 5)),
        ({"__class__": "time", "hour": 8, "minute": 1, "second": 2, "microsecond": 3}, time(8, 1, 2, 3)),
        ({"__class__": "timedelta", "seconds": 1.5}, timedelta(seconds=1.5)),
        ({"__class__": "bytes", "base64": "AP8="}, b"\x00\xff"),
        ({"__class__": "Matrix", "rows": 2}, {"__class__": "Matrix", "rows": 2}),
    ],
)
def test_typed_objects_are_read_and_sent_back(typed: object, value: object) -> None:
    """The user's preferences go back to Tryton as the context of each call."""
    script = Script(
        get_preferences=[answer({"company": 1, "odd": typed})],
        search_read=[answer([ROW | {"name": typed}])],
    )
    assert script.products()[0]["name"] == value
    context = next(params for name, params in script.calls if name == "search_read")[-1]
    assert context == {
        "company": 1,
        "odd": typed,
        "locations": [4],
        "stock_skip_warehouse": True,
        "active_test": False,
    }


@pytest.mark.parametrize(
    "typed",
    [
        {"__class__": "Decimal", "decimal": "ten"},
        {"__class__": "Decimal"},
        {"__class__": "date", "year": 2026, "month": 13, "day": 1},
        {"__class__": "datetime", "year": "2026"},
        {"__class__": "bytes", "base64": 7},
    ],
)
def test_a_broken_typed_object_fails_the_fetch(typed: object) -> None:
    assert Script(search_read=[answer([ROW | {"name": typed}])]).failure().code == "bad_json"


def test_a_session_that_ended_is_opened_again() -> None:
    script = Script(search_read=[httpx.Response(401), answer([ROW])])
    assert len(script.products()) == 1
    assert script.names() == ["login", "get_preferences", "search_read", "login", "search_read", "logout"]


def test_a_session_that_keeps_ending_fails_the_fetch() -> None:
    script = Script(search_read=[httpx.Response(401), httpx.Response(401)])
    assert script.failure().code == "not_authorized"


def test_reads_are_repeated_after_the_wait_that_tryton_asks_for() -> None:
    busy = httpx.Response(503, headers={"Retry-After": "7"})
    script = Script(search_read=[busy, httpx.ConnectError("x"), httpx.Response(429), answer([ROW])])
    assert len(script.products()) == 1
    assert script.waits == [7.0, 1.0, 2.0]


def test_reads_end_after_the_last_attempt() -> None:
    script = Script(search_read=[httpx.Response(503) for _ in range(9)])
    assert (script.failure().code, script.names().count("search_read")) == ("http_status", 4)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (httpx.Response(401), "not_authorized"),
        (httpx.Response(429, headers={"Retry-After": "60"}), "rate_limited"),
        (httpx.Response(503), "http_status"),
        (httpx.ReadTimeout(PASSWORD), "unreachable"),
        (httpx.Response(302, headers={"Location": "https://elsewhere.example.com/"}), "redirect_refused"),
        (httpx.Response(200, html="<form>"), "bad_content_type"),
        (answer(None), "bad_page"),
        (httpx.Response(200, json=[]), "bad_page"),
        (answer(error=["LoginException", ["code", "The code", "char"]]), "not_authorized"),
        (answer(error=["'res.user'", ""]), "fetch_failed"),
    ],
)
def test_a_log_in_is_sent_once(given: httpx.Response | Exception, code: str) -> None:
    """Tryton counts failed log-ins and locks the user out."""
    script = Script(login=[given])
    assert script.failure().code == code
    assert (script.names(), script.waits) == (["login"], [])


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (httpx.Response(403), "not_authorized"),
        (httpx.Response(404), "http_status"),
        (httpx.Response(413), "http_status"),
        (httpx.Response(200, json={"id": 0}), "bad_page"),
        (httpx.Response(200, text="{", headers={"Content-Type": "application/json"}), "bad_json"),
        (answer({"not": "a list"}), "bad_page"),
        (answer([7]), "bad_page"),
        (answer([ROW, ROW]), "bad_page"),
        (answer([{"id": 1, "code": "A"}]), "bad_page"),
        (answer(error=["UserError", ["You may not read products.", "", None]]), "fetch_failed"),
        (answer(error="odd"), "fetch_failed"),
    ],
)
def test_an_unusable_answer_fails_the_fetch(given: httpx.Response, code: str) -> None:
    assert Script(search_read=[given]).failure().code == code


def test_a_refusal_is_told_and_a_defect_is_not() -> None:
    """The text of a defect may quote a record."""
    refused = answer(error=["UserError", ["You may not read products.", "", None]])
    assert "You may not read products." in str(Script(search_read=[refused]).failure())
    defect = answer(error=["could not convert 'Apple'", ""])
    assert "Apple" not in str(Script(search_read=[defect]).failure())


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_defs.connectors.tryton, "MAX_ANSWER_BYTES", 200)
    assert Script(search_read=[answer([ROW])]).failure().code == "response_too_large"


@pytest.mark.parametrize("since", [datetime(2026, 1, 5), "2026-01-05T08:00:00", "yesterday"])
def test_a_since_without_a_time_zone_is_refused_at_once(since: datetime | str) -> None:
    with pytest.raises(ValueError, match=r"time zone|isoformat"):
        Script().client().products(since)


@pytest.mark.parametrize(
    "settings",
    [
        {"database": ""},
        {"username": ""},
        {"username": "a:b"},
        {"page_size": 0},
        {"timeout_s": 0},
        {"attempts": 0},
    ],
)
def test_settings_of_no_use_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        Script().client(**settings)


@pytest.mark.parametrize("url", ["", "erp.example.com", "ftp://x", "https://u:pw@x", "https://x?k=pw", "http://x:y"])
def test_a_url_that_is_not_plain_is_refused_unseen(url: str) -> None:
    with pytest.raises(ValueError, match="url must be") as caught:
        TrytonClient(url, database="shop", username="sync", password=PASSWORD)
    assert "pw" not in str(caught.value)


def test_the_password_is_in_no_repr() -> None:
    assert PASSWORD not in f"{Script().client()!r}"


def test_examples_in_docstrings_run() -> None:
    result = doctest.testmod(sync_defs.connectors.tryton)
    assert result.attempted > 0
    assert result.failed == 0
