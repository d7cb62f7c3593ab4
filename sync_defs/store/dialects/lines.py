"""Rows as lines of text with tabs between their values, as PostgreSQL's COPY and MariaDB's LOAD DATA read them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

WRITERS: Mapping[type, Callable[[Any], str]] = {
    int: int.__repr__,
    float: float.__repr__,
    Decimal: str,
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    UUID: str,
}
"""What writes values that both databases read in the same form, for columns of no other type."""
_SPECIAL = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL = "\\N"


def joined_lines(columns: Sequence[Iterable[str]]) -> str:
    """Return the lines of columns of texts, the last one ended too."""
    return "\n".join([*map("\t".join, zip(*columns, strict=True)), ""])


def texts_of(values: Sequence[Any], writers: Mapping[type, Callable[[Any], str]]) -> Iterable[str] | None:
    """Return a column as texts; None where its values are of several types, or of one that has no writer."""
    kinds = set(map(type, values))
    nullable = type(None) in kinds
    kinds.discard(type(None))
    if not kinds:
        return [_NULL] * len(values)
    kind = kinds.pop()
    if kinds:
        return None
    if kind is str:
        return escaped(values)
    write = writers.get(kind)
    if write is None:
        return None
    return [_NULL if value is None else write(value) for value in values] if nullable else map(write, values)


def escaped(values: Sequence[str | None]) -> Iterable[str]:
    """Return texts, None among them, as they stand in a line."""
    whole = "".join(filter(None, values))
    if any(special in whole for special in "\\\t\n\r"):
        values = [value and value.translate(_SPECIAL) for value in values]
    return [_NULL if value is None else value for value in values]
