"""The demo ERP over real HTTP: its data and its changes."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from sync_defs.testing.demo_erp import DemoErp, ErpState, Kind
from tests.testing.conftest import instant, listing


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoErp]:
    """One ERP for the requests that change nothing."""
    with DemoErp(path=tmp_path_factory.mktemp("standing") / "erp.sqlite") as erp:
        yield erp


@pytest.fixture(scope="module")
def standing_http(standing: DemoErp) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=standing.url) as http:
        yield http


# Data and listings.


def test_a_new_erp_has_the_same_data_every_time(tmp_path: Path) -> None:
    first, second = ErpState(tmp_path / "a"), ErpState(tmp_path / "b")
    try:
        for kind, count in ((Kind.INVENTORY, 999), (Kind.CUSTOMERS, 120)):
            assert first.records(kind) == second.records(kind)
            assert len({str(record[kind.id_field]) for record in first.records(kind)}) == count
    finally:
        first.close()
        second.close()


def test_records_have_the_documented_shape(standing_http: httpx.Client) -> None:
    item = standing_http.get("/api/inventory/SKU-0001").json()
    assert re.fullmatch("[0-9a-f]{16}", item.pop("etag"))
    assert item == {
        "sku": "SKU-0001",
        "name": "Brass hinge 1",
        "quantity": 12,
        "price": "19.90",
        "currency": "EUR",
        "active": True,
        "updated_at": "2026-01-05T08:00:00+02:00",
    }
    assert standing_http.get("/api/customers/C-0004").json() == {
        "number": "C-0004",
        "name": "Eșref Li",
        "email": "customer4@example.com",
        "address": {"street": "Hauptstraße 4", "city": "Dresden", "postcode": "01067", "country": "DE"},
        "credit_limit": "500.00",
        "blocked": False,
        "updated_at": "2026-01-05T06:07:00.123456Z",
    }


def test_the_data_is_as_untidy_as_real_data(standing: DemoErp) -> None:
    items = standing.inventory()
    prices = [str(item["price"]) for item in items]
    assert all(re.fullmatch(r"\d+(\.\d{1,2})?", price) for price in prices)
    assert any(re.fullmatch(r"\d+\.\d", price) for price in prices)
    assert len({instant(item).utcoffset() for item in items}) == 5
    assert len({instant(item) for item in items}) < len(items)
    assert all(Decimal(price) >= 0 for price in prices)


@pytest.mark.parametrize("limit", [1000, 999, 998, 100, 7])
def test_pages_hold_everything_once_in_order(standing_http: httpx.Client, standing: DemoErp, limit: int) -> None:
    pages = listing(standing_http, "/api/inventory", limit=limit)
    items = [item for page in pages for item in page]
    assert all(len(page) == limit for page in pages[:-1])
    assert items == sorted(standing.inventory(), key=lambda item: (instant(item), item["sku"]))


def test_the_default_page_has_200_records(standing_http: httpx.Client) -> None:
    assert [len(page) for page in listing(standing_http, "/api/inventory")] == [200, 200, 200, 200, 199]


def test_a_change_during_paging_comes_again_at_the_end(http: httpx.Client, erp: DemoErp) -> None:
    first = http.get("/api/inventory", params={"limit": 600}).json()
    changed = erp.change("SKU-0001", quantity=13)
    rest = http.get("/api/inventory", params={"limit": 600, "page_token": first["next_page_token"]}).json()
    assert len(rest["items"]) == 400
    assert rest["items"][-1] == changed


def test_since_is_inclusive_whatever_the_offset(http: httpx.Client, erp: DemoErp) -> None:
    border = instant(erp.inventory()[500])
    expected = [item for item in erp.inventory() if instant(item) >= border]
    assert 0 < len(expected) < 999
    for text in (
        border.isoformat(),
        border.astimezone(UTC).isoformat(),
        border.isoformat().replace("+", " "),
    ):
        assert listing(http, "/api/inventory", since=text, limit=1000) == [expected]
    later = (border + timedelta(microseconds=1)).isoformat()
    assert len(listing(http, "/api/inventory", since=later, limit=1000)[0]) < len(expected)


def test_records_are_found_by_id(standing_http: httpx.Client) -> None:
    answer = standing_http.get("/api/inventory", params={"sku": ["SKU-0009", "SKU-0003", "nope", "SKU-0003"]}).json()
    assert [item["sku"] for item in answer["items"]] == ["SKU-0003", "SKU-0009"]
    assert answer["next_page_token"] is None
    answer = standing_http.get("/api/customers", params={"number": "C-0120"}).json()
    assert [customer["number"] for customer in answer["items"]] == ["C-0120"]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("kind", ["inventory", "customers"])
def test_an_unknown_id_is_a_404_in_json(standing_http: httpx.Client, method: str, kind: str) -> None:
    answer = standing_http.request(method, f"/api/{kind}/nope", json={})
    assert (answer.status_code, answer.json()) == (404, {"error": f"no such record in {kind}"})


def test_health(standing_http: httpx.Client) -> None:
    assert standing_http.get("/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "limit=1e9",
        "since=yesterday",
        "since=2026-01-05T08:00:00",
    ]
    + [f"page_token={token}" for token in ("x", "e30=", "WzFd", "WyJhIiwxLDIsM10=", "%F0%9F%98%80")],
)
def test_a_query_without_meaning_is_a_400(standing_http: httpx.Client, query: str) -> None:
    answer = standing_http.get(f"/api/inventory?{query}")
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


# Changes.


def test_patch_changes_fields_and_moves_the_time(http: httpx.Client, erp: DemoErp) -> None:
    before = http.get("/api/inventory/SKU-0001").json()
    answer = http.patch("/api/inventory/SKU-0001", json={"quantity": 3, "price": "1.1", "name": "Türgriff"})
    after = answer.json()
    assert after == before | {
        "quantity": 3,
        "price": "1.1",
        "name": "Türgriff",
        "updated_at": after["updated_at"],
        "etag": after["etag"],
    }
    assert re.fullmatch(r"[-0-9]+T[:0-9]+\.[0-9]{6}\+00:00", after["updated_at"])
    assert after["etag"] != before["etag"]
    assert erp.inventory()[-1] == after


def test_put_creates_and_replaces(http: httpx.Client, erp: DemoErp) -> None:
    answer = http.put("/api/inventory/NEW%2F1", json={"quantity": 3})
    created = answer.json()
    assert answer.status_code == 201
    assert (created["sku"], created["quantity"], created["price"]) == ("NEW/1", 3, "0.00")
    answer = http.put("/api/inventory/NEW%2F1", json=created | {"price": "2.50"})
    assert (answer.status_code, answer.json()["price"]) == (200, "2.50")
    assert len(erp.inventory()) == 1000


def test_delete_removes(http: httpx.Client, erp: DemoErp) -> None:
    assert http.delete("/api/inventory/SKU-0001").status_code == 204
    assert http.delete("/api/inventory/SKU-0001").status_code == 404
    assert len(erp.inventory()) == 998


def test_customers_change_as_items_do(http: httpx.Client, erp: DemoErp) -> None:
    address = {"street": "Neue Straße 1", "city": "Görlitz", "postcode": "02826", "country": "DE"}
    changed = http.patch("/api/customers/C-0001", json={"address": address, "blocked": True}).json()
    assert (changed["address"], changed["blocked"]) == (address, True)
    assert http.put("/api/customers/C-9999", json={"credit_limit": "7"}).status_code == 201
    assert http.delete("/api/customers/C-0002").status_code == 204
    assert erp.change_customer("C-0003", email="new@example.com")["email"] == "new@example.com"
    assert erp.create_customer("C-9998")["number"] == "C-9998"
    assert erp.delete_customer("C-9998") is True
    assert len(erp.customers()) == 120


@pytest.mark.parametrize(
    ("record", "body"),
    [
        ("inventory/SKU-0001", '{"quantity": "3"}'),
        ("inventory/SKU-0001", '{"quantity": true}'),
        ("inventory/SKU-0001", '{"quantity": 2147483648}'),
        ("inventory/SKU-0001", '{"price": "1,10"}'),
        ("inventory/SKU-0001", '{"price": "NaN"}'),
        ("inventory/SKU-0001", '{"price": true}'),
        ("inventory/SKU-0001", '{"name": "\\ud800"}'),
        ("inventory/SKU-0001", '{"active": 1}'),
        ("inventory/SKU-0001", '{"weight": 1}'),
        ("inventory/SKU-0001", "[]"),
        ("inventory/SKU-0001", "{"),
        ("inventory/" + "x" * 256, "{}"),
        ("customers/C-0001", '{"address": {"city": "Berlin"}}'),
        ("customers/C-0001", '{"address": "Berlin"}'),
        ("customers/C-0001", '{"credit_limit": null}'),
    ],
)
def test_a_bad_value_is_a_400_and_changes_nothing(
    standing_http: httpx.Client, standing: DemoErp, record: str, body: str
) -> None:
    before = standing.inventory(), standing.customers()
    answer = standing_http.put(f"/api/{record}", content=body)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert (standing.inventory(), standing.customers()) == before


def test_times_only_move_forward_when_the_clock_does_not(path: Path) -> None:
    state = ErpState(path, clock=lambda: datetime(2020, 1, 1, tzinfo=UTC))
    try:
        latest = max(instant(item) for item in state.records(Kind.INVENTORY))
        assert state.delete(Kind.INVENTORY, "SKU-0999")
        times = [state.put(Kind.INVENTORY, "SKU-0001", {})[0]["updated_at"] for _ in range(3)]
        assert [datetime.fromisoformat(str(time)) for time in times] == [
            latest + timedelta(microseconds=step) for step in (2, 3, 4)
        ]
    finally:
        state.close()


def test_changes_from_many_threads_are_all_kept(erp: DemoErp) -> None:
    def work(worker: int) -> None:
        with httpx.Client(base_url=erp.url) as http:
            for step in range(10):
                http.patch(f"/api/inventory/SKU-{worker:04d}", json={"quantity": step}).raise_for_status()
                erp.change(f"SKU-{worker:04d}", price=f"{step}.00")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(1, 9)))
    last = erp.inventory()[-8:]
    assert {item["sku"]: (item["quantity"], item["price"]) for item in last} == {
        f"SKU-{worker:04d}": (9, "9.00") for worker in range(1, 9)
    }
    assert len({item["updated_at"] for item in last}) == 8


def test_changes_survive_a_restart(path: Path) -> None:
    with DemoErp(path=path) as erp:
        erp.delete("SKU-0001")
        erp.change("SKU-0002", price=Decimal("1.10"))
        expected = erp.inventory()
    with DemoErp(path=path) as erp:
        assert erp.inventory() == expected


def test_helpers_refuse_what_is_not_there(erp: DemoErp) -> None:
    with pytest.raises(ValueError, match="there is no sku 'nope'"):
        erp.change("nope", quantity=1)
    with pytest.raises(ValueError, match="quantity: must be a 32-bit integer"):
        erp.change("SKU-0001", quantity=2**40)
    assert erp.delete("nope") is False


# Simulation.


def test_the_same_seed_makes_the_same_changes(tmp_path: Path) -> None:
    done = []
    for name in ("a", "b"):
        with DemoErp(path=tmp_path / name) as erp:
            body = {"changes": 10, "creates": 2, "deletes": 1, "seed": 7}
            summary = httpx.post(f"{erp.url}/api/simulate", json=body).json()
            items = [
                {key: value for key, value in item.items() if key not in {"updated_at", "etag"}}
                for item in erp.inventory()
            ]
            done.append((summary, items))
    assert done[0] == done[1]


def test_a_simulation_changes_what_it_says_and_nothing_else(erp: DemoErp) -> None:
    before = {str(item["sku"]): item for item in erp.inventory()}
    done = erp.simulate(changes=50, creates=3, deletes=5, seed=1)
    after = {str(item["sku"]): item for item in erp.inventory()}
    assert (len(done.changed), len(done.created), len(done.deleted)) == (50, 3, 5)
    assert sorted(after.keys() - before.keys()) == done.created == ["SKU-1000", "SKU-1001", "SKU-1002"]
    assert before.keys() - after.keys() == set(done.deleted)
    differing = {
        sku
        for sku in before.keys() & after.keys()
        if any(before[sku][field] != after[sku][field] for field in ("price", "quantity"))
    }
    assert differing == set(done.changed)


def test_a_deleted_sku_is_not_given_out_again(erp: DemoErp) -> None:
    (first,) = erp.simulate(changes=0, creates=1).created
    erp.delete(first)
    erp.create("SKU-1001")
    assert erp.simulate(changes=0, creates=1).created == ["SKU-1002"]


@pytest.mark.parametrize("body", [{"changes": -1}, {"changes": "1"}, {"changes": True}, {"more": 1}, {"seed": "x"}])
def test_a_simulation_without_meaning_is_a_400(standing_http: httpx.Client, body: dict) -> None:
    assert standing_http.post("/api/simulate", json=body).status_code == 400
