"""The demo ERP's faults and refusals over real HTTP."""

from pathlib import Path

import httpx
import pytest

from sync_defs.testing.demo_erp import DemoErp, FaultSwitches
from tests.testing.conftest import listing


def test_rate_limit_answers_429_so_many_times(http: httpx.Client, erp: DemoErp) -> None:
    assert http.post("/api/faults", json={"rate_limit": 2}).json()["rate_limit"] == 2
    answers = [http.get("/api/inventory") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "1"
    assert erp.faults == FaultSwitches()


def test_server_errors_answer_500_so_many_times(http: httpx.Client) -> None:
    http.post("/api/faults", json={"server_errors": 1})
    assert [http.get("/api/customers").status_code for _ in range(2)] == [500, 200]


def test_a_login_page_is_html_with_status_200(http: httpx.Client, erp: DemoErp) -> None:
    erp.inject(html_login_page=1)
    answer = http.get("/api/inventory")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert http.get("/api/inventory").headers["content-type"] == "application/json"


def test_the_first_items_come_malformed_by_turns(http: httpx.Client, erp: DemoErp) -> None:
    good = [dict(item) for item in erp.inventory()]
    erp.inject(malformed_items=4)
    bad = [item for page in listing(http, "/api/inventory", limit=3) for item in page]
    assert [item.get("sku") for item in bad[:4]] == [None, good[1]["sku"], good[2]["sku"], None]
    assert (bad[1]["price"], bad[2]["quantity"]) == ("abc", 2**40)
    assert bad[4:] == good[4:]
    assert erp.inventory() == good
    (customers,) = listing(http, "/api/customers")
    assert "number" not in customers[0]
    assert (customers[1]["credit_limit"], customers[2]["blocked"]) == ("abc", 2**40)


def test_pages_behind_the_cut_answer_500_until_cleared(http: httpx.Client, erp: DemoErp) -> None:
    erp.inject(truncate_after_pages=1)
    token = http.get("/api/inventory").json()["next_page_token"]
    behind = {"page_token": token}
    assert [http.get("/api/inventory", params=behind).status_code for _ in range(2)] == [500, 500]
    assert http.delete("/api/faults").status_code == 204
    assert http.get("/api/inventory", params=behind).status_code == 200


def test_a_slow_page_lets_other_requests_through(http: httpx.Client, erp: DemoErp) -> None:
    erp.inject(slow_page_s=30)
    with pytest.raises(httpx.ReadTimeout):
        http.get("/api/inventory", timeout=0.05)
    assert http.get("/healthz").status_code == 200
    erp.clear_faults()
    assert http.get("/api/inventory").status_code == 200


@pytest.mark.parametrize(
    "body",
    [{"rate_limit": -1}, {"rate_limit": True}, {"rate_limit": 1.5}, {"unknown": 1}, {"slow_page_s": "x"}],
)
def test_a_fault_without_meaning_is_a_400(http: httpx.Client, body: dict) -> None:
    assert http.post("/api/faults", json=body).status_code == 400
    assert http.get("/api/faults").json()["rate_limit"] == 0


def test_without_the_token_only_health_answers(path: Path) -> None:
    with DemoErp(path=path, api_token="right") as erp, httpx.Client(base_url=erp.url) as http:
        for authorization in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "right"}):
            answer = http.get("/api/inventory", headers=authorization)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert http.get("/api/inventory", headers={"Authorization": "Bearer right"}).status_code == 200
        assert http.get("/healthz").status_code == 200
