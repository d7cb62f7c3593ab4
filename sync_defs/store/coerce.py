"""Coercion: from what a source says to what a column holds, one value at a time, the same on every database.

A value that does not fit is refused here with a reason, before a driver could change it silently (SQLite keeps
'abc' or 2**31 in an INTEGER and NaN as NULL; PostgreSQL refuses NUL in text).
"""

import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any, TypeGuard, cast

from sqlalchemy import Column, types

from sync_defs.errors import RecordError
from sync_defs.store.record_text import decode_record, encode_record
from sync_defs.store.scalars import plain_value
from sync_defs.store.texts import checked_text, json_value

__all__ = [
    "EXACT",
    "Coercer",
    "VersionCheck",
    "canonical",
    "check_version",
    "coercer",
    "decode_record",
    "encode_record",
    "is_decimal",
]

Coercer = Callable[[Any], Any]

_INTEGER_TEXT = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER_TEXT = re.compile(r"[+-]?([0-9]{1,1000}(\.[0-9]{0,1000})?|\.[0-9]{1,1000})([eE][+-]?[0-9]{1,4})?")
_MAX_EXPONENT = 307
"""Numbers of more digits before the point than a double has are not held by every database."""
_FUTURE = timedelta(hours=24)
EXACT = Context(prec=1000, rounding=ROUND_HALF_UP)
"""Digits enough for every number that is taken, whatever context the calling thread has."""


def coercer(column: Column[Any], *, keeps_time_zones: bool, keeps_decimals: bool = True) -> Coercer:
    """Return the function that turns a raw value into the column's Python value, or None for an absent one.

    It raises `RecordError` with the column as field, a stable code, and a reason without the value.

    Args:
        column: a column of the target.
        keeps_time_zones: whether the database keeps the zone of a time.
        keeps_decimals: whether it keeps decimal digits; where it makes floats of them, a number that would come back
            as another one is refused.
    """
    convert = _converter(column.type, keeps_time_zones=keeps_time_zones, keeps_decimals=keeps_decimals)
    name, nullable = column.name, bool(column.nullable)

    def coerce(value: Any) -> Any:
        value = plain_value(value)
        if value is None:
            if not nullable:
                raise RecordError("a value is required", code="not_null", field=name)
            return None
        try:
            return convert(value)
        except RecordError as error:
            raise RecordError(error.reason, code=error.code, field=name) from None

    return coerce


def check_version(value: Any, now: datetime, field: str) -> None:
    """Refuse a version from the far future: it would hold its row for ever.

    Raises:
        RecordError: the version is a time more than 24 hours ahead.
    """
    if isinstance(value, datetime):
        instant = value if value.tzinfo else value.replace(tzinfo=UTC)
        if instant > now + _FUTURE:
            raise RecordError("the version lies over 24 hours in the future", code="version_in_future", field=field)


class VersionCheck:
    """`check_version` for many coerced values; the clock is read only for one that an earlier reading rules out."""

    def __init__(self, now: Callable[[], datetime], field: str) -> None:
        """Compare with a clock; the field is named in the error."""
        self._now = now
        self._field = field
        self._aware = datetime(1, 1, 1, tzinfo=UTC)
        self._naive = self._aware.replace(tzinfo=None)

    def __call__(self, value: Any) -> None:
        """Refuse a version from the far future.

        Raises:
            RecordError: the version is a time more than 24 hours ahead.
        """
        if isinstance(value, datetime) and value > (self._aware if value.tzinfo else self._naive):
            now = self._now()
            check_version(value, now, self._field)
            self._aware = (now + _FUTURE).astimezone(UTC)
            self._naive = self._aware.replace(tzinfo=None)


