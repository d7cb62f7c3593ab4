"""Coercion: from what a source says to what a column holds, one value at a time, the same on every database.

A value that does not fit is refused here with a reason, before a driver could change it silently (SQLite keeps
'abc' or 2**31 in an INTEGER and NaN as NULL; PostgreSQL refuses NUL in text).
"""

import base64
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from enum import Enum
from typing import Any, cast

from sqlalchemy import Column, types

from sync_defs.errors import RecordError

Coercer = Callable[[Any], Any]

_INTEGER_TEXT = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER_TEXT = re.compile(r"[+-]?([0-9]{1,1000}(\.[0-9]{0,1000})?|\.[0-9]{1,1000})([eE][+-]?[0-9]{1,4})?")
_MAX_EXPONENT = 307
"""Numbers of more digits before the point than a double has are not held by every database."""
_FUTURE = timedelta(hours=24)


def coercer(column: Column[Any], *, keeps_time_zones: bool) -> Coercer:
    """Return the function that turns a raw value into the column's Python value, or None for an absent one.

    It raises `RecordError` with the column as field, a stable code, and a reason without the value.
    """
    convert = _converter(column.type, keeps_time_zones=keeps_time_zones)
    name, nullable = column.name, bool(column.nullable)

    def coerce(value: Any) -> Any:
        value = _plain(value)
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


def canonical(value: Any) -> Any:
    """Return a value in the form in which equal values compare equal: instants in UTC without zone, plain scalars."""
    value = _plain(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def _plain(value: Any) -> Any:
    kind = cast("type[Any]", type(value))
    return _unwrapped(value, kind.__name__) if kind.__module__.startswith(("numpy", "pandas")) else value


def _unwrapped(value: Any, kind: str) -> Any:
    if kind in ("NAType", "NaTType"):
        return None
    if kind == "Timestamp":
        return value.to_pydatetime(warn=False)
    if kind == "datetime64":
        # In nanoseconds, item() would be a bare number.
        return value.astype("datetime64[us]").item()
    if kind == "ndarray":
        return value.tolist()
    # What has a length holds many values, unless it is numpy's text or bytes.
    is_scalar = not hasattr(value, "__len__") or kind in ("str_", "bytes_")
    return value.item() if is_scalar and hasattr(value, "item") else value


def _converter(kind: Any, *, keeps_time_zones: bool) -> Coercer:
    with_zone = keeps_time_zones and bool(getattr(kind, "timezone", False))
    if isinstance(kind, types.Enum):
        return _enum(kind)
    if isinstance(kind, types.DateTime):
        return lambda value: _datetime(value, with_zone=with_zone)
    if isinstance(kind, types.Numeric) and not isinstance(kind, types.Float):
        return _decimal(kind.precision, kind.scale, as_float=not kind.asdecimal)
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
        (types.JSON, _json),
    ]
    return next((convert for cls, convert in simple if isinstance(kind, cls)), _as_it_is)


def _as_it_is(value: Any) -> Any:
    return value


def _refuse(value: Any, wanted: str, code: str) -> RecordError:
    return RecordError(f"{wanted} is wanted, not {type(value).__name__}", code=code)


