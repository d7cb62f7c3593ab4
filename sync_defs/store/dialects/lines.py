"""Rows as lines of text with tabs between their values, as PostgreSQL's COPY and MariaDB's LOAD DATA read them."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

_SPECIAL = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL = "\\N"


class NoTextError(Exception):
    """A column holds values that have no text of their own."""


def copy_lines(columns: Sequence[Sequence[Any]]) -> str | None:
    """Return columns as lines for COPY; None where the driver has to write a value."""
    try:
        found = [texts_of(values) for values in columns]
    except NoTextError:
        return None
    return joined_lines([_with_prefix(texts) if is_hex else texts for texts, is_hex in found])


def _with_prefix(digits: Iterable[str]) -> Iterable[str]:
    return [text if text == _NULL else f"\\\\x{text}" for text in digits]


def joined_lines(columns: Sequence[Iterable[str]]) -> str:
    """Return the lines of columns of texts, the last one ended too."""
    return "\n".join([*map("\t".join, zip(*columns, strict=True)), ""])


def texts_of(values: Sequence[Any]) -> tuple[Iterable[str], bool]:
    """Return a column as texts, and whether these are the hexadecimal digits of bytes.

    Raises:
        NoTextError: a value is of a type of which only the driver knows the text.
    """
    kinds = set(map(type, values))
    nullable = type(None) in kinds
    kinds.discard(type(None))
    if not kinds:
        return [_NULL] * len(values), False
    kind, write = _kind_of(frozenset(kinds))
    if kind is str:
        return _strings(values, nullable=nullable), False
    written = [_NULL if value is None else write(value) for value in values] if nullable else map(write, values)
    return written, kind in (bytes, bytearray)


def _strings(values: Sequence[Any], *, nullable: bool) -> Iterable[str]:
    whole = "".join(filter(None, values) if nullable else values)
    if "\\" in whole or "\t" in whole or "\n" in whole or "\r" in whole:
        return [_NULL if value is None else value.translate(_SPECIAL) for value in values]
    return [_NULL if value is None else value for value in values] if nullable else values


@lru_cache
def _kind_of(kinds: frozenset[type]) -> tuple[type, Callable[[Any], str]]:
    """Return the kind that all of some types are, and what writes a value of it.

    Raises:
        NoTextError: they have none in common.
    """
    for kind, write in _WRITERS:
        if all(issubclass(found, kind) for found in kinds):
            return kind, write
    raise NoTextError


# True is an int and a datetime is a date, so they come first.
_WRITERS: list[tuple[type, Callable[[Any], str]]] = [
    (str, str),
    (bytes, bytes.hex),
    (bytearray, bytearray.hex),
    (bool, {True: "1", False: "0"}.__getitem__),
    (int, int.__repr__),
    (float, float.__repr__),
    (Decimal, str),
    (datetime, datetime.isoformat),
    (date, date.isoformat),
    (time, time.isoformat),
    (UUID, str),
]
