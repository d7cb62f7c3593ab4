"""A demo ERP of the test's own, and how its answers are read."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from sync_defs.testing.demo_erp import DemoErp


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ERP keeps its state; no file is there yet."""
    return tmp_path / "erp.sqlite"


@pytest.fixture
def erp(path: Path) -> Iterator[DemoErp]:
    """A running ERP without faults or webhooks."""
    with DemoErp(path=path) as erp:
        yield erp


@pytest.fixture
def http(erp: DemoErp) -> Iterator[httpx.Client]:
    """A client of that ERP."""
    with httpx.Client(base_url=erp.url) as http:
        yield http


def instant(record: Mapping[str, object]) -> datetime:
    """Return when a record was changed."""
    return datetime.fromisoformat(str(record["updated_at"]))


def listing(http: httpx.Client, path: str, **params) -> list[list[dict]]:
    """Return all pages of a listing."""
    pages: list[list[dict]] = []
    token = None
    while token is not None or not pages:
        answer = http.get(path, params=params | ({"page_token": token} if token else {}))
        assert answer.status_code == 200, answer.text
        pages.append(answer.json()["items"])
        token = answer.json()["next_page_token"]
    return pages
