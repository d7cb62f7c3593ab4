"""What an inventory item and a customer look like on the wire, and which changes are accepted."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import cast

Record = dict[str, object]
"""One item or customer as JSON values; its keys stand in wire order."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_ID_CHARS = 255
MAX_INTEGER = 2**31 - 1
_DECIMAL = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?")
_ADDRESS_FIELDS = ("street", "city", "postcode", "country")


class InvalidRecordError(ValueError):
    """A request holds a value that the ERP does not accept."""


class Kind(StrEnum):
    """The two kinds of records; the value is the word in URLs and in webhook types."""

    INVENTORY = "inventory"
    CUSTOMERS = "customers"

    @property
    def id_field(self) -> str:
        """Return the field that identifies a record."""
        return "sku" if self is Kind.INVENTORY else "number"


def parse_instant(text: str) -> datetime:
    """Return the aware datetime that an ISO 8601 text stands for.

    A space where the offset's sign belongs counts as ``+``: that is what an unescaped plus in a URL becomes.

    Raises:
        InvalidRecordError: It is not ISO 8601, or has no UTC offset.
    """
    try:
        instant = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError as error:
        message = "a time must be ISO 8601"
        raise InvalidRecordError(message) from error
    if instant.tzinfo is None:
        message = "a time needs a UTC offset"
        raise InvalidRecordError(message)
    return instant


def to_microseconds(instant: datetime) -> int:
    """Return the microseconds since 1970-01-01 UTC, exactly."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def to_wire(microseconds: int) -> str:
    """Return microseconds since 1970 as an ISO 8601 text in UTC, always with six decimals."""
    return (EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")


def check_id(record_id: str) -> str:
    """Return the id if it is usable as one.

    Raises:
        InvalidRecordError: It is empty, too long or no valid Unicode.
    """
    _text(record_id)
    if not 0 < len(record_id) <= MAX_ID_CHARS:
        message = f"an id has 1 to {MAX_ID_CHARS} characters"
        raise InvalidRecordError(message)
    return record_id


def changed(kind: Kind, record: Mapping[str, object], fields: Mapping[str, object]) -> Record:
    """Return the record with the given fields checked and replaced.

    The id and the fields that the ERP sets (``updated_at``, ``etag``) are ignored, so that a record that
    was read may be sent back.

    Raises:
        InvalidRecordError: A field is unknown, or its value is of the wrong kind.
    """
    result = dict(record)
    rules = _RULES[kind]
    for name, value in fields.items():
        if name in {kind.id_field, "updated_at", "etag"}:
            continue
        if name not in rules:
            message = f"unknown field {name!r}"
            raise InvalidRecordError(message)
        try:
            result[name] = rules[name](value)
        except InvalidRecordError as error:
            message = f"{name}: {error}"
            raise InvalidRecordError(message) from error
    return result


def blank(kind: Kind, record_id: str) -> Record:
    """Return a new record with its id and neutral values."""
    if kind is Kind.INVENTORY:
        return {
            "sku": record_id,
            "name": record_id,
            "quantity": 0,
            "price": "0.00",
            "currency": "EUR",
            "active": True,
        }
    address = {"street": "", "city": "", "postcode": "", "country": "DE"}
    return {
        "number": record_id,
        "name": record_id,
        "email": "",
        "address": address,
        "credit_limit": "0.00",
        "blocked": False,
    }


def stamped(kind: Kind, record: Mapping[str, object], updated_at: str) -> Record:
    """Return the record with its time and, for inventory, the etag that goes with the new content."""
    result = {**record, "updated_at": updated_at}
    if kind is Kind.INVENTORY:
        result.pop("etag", None)
        canonical = json.dumps(result, sort_keys=True, separators=(",", ":"))
        result["etag"] = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    return result


def _text(value: object) -> str:
    if not isinstance(value, str):
        message = "must be text"
        raise InvalidRecordError(message)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        message = "must be valid Unicode"
        raise InvalidRecordError(message) from error
    return value


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_INTEGER:
        message = "must be a 32-bit integer"
        raise InvalidRecordError(message)
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        message = "must be true or false"
        raise InvalidRecordError(message)
    return value


def _decimal_text(value: object) -> str:
    # Text is kept as it came: "1.1" and "1.10" are two wire forms of one price.
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    text = format(value, "f") if is_number and isinstance(value, Decimal) else str(value)
    if not (is_number or isinstance(value, str)) or not _DECIMAL.fullmatch(text):
        message = "must be a decimal as text, such as '19.90'"
        raise InvalidRecordError(message)
    return text


def _address(value: object) -> Record:
    fields = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    if set(fields) != set(_ADDRESS_FIELDS):
        message = f"must be an object with {', '.join(_ADDRESS_FIELDS)}"
        raise InvalidRecordError(message)
    return {name: _text(fields[name]) for name in _ADDRESS_FIELDS}


_RULES: Mapping[Kind, Mapping[str, Callable[[object], object]]] = {
    Kind.INVENTORY: {
        "name": _text,
        "quantity": _integer,
        "price": _decimal_text,
        "currency": _text,
        "active": _boolean,
    },
    Kind.CUSTOMERS: {
        "name": _text,
        "email": _text,
        "address": _address,
        "credit_limit": _decimal_text,
        "blocked": _boolean,
    },
}