def canonical(value: Any) -> Any:
    """Return a value in the form in which equal values compare equal: instants in UTC without zone, plain scalars."""
    value = plain_value(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def _converter(kind: Any, *, keeps_time_zones: bool, keeps_decimals: bool) -> Coercer:
    with_zone = keeps_time_zones and bool(getattr(kind, "timezone", False))
    if isinstance(kind, types.Enum):
        return _enum(kind)
    if isinstance(kind, types.DateTime):
        return lambda value: _datetime(value, with_zone=with_zone)
    if is_decimal(kind):
        return _decimal(kind, keeps_decimals=keeps_decimals)
    if isinstance(kind, types.String):
        return _text(kind.length)
    if isinstance(kind, types.Uuid):
        return _uuid if kind.as_uuid else lambda value: str(_uuid(value))
    simple: list[tuple[type, Coercer]] = [
        (types.SmallInteger, _integer(16)),
        (types.BigInteger, _integer(64)),
        (types.Integer, _integer(32)),
        (types.Float, _float),
        (types.Boolean, _boolean),
        (types.Date, _date),
        (types.Time, lambda value: _time(value, with_zone=with_zone)),
        (types.LargeBinary, _binary),
        (types.JSON, json_value),
    ]
    return next((convert for cls, convert in simple if isinstance(kind, cls)), _as_it_is)


def _as_it_is(value: Any) -> Any:
    return value


def _refuse(value: Any, wanted: str, code: str) -> RecordError:
    return RecordError(f"{wanted} is wanted, not {type(value).__name__}", code=code)


def _text(length: int | None) -> Coercer:
    def convert(value: Any) -> str:
        text = _as_text(value)
        if length is not None and len(text) > length:
            raise RecordError(f"{len(text)} characters are over the column's {length}", code="too_long")
        return checked_text(text)

    return convert


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        # An enumeration's own str() is not its text.
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return str(int(value))
        except ValueError:
            raise RecordError("the integer has too many digits", code="too_long") from None
    raise _refuse(value, "text", "bad_text")


def _integer(bits: int) -> Coercer:
    top = 1 << (bits - 1)

    def convert(value: Any) -> int:
        if isinstance(value, str) and _INTEGER_TEXT.fullmatch(value):
            value = int(value)
        elif isinstance(value, float | Decimal):
            value = _whole(_number(value))
        if not isinstance(value, int) or isinstance(value, bool):
            raise _refuse(value, "an integer", "bad_integer")
        if not -top <= value < top:
            raise RecordError(f"the number does not fit an integer of {bits} bits", code="out_of_range")
        return int(value)

    return convert


def _whole(number: Decimal) -> int:
    if number.adjusted() > _MAX_EXPONENT:
        raise RecordError("the number does not fit an integer", code="out_of_range")
    # A number below 1 is told by its size: its digits could be millions of zeros.
    if number and (number.adjusted() < 0 or number != int(number)):
        raise RecordError("the number has a fraction, the column holds integers", code="bad_integer")
    return int(number) if number else 0


def is_decimal(kind: object) -> TypeGuard[types.Numeric[Any]]:
    """Tell whether a column's type counts in decimal digits."""
    return isinstance(kind, types.Numeric) and not isinstance(kind, types.Float)


def _decimal(kind: types.Numeric[Any], *, keeps_decimals: bool) -> Coercer:
    precision, scale = kind.precision, kind.scale
    step = Decimal(1).scaleb(-scale) if scale is not None else None
    limit = Decimal(10) ** (precision - (scale or 0)) if precision is not None else None
    is_wide = precision is None or precision > _MAX_EXPONENT

    def convert(value: Any) -> Any:
        number = _number(value)
        if step is not None:
            try:
                number = number.quantize(step, ROUND_HALF_UP, EXACT)
            except InvalidOperation:
                raise RecordError("the number does not fit the column", code="out_of_range") from None
        if limit is not None and number.copy_abs() >= limit:
            raise RecordError(f"the number does not fit NUMERIC({precision}, {scale or 0})", code="out_of_range")
        if is_wide and number and number.adjusted() > _MAX_EXPONENT:
            raise RecordError("the number does not fit the column", code="out_of_range")
        if not kind.asdecimal:
            return float(number)
        if not keeps_decimals and not _is_exact_as_float(number, scale):
            raise RecordError("the database keeps a float, which cannot hold all digits", code="inexact_number")
        return number

    return convert


def _is_exact_as_float(number: Decimal, scale: int | None) -> bool:
    """Tell whether a number comes back from a float, read with the column's places or, without any, in full."""
    held = float(number)
    return number == held or number == Decimal(repr(held) if scale is None else f"{held:.{max(scale, 0)}f}")


def _number(value: Any) -> Decimal:
    if isinstance(value, bool):
        raise _refuse(value, "a number", "bad_number")
    if isinstance(value, int | Decimal):
        number = Decimal(value)
    elif isinstance(value, float):
        number = Decimal(repr(value))
    elif isinstance(value, str) and _NUMBER_TEXT.fullmatch(value):
        number = Decimal(value)
    else:
        raise (
            RecordError("the text is no number", code="bad_number")
            if isinstance(value, str)
            else _refuse(value, "a number", "bad_number")
        )
    if not number.is_finite():
        raise RecordError("the number is not finite", code="non_finite_number")
    return number


def _float(value: Any) -> float:
    try:
        number = float(_number(value))
    except OverflowError:
        raise RecordError("the number does not fit a float", code="out_of_range") from None
    if not math.isfinite(number):
        raise RecordError("the number does not fit a float", code="out_of_range")
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise RecordError("true or false (or 1 or 0) is wanted", code="bad_boolean")


def _instant(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    if not isinstance(value, str):
        raise RecordError(
            f"a time as ISO 8601 text or datetime is wanted, not {type(value).__name__}; use convert= for epochs",
            code="bad_datetime",
        )
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise RecordError("the text is no ISO 8601 time", code="bad_datetime") from None


def _datetime(value: Any, *, with_zone: bool) -> datetime:
    instant = _instant(value)
    try:
        utc = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (OverflowError, ValueError):
        raise RecordError("the time lies outside the years 1 to 9999", code="bad_datetime") from None
    return utc if with_zone else utc.replace(tzinfo=None)


def _date(value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    instant = _instant(value)
    if instant.timetz() != time():
        raise RecordError("a date is wanted, not a time of day; use convert=", code="bad_datetime")
    return instant.date()


def _time(value: Any, *, with_zone: bool) -> time:
    try:
        found = value if isinstance(value, time) else time.fromisoformat(value)
    except (TypeError, ValueError):
        raise RecordError("a time of day as ISO 8601 text is wanted", code="bad_datetime") from None
    if found.tzinfo is not None and not with_zone:
        raise RecordError("the time of day has a zone, which the column cannot keep", code="bad_datetime")
    return found


def _uuid(value: Any) -> uuid.UUID:
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except (AttributeError, TypeError, ValueError):
        raise RecordError("a UUID is wanted", code="bad_uuid") from None


def _binary(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise _refuse(value, "bytes", "bad_binary")
    return bytes(cast("bytes", value))


def _enum(kind: types.Enum) -> Coercer:
    members: Mapping[str, Any] = getattr(kind.enum_class, "__members__", {})
    by_value = {str(member.value): member for member in members.values()}

    def convert(value: Any) -> Any:
        if kind.enum_class is not None:
            if isinstance(value, kind.enum_class):
                return value
            found = members.get(str(value), by_value.get(str(value)))
            if found is not None:
                return found
        elif value in kind.enums:
            return value
        raise RecordError(f"one of {', '.join(kind.enums)} is wanted", code="bad_enum")

    return convert
