"""Records as JSON text, and back: what waits in a stage, in a reject or in the queue."""

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, cast

from sync_defs.errors import RecordError
from sync_defs.store.scalars import plain_value

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
        text = _ENCODER.encode(plain)
        if '{"$' in text:
            # Ours, or a mapping of the source's own that looks like ours.
            text = _ENCODER.encode(_escaped(plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"the record cannot be staged as JSON: {type(error).__name__}", code="bad_item") from None
    return text


def decode_record(text: str) -> Any:
    """Return the record that `encode_record` wrote; mappings come back as dicts."""
    return json.loads(text, object_hook=_untagged)


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
    if type(record) is dict:
        return cast("dict[str, Any]", record)
    if hasattr(record, "__dataclass_fields__"):
        return {name: getattr(record, name) for name in record.__dataclass_fields__}
    if hasattr(record, "model_dump"):
        return record.model_dump()
    if hasattr(record, "_asdict"):
        return record._asdict()  # named tuples and SQLAlchemy's rows: a public method in spite of its name
    return dict(cast("Mapping[str, Any]", record)) if isinstance(record, Mapping) else record


def _tagged(value: Any) -> object:
    value = plain_value(value)
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


_ENCODER = json.JSONEncoder(default=_tagged, allow_nan=False)


def _untagged(value: dict[str, Any]) -> Any:
    if len(value) == 1:
        [(tag, text)] = value.items()
        if tag.startswith("$$"):
            return {tag[1:]: text}
        if tag in _TAGS and isinstance(text, str):
            return _TAGS[tag](text)
    return value
