"""The 999 inventory items and 120 customers of a new ERP: always the same, and untidy as real ones are.

Among them are prices in several wire forms ("1.1" for 1.10), times in several UTC offsets, records with the
same time, postcodes with a leading zero and names beyond ASCII.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

from sync_defs.testing.demo_erp.records import Kind, Record, stamped

INVENTORY_COUNT = 999
CUSTOMER_COUNT = 120

_START = datetime(2026, 1, 5, 6, tzinfo=UTC)
_OFFSETS = (120, 0, -300, 330, 60)
_MATERIALS = ("Steel", "Brass", "Oak", "Zürich", "Nylon", "Smoked “Reserve”", "Čapek")
_THINGS = ("bolt M8", "hinge", "shelf, 3-part", "door handle", "cable 1.5 mm²", "lamp", "saucer", "日傘")
_FIRST = ("Ada", "Björn", "Chloé", "Dimitri", "Eșref", "Fatima", "George")
_LAST = ("Müller", "O'Neill", "Nowak", "Sørensen", "da Silva", "Li", "Test")
_CITIES = (("Dresden", "01067"), ("Berlin", "10115"), ("Leipzig", "04109"), ("Weimar", "99423"))


def seed_records() -> Iterator[tuple[Kind, str, datetime, Record]]:
    """Yield each record of a new ERP with its kind, id and time, inventory first."""
    for number in range(1, INVENTORY_COUNT + 1):
        instant = _instant(number)
        record = stamped(Kind.INVENTORY, _item(number), _wire_time(instant))
        yield Kind.INVENTORY, f"SKU-{number:04d}", instant, record
    for number in range(1, CUSTOMER_COUNT + 1):
        instant = _instant(number)
        record = stamped(Kind.CUSTOMERS, _customer(number), _wire_time(instant))
        yield Kind.CUSTOMERS, f"C-{number:04d}", instant, record


def _item(number: int) -> Record:
    return {
        "sku": f"SKU-{number:04d}",
        "name": f"{_MATERIALS[number % 7]} {_THINGS[number % 8]} {number}",
        "quantity": (number * 37 - 25) % 251,
        "price": _price(number),
        "currency": "EUR" if number % 50 else "CHF",
        "active": number % 40 != 0,
    }


def _customer(number: int) -> Record:
    city, postcode = _CITIES[number % 4]
    first, last = _FIRST[number % 7], _LAST[number * 3 % 7]
    return {
        "number": f"C-{number:04d}",
        "name": f"{first} {last}",
        "email": f"customer{number}@example.com",
        "address": {
            "street": f"Hauptstraße {number}",
            "city": city,
            "postcode": postcode,
            "country": "DE",
        },
        "credit_limit": "500.00" if number % 3 else str(number * 100),
        "blocked": number % 30 == 0,
    }


def _price(number: int) -> str:
    cents = (1990 + (number - 1) * 1731) % 49901
    text = f"{Decimal(cents).scaleb(-2):.2f}"
    return text.rstrip("0").rstrip(".") if number % 20 == 11 else text


def _instant(number: int) -> datetime:
    # Three records share a time, a fourth of all differs by a fraction of a second.
    instant = _START + timedelta(minutes=7 * ((number - 1) // 3))
    return instant + timedelta(microseconds=123456) if number % 4 == 0 else instant


def _wire_time(instant: datetime) -> str:
    minutes = _OFFSETS[(instant - _START) // timedelta(minutes=7) % len(_OFFSETS)]
    text = instant.astimezone(timezone(timedelta(minutes=minutes))).isoformat()
    return text.replace("+00:00", "Z")
