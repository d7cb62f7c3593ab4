"""From a webhook body to queue rows, and from a queue row back to one record or `Deletion`.

A message with one item keeps its original bytes. Each item of a larger one gets an envelope of ours, told apart by
a first byte that no JSON document begins with: the record itself where it is JSON, else the whole message and the
item's position.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any, Final, cast

from sqlalchemy import String

from sync_defs.engine.external_id import external_id_text
from sync_defs.errors import CODE_CHARS, REASON_CHARS, MessageError, RecordError, SyncError, storable
from sync_defs.fields import Deletion, read_field
from sync_defs.inbox import strict_json
from sync_defs.inbox.message import Message, MessageItem
from sync_defs.inbox.version import version_text
from sync_defs.job import Job, SyncJob, TableSync, is_callback_job
from sync_defs.store.coerce import coercer
from sync_defs.store.mapping import reviver

MAX_ITEMS: Final = 10_000
"""Items of one message; more are refused, so that accepting one message stays one short transaction."""
_MAX_COPIES: Final = 16 * 1024 * 1024
_MARK: Final = b"\x1e"
_MESSAGE_ID = re.compile(r"[!-~]{1,255}")


def read_message(job: Job, *, message_id: str, body: bytes, now: datetime, id_field: str | None = None) -> Message:
    """Return the message of a verified body; raises nothing: what is unusable becomes an item with a code.

    Args:
        job: whose `extract_items`, `get_external_id` and version are asked.
        message_id: the sender's id of the message.
        body: the raw bytes.
        now: the instant that versions from the future are judged by.
        id_field: where the body has an id, by names joined by dots; if it is there, it counts.
    """
    try:
        document = strict_json.decode(body)
        message_id = _message_id(document, id_field) or message_id
        found = extract(job, document)
        payloads = _pack(found, body) if len(found) > 1 else [body]
    except MessageError as error:
        return Message(job=job.name, message_id=message_id, items=(_unusable(body, error),))
    read = _reader(job)
    items = tuple(_item(job, read(item), payload, now) for item, payload in zip(found, payloads, strict=True))
    return Message(job=job.name, message_id=message_id, items=items)


def _message_id(document: object, id_field: str | None) -> str | None:
    """Return the id in a document; None where there is none that could be one."""
    if id_field is None:
        return None
    for name in id_field.split("."):
        document = cast("dict[str, object]", document).get(name) if isinstance(document, dict) else None
    if isinstance(document, int) and not isinstance(document, bool):
        document = str(document)
    return document if isinstance(document, str) and _MESSAGE_ID.fullmatch(document) else None


def read_item(job: Job, payload: bytes) -> object:
    """Return the one record, or `Deletion`, of a queue row's payload.

    Raises:
        MessageError: the payload is corrupted, or the job does not find one item in it (any more).
    """
    if not payload.startswith(_MARK):
        return _only(extract(job, strict_json.decode(payload)))
    decoded = strict_json.decode(payload[1:])
    envelope = cast("dict[str, object]", decoded) if isinstance(decoded, dict) else {}
    if "deleted" in envelope:
        return Deletion(external_id=envelope["deleted"], record=envelope.get("record"))
    if "record" in envelope:
        return envelope["record"]
    index, message = envelope.get("index"), envelope.get("message")
    if not isinstance(index, int) or not isinstance(message, str):
        raise MessageError("the stored envelope is not one of ours", code="bad_payload")
    return _only(extract(job, strict_json.decode(message.encode()))[index : index + 1])


def extract(job: Job, payload: object) -> list[object]:
    """Return the items of a decoded payload, at least one.

    Raises:
        MessageError: the job finds no item, or too many, or fails on the payload.
    """
    try:
        found = list(islice(cast("Iterable[object]", job.extract_items(payload)), MAX_ITEMS + 1))
    except MessageError:
        raise
    except RecordError as error:
        raise MessageError(error.message, code=_id_code(error)) from None
    except Exception as error:  # noqa: BLE001 - the job's own code reads what somebody sent
        raise MessageError(f"extract_items failed: {type(error).__name__}", code="bad_payload") from None
    if not found:
        raise MessageError("the message holds no item", code="external_id_missing")
    if len(found) > MAX_ITEMS:
        raise MessageError(f"the message holds over {MAX_ITEMS} items", code="too_many_items")
    return found


def external_id_of(job: Job, item: object) -> str:
    """Return the external id of a record or `Deletion`, in the form of the target's key: `007` is 7 in an integer one.

    Raises:
        RecordError: it has none, or one that is refused.
    """
    return _form_of_key(job)(_given_id(job, item))


def _given_id(job: Job, item: object) -> str:
    if isinstance(item, Deletion) and (item.external_id is not None or item.record is None):
        return external_id_text(item.external_id)
    try:
        value = job.get_external_id(item.record if isinstance(item, Deletion) else item)
    except RecordError as error:
        raise RecordError(error.reason, code=_id_code(error), field=error.field) from None
    except Exception as error:  # noqa: BLE001 - the job's own code reads what somebody sent
        reason = f"get_external_id failed: {type(error).__name__}"
        raise RecordError(reason, code="external_id_missing") from None
    return external_id_text(value)


@lru_cache
def _form_of_key(job: Job) -> Callable[[str], str]:
    """Return what gives all spellings of one id the same text, so that they are one row of the queue."""
    column = job.target.columns[next(iter(job.key))] if isinstance(job, TableSync) else None
    if column is None or isinstance(column.type, String):
        return lambda external_id: external_id
    coerce = coercer(column, keeps_time_zones=True)

    def form(external_id: str) -> str:
        try:
            return str(coerce(external_id))
        except RecordError:  # the apply rejects it
            return external_id

    return form


def _reader(job: Job) -> Callable[[object], object]:
    """Return what makes an item what the job's callbacks are written for."""
    if not is_callback_job(job) or job.record_type is None:
        return lambda item: item
    revive = reviver(job)

    def read(item: object) -> object:
        try:
            if isinstance(item, Deletion):
                return replace(item, record=revive(item.record))
            return revive(item)
        except Exception:  # noqa: BLE001 - somebody else's data; the apply will tell what is wrong with the record
            return item

    return read


