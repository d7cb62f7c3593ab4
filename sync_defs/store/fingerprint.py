"""Fingerprints: 128 bits of what a source says of a record, so that an unchanged one is known without reading it.

A fingerprint covers the external id and the raw values of the mapped fields, nothing else: an `etag` or a time of
fetching does not make a record look changed. It is a filter, never a judge: what it does not know is compared in full.
"""

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from operator import itemgetter
from types import CodeType
from typing import Any, NamedTuple, cast

import numpy as np

from sync_defs.engine.external_id import external_id_text
from sync_defs.engine.ports import Shaper
from sync_defs.fields import Field, read_field
from sync_defs.job import SyncJob
from sync_defs.policies import JobOptions
from sync_defs.store.mapping import TableMapping
from sync_defs.store.record_text import encode_record, plain_record

try:
    import orjson
    import xxhash
except ModuleNotFoundError:  # pragma: no cover - where no wheel fits the machine
    orjson = xxhash = None

ALGORITHM = "orjson+xxh3" if xxhash is not None else "json+blake2b"

Digest = Callable[[bytes], bytes]
_PASSED = (
    0
    if orjson is None
    else orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
)


def key_hash(external_id: str) -> int:
    """Return 64 bits of an external id, the same in every process."""
    if xxhash is not None:
        return xxhash.xxh3_64_intdigest(external_id.encode())
    return int.from_bytes(_plain_key_digest(external_id.encode()))


def plain_digest(text: bytes) -> bytes:
    """Return 128 bits of a text by the standard library alone."""
    return hashlib.blake2b(text, digest_size=16).digest()


def plain_dump(values: Any) -> bytes:
    """Return values as JSON by the standard library alone."""
    return json.dumps(values, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()


digest: Digest = xxhash.xxh3_128_digest if xxhash is not None else plain_digest
"""Returns 128 bits of a text."""


def _plain_key_digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=8).digest()


key_digest: Digest = xxhash.xxh3_64_digest if xxhash is not None else _plain_key_digest
"""Returns the `key_hash` of an external id in UTF-8, as 8 bytes, the highest first."""


_FIRST = itemgetter(0)
_U, _L = b"ul"


def value_text(value: object) -> bytes | None:
    """Return a text of one value, which tells it from others of its type; None for one that has none."""
    try:
        if isinstance(value, str | Decimal):
            return str(value).encode()
        text = _dump(value)
        return None if b"null" in text and _holds_nan(value) else text
    except Exception:  # noqa: BLE001 - whatever a cell holds: its record is judged where it is staged
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, datetime | date | time):
        return {"$time": value.isoformat()}
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(type(value).__name__)


_dump_json: Callable[[Any], bytes] = orjson.dumps if orjson is not None else plain_dump
_dump: Callable[[Any], bytes] = partial(orjson.dumps, default=_plain) if orjson is not None else plain_dump
"""Returns values as JSON; no function of ours is called for each record."""
_PLAIN = frozenset({str, int, bool, type(None), Decimal, datetime, date, time, bytes})
"""Types of which JSON writes only None as null."""
_NOT_KNOWN = bytes(8), bytes(16)


class Prints(NamedTuple):
    """The fingerprints of a page's records, one after the other."""

    keys: bytes
    """`key_digest` of the external ids, 8 bytes each."""
    contents: bytes
    """`digest` of the contents, 16 bytes each."""


def each_print(one: Callable[[Any], tuple[bytes, bytes]], records: Iterable[Any]) -> Prints:
    """Return the fingerprints of records that are read one by one."""
    prints = list(map(one, records))
    return Prints(b"".join(key for key, _ in prints), b"".join(content for _, content in prints))


def printed_fields(mapping: TableMapping) -> list[Field]:
    """Return the fields that a fingerprint covers, the key first."""
    specs = {**mapping.job.key, **mapping.job.fields}
    return [spec for name, spec in specs.items() if name in mapping.names]