def checked_text(value: str) -> str:
    """Return text that every database can hold.

    Raises:
        RecordError: it holds NUL or a lone surrogate.
    """
    if "\x00" in value:
        raise RecordError("the text holds a NUL character", code="nul_character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RecordError("the text holds a lone surrogate, so it is no Unicode text", code="bad_text") from None
    return value


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


def _decimal(precision: int | None, scale: int | None, *, as_float: bool) -> Coercer:
    step = Decimal(1).scaleb(-scale) if scale is not None else None
    limit = Decimal(10) ** (precision - (scale or 0)) if precision is not None else None
    is_wide = precision is None or precision > _MAX_EXPONENT

    def convert(value: Any) -> Any:
        number = _number(value)
        with localcontext(prec=1000):
            if step is not None:
                try:
                    number = number.quantize(step, rounding=ROUND_HALF_UP)
                except InvalidOperation:
                    raise RecordError("the number does not fit the column", code="out_of_range") from None
            if limit is not None and abs(number) >= limit:
                raise RecordError(f"the number does not fit NUMERIC({precision}, {scale or 0})", code="out_of_range")
            if is_wide and number and number.adjusted() > _MAX_EXPONENT:
                raise RecordError("the number does not fit the column", code="out_of_range")
        return float(number) if as_float else number

    return convert


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


def _json(value: Any) -> Any:
    try:
        text = json.dumps(value, sort_keys=True, allow_nan=False, default=_json_default, ensure_ascii=False)
    except (ArithmeticError, TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"the value is no JSON ({type(error).__name__})", code="bad_json") from None
    if "\\u0000" in text.replace("\\\\", ""):
        raise RecordError("a text in it holds a NUL character", code="nul_character")
    return json.loads(checked_text(text))


def _json_default(value: Any) -> object:
    value = _plain(value)
    if value is None or isinstance(value, str | int | float | list):
        return cast("object", value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 1 << 53 else float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(type(value).__name__)


# A record that waits in the stage, in a reject or in the queue is JSON text in which the types that JSON lacks are
# objects of one tagged member.
_TAGS: Mapping[str, Callable[[str], object]] = {
    "$decimal": Decimal,
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$uuid": uuid.UUID,
    "$bytes": base64.b64decode,
}


def encode_record(record: Any) -> str:
    """Return a record as JSON text that `decode_record` reads back, with decimals, times, UUIDs and bytes kept.

    Dataclasses and pydantic models are written as mappings of their fields.

    Raises:
        RecordError: the record holds something that JSON cannot.
    """
    plain = plain_record(record)
    try:
        text = _dumps(plain)
        if '{"$' in text:
            # Ours, or a mapping of the source's own that looks like ours.
            text = _dumps(_escaped(plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"the record cannot be staged as JSON: {type(error).__name__}", code="bad_item") from None
    return text


def decode_record(text: str) -> Any:
    """Return the record that `encode_record` wrote; mappings come back as dicts."""
    return json.loads(text, object_hook=_untagged)


def _dumps(plain: Any) -> str:
    return json.dumps(plain, default=_tagged, ensure_ascii=True, allow_nan=False)


def _escaped(value: Any) -> Any:
    """Return a value with a further `$` before the name in every mapping that looks like a tagged one."""
    if isinstance(value, dict):
        mapping = cast("dict[Any, Any]", value)
        escape = "$" if len(mapping) == 1 and str(next(iter(mapping))).startswith("$") else ""
        return {f"{escape}{name}" if escape else name: _escaped(inner) for name, inner in mapping.items()}
    if isinstance(value, list | tuple):
        return [_escaped(inner) for inner in cast("list[Any]", value)]
    plain = plain_record(value)
    return value if plain is value else _escaped(plain)


def plain_record(record: Any) -> Any:
    """Return a record as a mapping where it is a dataclass, a pydantic model or a named row, else as it is."""
    if hasattr(record, "__dataclass_fields__"):
        return {name: getattr(record, name) for name in record.__dataclass_fields__}
    if hasattr(record, "model_dump"):
        return record.model_dump()
    if hasattr(record, "_asdict"):
        return record._asdict()  # named tuples and SQLAlchemy's rows: a public method in spite of its name
    return dict(cast("Mapping[str, Any]", record)) if isinstance(record, Mapping) else record


def _tagged(value: Any) -> object:
    value = _plain(value)
    if value is None or isinstance(value, str | int | float | list):
        return cast("object", value)
    if isinstance(value, Enum):
        return value.value
    for kind, tag, write in _WRITERS:
        if isinstance(value, kind):
            return {tag: write(value)}
    plain = plain_record(value)
    if plain is value:
        raise TypeError(type(value).__name__)
    return plain


# A datetime is a date, so it comes first.
_WRITERS: list[tuple[Any, str, Callable[[Any], str]]] = [
    (Decimal, "$decimal", str),
    (datetime, "$datetime", datetime.isoformat),
    (date, "$date", date.isoformat),
    (time, "$time", time.isoformat),
    (uuid.UUID, "$uuid", str),
    (bytes | bytearray, "$bytes", lambda value: base64.b64encode(value).decode()),
]


def _untagged(value: dict[str, Any]) -> Any:
    if len(value) == 1:
        [(tag, text)] = value.items()
        if tag.startswith("$$"):
            return {tag[1:]: text}
        if tag in _TAGS and isinstance(text, str):
            return _TAGS[tag](text)
    return value