def _item(job: Job, item: object, payload: bytes, now: datetime) -> MessageItem:
    try:
        external_id = external_id_of(job, item)
    except RecordError as error:
        return _unusable(payload, error)
    return MessageItem(external_id=external_id, payload=payload, version=_version(job, item, now))


def _unusable(payload: bytes, error: SyncError) -> MessageItem:
    return MessageItem(
        external_id=None,
        payload=payload,
        code=storable(error.code, limit=CODE_CHARS),
        error=storable(error.message, limit=REASON_CHARS),
    )


def _version(job: Job, item: object, now: datetime) -> str | None:
    record: Any = item.record if isinstance(item, Deletion) else item
    if record is None:
        return None
    try:
        if isinstance(job, TableSync) and job.version is not None:
            field = job.fields[job.version]
            value = read_field(record, field)
            value = field.convert(value) if field.convert else value
        elif isinstance(job, SyncJob):
            value = cast("SyncJob[Any, Any]", job).get_version(record)
        else:
            return None
    except Exception:  # noqa: BLE001 - the job's own code; the apply will tell what is wrong with the record
        return None
    return version_text(value, now=now)


def _id_code(error: RecordError) -> str:
    return "external_id_missing" if error.code in ("missing_field", "bad_item") else error.code


def _only(found: list[object]) -> object:
    if len(found) != 1:
        raise MessageError("the payload does not hold exactly one item", code="bad_payload")
    return found[0]


def _pack(found: list[object], body: bytes) -> list[bytes]:
    packed = [_envelope(item) for item in found]
    copies = sum(1 for envelope in packed if envelope is None)
    if copies * len(body) > _MAX_COPIES:
        raise MessageError("the message holds too many items that are not JSON objects", code="too_many_items")
    return [envelope or _by_position(index, body) for index, envelope in enumerate(packed)]


def _envelope(item: object) -> bytes | None:
    wrapped = {"record": item}
    if isinstance(item, Deletion):
        wrapped = {"deleted": item.external_id, "record": item.record}
    try:
        return _MARK + strict_json.encode(wrapped).encode()
    except (TypeError, ValueError):
        return None


def _by_position(index: int, body: bytes) -> bytes:
    return _MARK + strict_json.encode({"index": index, "message": body.decode()}).encode()
