"""Text and JSON that every database can hold, and in one form."""

import json
import sys
import uuid
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, cast

from sync_defs.errors import RecordError
from sync_defs.store.scalars import plain_value


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


def json_value(value: Any) -> Any:
    """Return what a JSON column holds: keys in order, a number without a fraction as an integer.

    Raises:
        RecordError: it is no JSON, or a text in it cannot be held by every database.
    """
    try:
        text = _JSON.encode(value)
    except (ArithmeticError, TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"the value is no JSON ({type(error).__name__})", code="bad_json") from None
    if "\\u0000" in text.replace("\\\\", ""):
        raise RecordError("a text in it holds a NUL character", code="nul_character")
    return json.loads(checked_text(text), parse_float=_json_number)


def _json_number(text: str) -> int | float:
    """Return a number without a fraction as an integer: some databases take 1.0 for 1, others compare the texts."""
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else float(text)


def _json_default(value: Any) -> object:
    value = plain_value(value)
    if value is None or isinstance(value, str | int | float | list):
        return cast("object", value)
    if isinstance(value, Decimal):
        is_whole = value == value.to_integral_value() and value.adjusted() <= sys.float_info.max_10_exp
        return int(value) if is_whole else float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(type(value).__name__)


_JSON = json.JSONEncoder(sort_keys=True, allow_nan=False, default=_json_default, ensure_ascii=False)
