"""Quick ways through coercion for the values that sources send most; anything else takes the general way.

They ask for the exact type, since a subclass (an enumeration that is text, True that is 1) may have a meaning of its
own. Each kind of column has a function for one value and, where that is faster, one for the values of a page.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Column, types
from sqlalchemy.engine import Dialect

from sync_defs.store.coerce import EXACT, Coercer, coercer, is_decimal

PageCoercer = Callable[[Sequence[Any]], Sequence[Any]]

_EXACT_IN_A_FLOAT = 15
"""Decimal digits that a double always gives back."""
_DIGITS = "-0123456789"
_NO_DIGITS = dict.fromkeys(map(ord, "0123456789"))
_POINT = frozenset(["", "."])
# Shorter, the sign of an offset can be the separator between date and time.
_SHORTEST_ZONED = len("2026-03-29T02:30+02:00")
_SHORTEST_UTC = len("2026-03-29T02:30Z")
_OFFSETS: Mapping[str, timedelta] = {
    f"{sign}{hours:02}:{minutes:02}": timedelta(hours=hours, minutes=minutes) * (1 if sign == "+" else -1)
    for sign in "+-"
    for hours in range(15)
    for minutes in (0, 15, 30, 45)
}


class Quick(NamedTuple):
    """The coercion of one column; both functions raise `RecordError`."""

    one: Coercer
    """Coerces a value."""
    many: PageCoercer | None = None
    """Coerces the values of a page, in order; an error does not tell which of them is to blame. None: one by one."""


def column_coercer(column: Column[Any], engine_dialect: Dialect, *, keeps_time_zones: bool) -> Quick:
    """Return the quick coercion of a column in the database of a SQLAlchemy dialect."""
    kind: Any = column.type
    # Whether decimals go to the driver as they are, not as floats.
    process = kind.dialect_impl(engine_dialect).bind_processor(engine_dialect) if is_decimal(kind) else None
    keeps_decimals = process is None or isinstance(process(Decimal(1)), Decimal)
    return quick_coercer(column, keeps_time_zones=keeps_time_zones, keeps_decimals=keeps_decimals)


def quick_coercer(column: Column[Any], *, keeps_time_zones: bool, keeps_decimals: bool = True) -> Quick:
    """Return the results and errors of `coercer`, in a fraction of its time for usual values."""
    general = coercer(column, keeps_time_zones=keeps_time_zones, keeps_decimals=keeps_decimals)
    kind: Any = column.type
    if isinstance(kind, types.Enum):
        return each(_enum(general, kind))
    if isinstance(kind, types.DateTime):
        is_zoned = keeps_time_zones and bool(kind.timezone)
        return _instants(_zoned(general) if is_zoned else _unzoned(general), is_zoned=is_zoned)
    if is_decimal(kind):
        return _decimals(general, kind, keeps_decimals=keeps_decimals)
    if isinstance(kind, types.String):
        return _texts(general, sys.maxsize if kind.length is None else kind.length)
    if isinstance(kind, types.Integer):
        bits = 16 if isinstance(kind, types.SmallInteger) else 64 if isinstance(kind, types.BigInteger) else 32
        return _integers(general, bits)
    others = [(types.Float, _floats), (types.Boolean, _booleans), (types.Date, _dates), (types.LargeBinary, _binaries)]
    return next((make(general) for cls, make in others if isinstance(kind, cls)), each(general))


def each(one: Coercer) -> Quick:
    """Return the coercion of a column whose pages take one value after the other."""

    def many(values: Sequence[Any]) -> Sequence[Any]:
        return list(map(one, values))

    return Quick(one, many)


def _texts(general: Coercer, longest: int) -> Quick:
    def one(value: Any) -> Any:
        # What is printable holds neither NUL nor a surrogate.
        if (
            type(value) is str
            and len(value) <= longest
            and (("\x00" not in value) if value.isascii() else value.isprintable())
        ):
            return value
        return general(value)

    def many(values: Sequence[Any]) -> Sequence[Any]:
        if set(map(type, values)) == {str} and max(map(len, values)) <= longest:
            joined = "".join(values)
            if ("\x00" not in joined) if joined.isascii() else joined.isprintable():
                return values
        return list(map(one, values))

    return Quick(one, many)


def _integers(general: Coercer, bits: int) -> Quick:
    bottom, top = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def one(value: Any) -> Any:
        return value if type(value) is int and bottom <= value <= top else general(value)

    def many(values: Sequence[Any]) -> Sequence[Any]:
        if set(map(type, values)) == {int} and bottom <= min(values) and max(values) <= top:
            return values
        return list(map(one, values))

    return Quick(one, many)


def _booleans(general: Coercer) -> Quick:
    def one(value: Any) -> Any:
        return value if value is True or value is False else general(value)

    def many(values: Sequence[Any]) -> Sequence[Any]:
        return values if set(map(type, values)) == {bool} else list(map(one, values))

    return Quick(one, many)


def _floats(general: Coercer) -> Quick:
    return each(lambda value: value if type(value) is float and math.isfinite(value) else general(value))


def _binaries(general: Coercer) -> Quick:
    return each(lambda value: value if type(value) is bytes else general(value))


def _enum(general: Coercer, kind: types.Enum) -> Coercer:
    members: Mapping[str, Any] = getattr(kind.enum_class, "__members__", {})
    by_value = {str(member.value): member for member in members.values()}
    found = {**by_value, **members} if kind.enum_class is not None else {name: name for name in kind.enums}
    return lambda value: found[value] if type(value) is str and value in found else general(value)


def _decimals(general: Coercer, kind: types.Numeric[Any], *, keeps_decimals: bool) -> Quick:
    precision, scale = kind.precision, kind.scale
    if precision is None or scale is None or scale < 0 or not kind.asdecimal:
        return each(general)
    whole = (precision if keeps_decimals else min(precision, _EXACT_IN_A_FLOAT)) - scale
    if whole <= 0:
        return each(general)
    one = _decimal(general, whole, scale)
    return Quick(one, _decimal_page(one, whole, scale))


def _point(scale: int) -> slice:
    """Return where the point of a text stands that needs no rounding."""
    return slice(-scale - 1, -scale) if scale else slice(0)


def _decimal(general: Coercer, whole: int, scale: int) -> Coercer:
    step, limit, point = Decimal(1).scaleb(-scale), 10**whole, _point(scale)

    def one(value: Any) -> Any:
        is_text = type(value) is str
        if is_text or type(value) is float:
            text = value if is_text else repr(value)
            # So short, it fits the column even when it is rounded up.
            if len(text) <= whole and (rest := text.strip(_DIGITS)) in _POINT:
                try:
                    number = Decimal(text)
                    if not rest or text[point] != ".":
                        number = number.quantize(step, ROUND_HALF_UP, EXACT)
                except InvalidOperation:
                    return general(value)
                # "1-1" is a NaN where the thread's context does not trap it.
                if not number.is_nan():
                    return number
        elif type(value) is int and -limit < value < limit:
            return Decimal(value).quantize(step, ROUND_HALF_UP, EXACT)
        return general(value)

    return one


def _decimal_page(one: Coercer, whole: int, scale: int) -> PageCoercer:
    step, at_point = Decimal(1).scaleb(-scale), itemgetter(_point(scale))

    def many(values: Sequence[Any]) -> Sequence[Any]:
        # Texts of digits, with one point at the most: where it stands as the column has it, they need no rounding.
        if (
            set(map(type, values)) == {str}
            and max(map(len, values)) <= whole
            and not "".join(values).translate(_NO_DIGITS).strip(".")
            and max(map(str.count, values, repeat("."))) <= 1
            and "" not in values
            and "." not in values
        ):
            placed = zip(map(Decimal, values), map(at_point, values), strict=True)
            return [number if point == "." else number.quantize(step, ROUND_HALF_UP, EXACT) for number, point in placed]
        return list(map(one, values))

    return many


def _instants(one: Coercer, *, is_zoned: bool) -> Quick:
    """Read a page of texts that all end in the same offset, or all in Z, without a call for each."""
    parse, taken_for = datetime.fromisoformat, "Z" if is_zoned else ""

    def many(values: Sequence[Any]) -> Sequence[Any]:
        if set(map(type, values)) == {str} and (shortest := min(map(len, values))) >= _SHORTEST_UTC:
            with suppress(OverflowError, ValueError):
                endings = {value[-6:] for value in values}
                offset = _OFFSETS.get(endings.pop()) if len(endings) == 1 else None
                if offset is not None and shortest >= _SHORTEST_ZONED:
                    found = [parse(value[:-6] + taken_for) - offset for value in values]
                elif {value[-1] for value in values} == {"Z"}:
                    found = [parse(value[:-1] + taken_for) for value in values]
                else:
                    found = []
                # What has a zone still has two of them, or an unusual one.
                if found and (is_zoned or {instant.tzinfo for instant in found} == {None}):
                    return found
        return list(map(one, values))

    return Quick(one, many)


def _zoned(general: Coercer) -> Coercer:
    """Give instants in UTC. Text is parsed as if in UTC and moved: half the time of `astimezone`."""
    parse, offsets = datetime.fromisoformat, _OFFSETS

    def one(value: Any) -> Any:
        if type(value) is str:
            try:
                if len(value) >= _SHORTEST_ZONED and (offset := offsets.get(value[-6:])) is not None:
                    return parse(value[:-6] + "Z") - offset
                if value[-1:] == "Z":
                    return parse(value)
            except (OverflowError, ValueError):
                return general(value)
        elif type(value) is datetime and value.tzinfo is UTC:
            return value
        return general(value)

    return one


def _unzoned(general: Coercer) -> Coercer:
    """Give instants in UTC without the zone, which `replace` would take off in four times the time of a parse."""
    parse, offsets = datetime.fromisoformat, _OFFSETS

    def one(value: Any) -> Any:
        if type(value) is str:
            try:
                if len(value) >= _SHORTEST_ZONED and (offset := offsets.get(value[-6:])) is not None:
                    instant = parse(value[:-6]) - offset
                else:
                    instant = parse(value[:-1] if value[-1:] == "Z" and len(value) >= _SHORTEST_UTC else value)
                # What has a zone still has two of them, or an unusual one.
                if instant.tzinfo is None:
                    return instant
            except (OverflowError, ValueError):
                return general(value)
        elif type(value) is datetime and value.tzinfo is None:
            return value
        return general(value)

    return one


def _dates(general: Coercer) -> Quick:
    parse, length = date.fromisoformat, len("2026-03-29")

    def one(value: Any) -> Any:
        if type(value) is str and len(value) == length:
            try:
                return parse(value)
            except ValueError:
                return general(value)
        return general(value)

    return each(one)
