"""Fingerprints of a frame's page, taken column by column: no row of it is made into a record.

The entries are of the same size as those of `fingerprint`, and of other content: a source that gives frames in place
of records, or a column in another type, has every record compared once. The hashes of external ids are the same.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sync_defs.engine.external_id import external_id_text
from sync_defs.fields import converted
from sync_defs.store.columns import Column, Flags, Words
from sync_defs.store.fingerprint import key_digest, key_hash, printed_fields
from sync_defs.store.frames import FramePage
from sync_defs.store.mapping import TableMapping
from sync_defs.store.state import ENTRY

_FLAGS_OF_A_WORD = 64
_SHIFT = np.uint64(33)
_MIXERS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
"""Of the finaliser of MurmurHash3, which turns two words that differ in one bit into two that differ in half."""
_CHAIN = np.uint64(0x9E3779B97F4A7C15)


class ColumnPrints:
    """Takes the fingerprints of a table job's records from frames."""

    def __init__(self, mapping: TableMapping) -> None:
        """Read the columns that the mapping reads, before any conversion."""
        self._mapping = mapping
        self._fields = printed_fields(mapping)

    def entries(self, page: FramePage) -> NDArray[Any] | None:
        """Return the entry of each record, zero for one that has to be read to be known.

        None where a field lies inside the values of a column, so that records are needed.
        """
        columns = [page.column(str(field.source)) for field in self._fields]
        absent = [field for field, column in zip(self._fields, columns, strict=True) if column is None]
        if any("." in str(field.source) for field in absent):
            return None
        entries = np.zeros(len(page), ENTRY)
        if columns[0] is None or not all(field.has_default for field in absent):
            return entries
        entries["key"], unreadable = self._keys(columns[0], len(page))
        entries["low"], entries["high"] = _contents(columns, len(page))
        for column in columns:
            if column is not None and column.unreadable is not None:
                unreadable |= column.unreadable
        entries[unreadable] = np.zeros((), ENTRY)
        return entries

    def _keys(self, column: Column, rows: int) -> tuple[Words, Flags]:
        """Return the hashes of the external ids, and which rows have none."""
        texts = column.texts() if column.texts is not None and self._mapping.plain_key is not None else None
        if texts is None:
            values = column.values()
            if self._mapping.takes_integer_ids and set(map(type, values)) == {int}:
                texts = [b"%d" % value for value in values]
            else:
                hashes = [self._key(value) for value in values]
                unreadable = np.fromiter((found is None for found in hashes), np.bool_, rows)
                return np.fromiter((found or 0 for found in hashes), np.uint64, rows), unreadable
        return np.frombuffer(b"".join(map(key_digest, texts)), ">u8").astype(np.uint64), np.zeros(rows, np.bool_)

    def _key(self, value: object) -> int | None:
        try:
            return key_hash(self._mapping.id_text(external_id_text(converted(value, self._fields[0]))))
        except Exception:  # noqa: BLE001 - user code: the record is judged, and rejected, where it is staged
            return None


def _contents(columns: Sequence[Column | None], rows: int) -> tuple[Words, Words]:
    """Return two words for each row, of which at least one differs where two rows do.

    Every word of a column is mixed with what no other column has, so that values that change places differ, and goes
    into a sum and into a chain: for two rows to share both, unrelated 128 bits have to fall together.
    """
    kinds = repr([column and column.kind for column in columns])
    low, high = (np.full(rows, start, np.uint64) for start in _constants(kinds))
    flags = np.zeros((1 + len(columns) // _FLAGS_OF_A_WORD, rows), np.uint64)
    for place, column in enumerate(columns):
        if column is None:
            continue
        if column.absent is not None:
            word, bit = divmod(place, _FLAGS_OF_A_WORD)
            flags[word] |= column.absent.astype(np.uint64) << np.uint64(bit)
        for number, word in enumerate(column.words()):
            mixed = _mixed(word, f"{place}.{number}")
            if column.absent is not None:
                mixed[column.absent] = 0
            _put(low, high, mixed)
    for number, word in enumerate(flags):
        _put(low, high, _mixed(word, f"absent {number}"))
    return low, high


def _put(low: Words, high: Words, mixed: Words) -> None:
    low += mixed
    high ^= mixed
    high *= _CHAIN


def _mixed(word: Words, place: str) -> Words:
    found = word ^ _constants(place)[0]
    for mixer in _MIXERS:
        found ^= found >> _SHIFT
        found *= mixer
    found ^= found >> _SHIFT
    return found


@lru_cache(1_000)
def _constants(name: str) -> tuple[np.uint64, np.uint64]:
    """Return two words that stand for a name."""
    low, high = np.frombuffer(blake2b(name.encode(), digest_size=16).digest(), "<u8").astype(np.uint64)
    return low, high
