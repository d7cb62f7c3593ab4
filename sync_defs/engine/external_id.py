"""External ids: one text form for every id, and the ids that are refused."""

import unicodedata
from collections.abc import Sequence
from typing import cast

from sync_defs.errors import RecordError

MAX_CHARS = 255
_MAX_DIGITS = 40
# Control, format (zero width, bidi overrides), surrogate, private use, unassigned and line separators: such ids
# look like others or cannot be stored by every database.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def external_id_text(value: object) -> str:
    """Return the canonical text of an external id: text as it is, an integer as its digits.

    Letters keep their case and their Unicode form, leading zeros stay, so "007" is not "7".

    Raises:
        RecordError: the id is absent, of another kind than text or integer, empty, longer than 255 characters,
            has white space at an end, or holds control or invisible characters.
    """
    if isinstance(value, str) and type(value) is not str:
        value = str.__str__(value)
    if value is None:
        raise RecordError("the record has no external id", code="bad_external_id_type")
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 10**_MAX_DIGITS:
            raise RecordError(f"an integer id has over {_MAX_DIGITS} digits", code="number_too_long")
        return str(int(value))
    if not isinstance(value, str):
        raise RecordError(
            f"an external id is text or an integer, not {type(value).__name__}", code="bad_external_id_type"
        )
    return _checked(value)


def is_plain_id(value: object) -> bool:
    """Tell whether a value is an id of usual characters, which `external_id_text` returns as it is."""
    if type(value) is not str or not value or len(value) > MAX_CHARS:
        return False
    return value.isascii() and value.isprintable() and value[0] != " " and value[-1] != " "


def are_plain_ids(values: Sequence[object]) -> bool:
    """Tell whether `is_plain_id` is true of each of many values; at least one."""
    if set(map(type, values)) == {str}:
        texts = cast("Sequence[str]", values)
        whole = "".join(texts)
        if whole.isascii() and whole.isprintable() and " " not in whole:
            lengths = set(map(len, texts))
            return 0 < min(lengths) <= max(lengths) <= MAX_CHARS
    return all(map(is_plain_id, values))


def _checked(text: str) -> str:
    if is_plain_id(text):
        return text
    if not text:
        raise RecordError("the external id is empty", code="bad_external_id")
    if len(text) > MAX_CHARS:
        raise RecordError(f"the external id has {len(text)} characters, over {MAX_CHARS}", code="external_id_too_long")
    if text != text.strip():
        raise RecordError("the external id begins or ends with white space", code="bad_external_id")
    for char in text:
        if unicodedata.category(char) in _REFUSED_CATEGORIES:
            raise RecordError(
                f"the external id holds the invisible character U+{ord(char):04X}", code="bad_external_id"
            )
    return text
