"""JSON as the inbox takes it: one meaning only, exact numbers, bounded work.

Two parsers that disagree about a document are an attack surface, and a number that passes through a float is no
longer the price that was sent. So duplicate keys, NaN, lone surrogates and anything but UTF-8 are refused, and
numbers with a fraction or an exponent come back as `Decimal`.
"""

import json
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Final, NoReturn, cast

from sync_defs.errors import MessageError

MAX_DEPTH: Final = 64
MAX_INT_DIGITS: Final = 40
# Longer than the exact form of most doubles, short enough that no later conversion explodes.
_MAX_DECIMAL_CHARS: Final = 400
_MAX_EXPONENT: Final = 400

# A string counts as one token; the possessive loop and the optional closing quote keep this linear also where a
# quote is never closed.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def decode(body: bytes) -> object:
    """Return the value of a JSON document; the stdlib's types, but `Decimal` for what is not a plain integer.

    Raises:
        MessageError: with the code `not_utf8`, `not_json`, `too_deep`, `duplicate_key`, `non_finite_number`,
            `number_too_long` or `lone_surrogate`; the message never holds a value.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("not_utf8", "the body is not UTF-8")
    _check_depth(text)
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_decimal,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise MessageError(
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}", code="not_json"
        ) from None
    if _SURROGATE_ESCAPE.search(text):
        _check_surrogates(value)
    return value


def encode(value: object) -> str:
    """Return the JSON text of a decoded value; numbers keep every digit, which the stdlib cannot do.

    Raises:
        TypeError: the value holds something that `decode` would not give back as it is.
        ValueError: it holds a float that is not finite.
    """
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value).items()
        return "{" + ",".join(f"{_key(key)}:{encode(item)}" for key, item in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join([encode(item) for item in cast("list[object]", value)]) + "]"
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key is text, not {type(key).__name__}")
    return json.dumps(key, ensure_ascii=False)


def _refuse(code: str, reason: str) -> NoReturn:
    raise MessageError(reason, code=code) from None


def _check_depth(text: str) -> None:
    # Before parsing: the stdlib's parser recurses.
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _TOKEN.finditer(text):
        char = text[match.start()]
        if char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                _refuse("too_deep", f"the document is nested deeper than {MAX_DEPTH}")
        elif char in "]}":
            depth -= 1


def _check_surrogates(value: object) -> None:
    try:
        encode(value).encode("utf-8")
    except UnicodeEncodeError:
        _refuse("lone_surrogate", "a text holds half of a surrogate pair")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("duplicate_key", "an object has the same key twice")
    return found


def _integer(literal: str) -> int:
    if len(literal.lstrip("-")) > MAX_INT_DIGITS:
        _refuse("number_too_long", f"an integer has over {MAX_INT_DIGITS} digits")
    return int(literal)


def _decimal(literal: str) -> Decimal:
    if len(literal) > _MAX_DECIMAL_CHARS:
        _refuse("number_too_long", f"a number has over {_MAX_DECIMAL_CHARS} characters")
    if math.isinf(float(literal)):
        _refuse("non_finite_number", "a number is too large for a double")
    try:
        value = Decimal(literal)
    except InvalidOperation:
        _refuse("number_too_long", "the exponent of a number is out of bounds")
    if abs(value.adjusted()) > _MAX_EXPONENT:
        _refuse("number_too_long", "the exponent of a number is out of bounds")
    return value


def _constant(literal: str) -> NoReturn:
    _refuse("non_finite_number", f"{literal} is not JSON")
