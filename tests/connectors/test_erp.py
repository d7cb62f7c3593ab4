"""The ERP client, against the demo ERP."""

import doctest
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

import sync_defs.connectors.erp
import sync_defs.connectors.http
from sync_defs.connectors import ErpClient, JsonClient
from sync_defs.errors import FetchError
from sync_defs.testing.demo_erp import DemoErp

TOKEN = "t0p-secret-token"
BASE = "https://erp.example.com"


@pytest.fixture
def erp(tmp_path: Path) -> Iterator[DemoErp]:
    with DemoErp(path=tmp_path / "erp.sqlite", api_token=TOKEN) as erp:
        yield erp


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(erp: DemoErp, waits: list[float]) -> ErpClient:
    return ErpClient(erp.url, token=TOKEN, page_size=400, sleep=waits.append)


def test_inventory_comes_in_pages_and_complete(erp: DemoErp, client: ErpClient) -> None:
    pages = list(client.inventory())
    assert [len(page) for page in pages] == [400, 400, 199]
    assert [item for page in pages for item in page] == erp.inventory()


def test_customers_come_complete(erp: DemoErp, client: ErpClient) -> None:
    assert list(client.customers()) == [erp.customers()]


@pytest.mark.parametrize("as_text", [True, False])
def test_since_gives_only_what_changed(erp: DemoErp, client: ErpClient, as_text: bool) -> None:
    first = erp.change("SKU-0500", quantity=1)
    second = erp.change("SKU-0002", quantity=2)
    since = str(first["updated_at"])
    assert list(client.inventory(since=since if as_text else datetime.fromisoformat(since))) == [[first, second]]


def test_since_without_a_zone_is_refused_before_the_fetch(client: ErpClient) -> None:
    with pytest.raises(ValueError, match="time zone"):
        client.inventory(since=datetime(2026, 1, 5))


def test_items_are_found_by_sku_and_customers_by_number(erp: DemoErp, client: ErpClient) -> None:
    odd = erp.create("A&B=ü #1/x", name="odd")
    items = client.inventory_items(["SKU-0007", "A&B=ü #1/x", "unknown", "SKU-0007"])
    assert {str(item["sku"]) for item in items} == {"SKU-0007", "A&B=ü #1/x"}
    assert odd in items
    assert len(items) == 2
    assert [one["number"] for one in client.customers_by_number(iter(["C-0120"]))] == ["C-0120"]
    assert client.inventory_items([]) == []


def test_any_number_of_skus_is_asked_for_in_batches(erp: DemoErp, client: ErpClient) -> None:
    skus = [str(item["sku"]) for item in erp.inventory()]
    found = client.inventory_items(skus)
    assert sorted(str(item["sku"]) for item in found) == sorted(skus)


def test_rate_limit_is_waited_out(erp: DemoErp, client: ErpClient, waits: list[float]) -> None:
    erp.inject(rate_limit=2)
    assert sum(len(page) for page in client.inventory()) == 999
    assert waits == [1.0, 1.0]


def test_a_listing_that_breaks_off_is_an_error(erp: DemoErp, client: ErpClient, waits: list[float]) -> None:
    erp.inject(truncate_after_pages=1)
    pages = client.inventory()
    assert len(next(pages)) == 400
    with pytest.raises(FetchError, match="GET /api/inventory: answered 500") as caught:
        next(pages)
    assert caught.value.code == "http_status"
    assert len(waits) == 4


def test_a_login_page_is_an_error(erp: DemoErp, client: ErpClient) -> None:
    erp.inject(html_login_page=1)
    with pytest.raises(FetchError, match=r"answered 200 with text/html, not JSON") as caught:
        list(client.customers())
    assert caught.value.code == "bad_content_type"


def test_a_wrong_token_is_told_without_showing_it(erp: DemoErp) -> None:
    with pytest.raises(FetchError) as caught:
        list(ErpClient(erp.url, token="wrong-token").inventory())
    assert (caught.value.code, str(caught.value)) == (
        "not_authorized",
        "GET /api/inventory: answered 401; check the token",
    )


def test_nobody_listening_is_unreachable_after_five_attempts(erp: DemoErp, client: ErpClient, waits) -> None:
    erp.stop()
    with pytest.raises(FetchError, match=r"no answer \(ConnectError\)") as caught:
        list(client.inventory())
    assert caught.value.code == "unreachable"
    assert len(waits) == 4


def test_the_token_is_in_no_repr() -> None:
    for client in (ErpClient(BASE, token=TOKEN), JsonClient(BASE, token=TOKEN)):
        assert TOKEN not in f"{client!r} {client}"


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="page_size"):
        ErpClient(BASE, page_size=0)
    with pytest.raises(ValueError, match="must be positive"):
        ErpClient(BASE, max_pages=0)
    with pytest.raises(ValueError, match="must be positive"):
        JsonClient(BASE, timeout_s=0)


@pytest.mark.parametrize("module", [sync_defs.connectors.erp, sync_defs.connectors.http])
def test_examples_in_docstrings_run(module) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("module", ["sync_defs.connectors", "sync_defs.testing.demo_erp"])
def test_importing_stays_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('dagster', 'pandas', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