class Fingerprinter:
    """Takes the fingerprints of a table job's records, a page at a time."""

    def __init__(self, mapping: TableMapping) -> None:
        """Read what the mapping reads, before any conversion."""
        specs = printed_fields(mapping)
        self._job = mapping.job
        self._specs = specs
        self._id_text = mapping.id_text
        sources = [str(spec.source) for spec in specs]
        # Where the key's text is the id, and no field lies inside another, a page is read in one go.
        is_plain = mapping.plain_key is not None and len(sources) > 1 and not any("." in source for source in sources)
        self._getter = cast("Callable[[Any], tuple[Any, ...]]", itemgetter(*sources)) if is_plain else None
        self._is_json = True

    def page(self, records: Sequence[Any]) -> Prints:
        """Return the fingerprint of each record, all 0 for one that has to be read to be known."""
        found = self._together(records) if self._getter is not None else None
        return each_print(self._one, records) if found is None else found

    def _together(self, records: Sequence[Any]) -> Prints | None:
        """Take a page in one go; None where a record holds what has to be looked at by itself."""
        try:
            rows = list(map(cast("Callable[[Any], tuple[Any, ...]]", self._getter), records))
            ids = list(map(_FIRST, rows))
            if set(map(type, ids)) != {str}:
                return None
            texts = self._texts(rows)
            # One search in all of them costs less than one in each.
            if _holds_null(b"".join(texts)):
                with_null = (row for row, text in zip(rows, texts, strict=True) if b"null" in text)
                if any(not _PLAIN.issuperset(map(type, row)) and _holds_nan(row) for row in with_null):
                    return None
            return Prints(b"".join(map(key_digest, map(str.encode, ids))), b"".join(map(digest, texts)))
        except Exception:  # noqa: BLE001 - whatever one record holds: it is then read by itself
            return None

    def _texts(self, rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
        """Return rows as JSON; once one of them holds what takes the slower way, all do."""
        if self._is_json:
            try:
                return list(map(_dump_json, rows))
            except TypeError:
                self._is_json = False
        return list(map(_dump, rows))

    def _one(self, record: Any) -> tuple[bytes, bytes]:
        try:
            values = tuple(read_field(record, spec) for spec in self._specs)
            external_id = self._id_text(external_id_text(self._job.get_external_id(record)))
            text = _dump(values)
            if b"null" in text and any(map(_holds_nan, values)):
                return _NOT_KNOWN
            return key_digest(external_id.encode()), digest(text)
        except Exception:  # noqa: BLE001 - a record that cannot be read is judged, and rejected, where it is staged
            return _NOT_KNOWN


class RecordFingerprinter:
    """Takes the fingerprints of a callback job's records: of the external id and the whole record."""

    def __init__(self, job: "SyncJob[Any, Any]", shaper: Shaper) -> None:
        """Read ids as the job tells them; `shaper` makes the job's `record_type` of a record."""
        self._job = job
        self._shaper = shaper

    def page(self, records: Sequence[Any]) -> Prints:
        """Return the fingerprint of each record, as `Fingerprinter.page` does."""
        return each_print(self._one, records)

    def _one(self, record: Any) -> tuple[bytes, bytes]:
        try:
            external_id = external_id_text(self._job.get_external_id(self._shaper.revive(record)))
            text = f"{external_id}\n{_record_text(record)}"
            return key_digest(external_id.encode()), digest(text.encode())
        except Exception:  # noqa: BLE001 - a record that cannot be read is judged, and rejected, where it is staged
            return _NOT_KNOWN


def _record_text(record: Any) -> str:
    """Return a record as text, the same for two records only if callbacks cannot tell them apart."""
    plain = plain_record(record)
    if orjson is not None:
        with suppress(TypeError):
            text = orjson.dumps(plain, default=_refused, option=_PASSED)
            if b"null" not in text or not _holds_nan(plain):
                return text.decode()
    return f"staged {encode_record(record)}"


def _holds_null(text: bytes) -> bool:
    """Search for null; nearly always the two letters are not there, which takes a fifth of the time to see."""
    letters = np.frombuffer(text, np.uint8)
    return bool(np.any((letters[:-1] == _U) & (letters[1:] == _L))) and b"null" in text


def _refused(value: Any) -> Any:
    """Leave what is not plain JSON to the text that is staged."""
    raise TypeError(type(value).__name__)


def _holds_nan(value: Any) -> bool:
    """Tell whether a value holds what JSON writes as null though it is not absent."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(map(_holds_nan, cast("Mapping[Any, Any]", value).values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_nan, cast("list[Any]", value)))
    return value is not None and not isinstance(value, str | int | Decimal | date | time | bytes)


def mapping_digest(mapping: TableMapping, version: str) -> str:
    """Return a digest of everything that decides what a fingerprint means; another one makes old prints worthless.

    Of a `convert` the function itself is taken, not what it calls: the full compare of every n-th run covers that.
    """
    job = mapping.job
    specs = {**job.key, **job.fields}
    parts: list[object] = [
        ALGORITHM,
        version,
        job.target.fullname,
        job.version,
        repr(job.missing_policy),
        [
            [name, spec.source, _identity(spec.convert), spec.has_default and repr(spec.default)]
            for name, spec in specs.items()
        ],
        [[column.name, repr(column.type), bool(column.nullable)] for column in mapping.columns],
    ]
    return hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=16).hexdigest()


def callbacks_digest(job: "SyncJob[Any, Any]", version: str) -> str:
    """Return a digest of what decides what a callback job makes of a record, as far as it can be seen.

    It covers the methods and plain values of the job, its class and their bases, and of its `record_type`; not what
    they call.
    """
    own = [kind for kind in type(job).__mro__ if kind.__module__ != SyncJob.__module__]
    record_types = [kind for kind in getattr(job.record_type, "__mro__", ()) if kind.__module__ != "pydantic.main"]
    parts: list[object] = [
        ALGORITHM,
        version,
        job.code_version,
        repr(job.missing_policy),
        [_members(kind) for kind in [*own, *record_types] if kind is not object],
        _members(job),
    ]
    return hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=16).hexdigest()


def _members(owner: Any) -> object:
    """Return what a job, or a class, holds itself: functions by their code, plain values, others by their type.

    The options of every job are left out: of these the policy alone says what becomes of a row.
    """
    found: dict[str, object] = {}
    members = cast("Mapping[str, Any]", vars(owner))
    for name, member in members.items():
        if name in JobOptions.__annotations__:
            continue
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if hasattr(function, "__code__"):
            found[name] = _identity(function)
        elif not name.startswith("__") or name == "__annotations__":
            found[name] = repr(member) if name == "__annotations__" else _constant(member)
    return [getattr(owner, "__qualname__", None), sorted(found.items())]


def _identity(function: Any) -> object:
    if isinstance(function, partial):
        return [_identity(function.func), _constant(function.args), _constant(tuple(function.keywords.items()))]
    code = getattr(function, "__code__", None)
    if code is None:
        name = getattr(function, "__qualname__", None)
        return [getattr(function, "__module__", None), name or type(function).__qualname__]
    cells = [_constant(cell.cell_contents) for cell in function.__closure__ or ()]
    return [function.__module__, function.__qualname__, _code(code), cells, _constant(function.__defaults__)]


def _code(code: CodeType) -> object:
    inner = [_code(item) if isinstance(item, CodeType) else _constant(item) for item in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), inner]


def _constant(value: Any) -> object:
    """Return what is the same in every process: no addresses."""
    if isinstance(value, tuple):
        return [_constant(item) for item in cast("tuple[Any, ...]", value)]
    if value is None or isinstance(value, str | int | float | bytes | Decimal):
        return repr(value)
    return type(value).__qualname__
