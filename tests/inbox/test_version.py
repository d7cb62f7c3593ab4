"""The order of versions on arrival."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from sync_defs.inbox.version import is_older, version_text

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)


def text(value):
    return version_text(value, now=NOW)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (9, 10),
        ("9", "10"),
        (Decimal("1.5"), 2),
        (1, Decimal("1.0000001")),
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00.5Z"),
        ("2026-11-23T11:00:00+02:00", "2026-11-23T10:00:00Z"),
        (date(2026, 11, 22), "2026-11-23T00:00:00"),
        (datetime(2026, 11, 23, 11, tzinfo=timezone(timedelta(hours=2))), "2026-11-23T10:00:00Z"),
    ],
    ids=repr,
)
def test_orders_numbers_and_instants(older, newer):
    assert is_older(text(older), than=text(newer))
    assert not is_older(text(newer), than=text(older))
    assert not is_older(text(older), than=text(older))


@pytest.mark.parametrize(
    "value",
    [None, True, "v10", "", 1.5, [], {}, Decimal("NaN"), "9" * 41, "2999-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"],
    ids=repr,
)
def test_has_no_order_for(value):
    assert text(value) is None
    assert not is_older(text(value), than=text(5))
    assert not is_older(text(5), than=text(value))


def test_two_kinds_count_in_the_order_of_arrival():
    assert not is_older(text(5), than=text("2026-01-01T00:00:00Z"))
    assert not is_older(text("2026-01-01T00:00:00Z"), than=text(5))


def test_damaged_stored_text_compares_with_nothing():
    assert not is_older("n:1", than="n:x")
    assert not is_older("t:2026-01-01", than="t:2026-01-02T00:00:00+00:00")
