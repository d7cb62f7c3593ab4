"""`sync_state`: what a job's rows looked like at the source when they were last in step, packed into blobs.

One entry of 24 bytes for each row of the target, sorted by the hash of its external id: that hash, and the
fingerprint of the record, zero where it is not known. The blobs change only in the transaction of the rows.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, insert, select

from sync_defs.engine.ports import Fingerprint
from sync_defs.store.dialects import SqlDialect
from sync_defs.store.fingerprint import Prints
from sync_defs.store.schema import state_parts
from sync_defs.store.state_header import StateHeader

ENTRY = np.dtype([("key", "<u8"), ("low", "<u8"), ("high", "<u8")])
"""A `Fingerprint`, as numbers."""
_SIZE = ENTRY.itemsize
_END = np.uint64((1 << 64) - 1)
_MOST_STEPS = 32
_PER_PART = 1_000
"""Entries of one blob on average, at most some 1,300: small enough to be rewritten for a single change."""
_MAX_PARTS = 4_096
_AT_ONCE = 64
"""Parts that are read, or written, at once."""


class State:
    """The entries of one job, in memory."""

    def __init__(self, entries: NDArray[Any]) -> None:
        """Take sorted entries."""
        self.entries = entries
        self._keys_and_end = np.append(entries["key"], _END)
        self.keys: NDArray[np.uint64] = self._keys_and_end[:-1]

    @classmethod
    def empty(cls) -> "State":
        """Return a state without entries."""
        return cls(np.empty(0, ENTRY))

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.entries)

    def find(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return for each key the place of its entry, and whether it has one."""
        if not len(self.keys):
            return np.zeros(len(keys), np.int64), np.zeros(len(keys), np.bool_)
        # Keys are hashes, so the first bits of one tell its place but for a few: a tenth of the time of a search.
        places = self._starts[keys >> self._shift].astype(np.int64)
        behind = np.flatnonzero(self._keys_and_end[places] < keys)
        for _ in range(_MOST_STEPS):
            if not len(behind):
                break
            places[behind] += 1
            behind = behind[self._keys_and_end[places[behind]] < keys[behind]]
        else:
            places[behind] = np.searchsorted(self.keys, keys[behind])
        np.minimum(places, len(self.keys) - 1, out=places)
        return places, self.keys[places] == keys

    @property
    def _shift(self) -> np.uint64:
        """Return how many of a key's last bits its bucket leaves out; there are nearly as many buckets as keys."""
        return np.uint64(64 - max(len(self.keys).bit_length() - 1, 1))

    @cached_property
    def _starts(self) -> NDArray[np.int32]:
        """Return the first place of each bucket."""
        buckets = np.arange(1 << (64 - int(self._shift)), dtype=np.uint64)
        return np.searchsorted(self.keys, buckets << self._shift).astype(np.int32)

    def changed(self, put: NDArray[Any], removed: NDArray[np.uint64]) -> "State":
        """Return the state with entries put in or in place of others, and others removed; the last one put wins."""
        if not len(put) and not len(removed):
            return self
        put = in_order(put)
        is_gone = np.zeros(len(self), np.bool_)
        for keys in (put["key"], removed):
            places, is_there = self.find(keys)
            is_gone[places[is_there]] = True
        if is_gone.all():
            return State(put)
        kept = self.entries[~is_gone]
        return State(np.insert(kept, np.searchsorted(kept["key"], put["key"]), put))


def in_order(entries: NDArray[Any]) -> NDArray[Any]:
    """Return entries by their keys; of those with the same key the last one."""
    keys = entries["key"]
    if np.all(keys[:-1] < keys[1:]):
        return entries
    entries = entries[np.argsort(keys, kind="stable")]
    is_last = np.append(entries["key"][:-1] != entries["key"][1:], True)
    return entries if is_last.all() else entries[is_last]


def fingerprints(entries: NDArray[Any]) -> list[Fingerprint | None]:
    """Return the fingerprints of entries; None for one that is not known."""
    packed = entries.tobytes()
    found: list[Fingerprint | None] = [packed[start : start + _SIZE] for start in range(0, len(packed), _SIZE)]
    for place in np.flatnonzero((entries["low"] | entries["high"]) == 0).tolist():
        found[place] = None
    return found


def joined(parts: Iterable[bytes]) -> NDArray[Any]:
    """Return the entries of fingerprints, one after the other, in parts; these are not all held at once."""
    packed = bytearray()
    for part in parts:
        packed += part
    return np.frombuffer(packed, ENTRY)


def entries_of(prints: Prints) -> NDArray[Any]:
    """Return the entries of a page's fingerprints."""
    keys, contents = np.frombuffer(prints.keys, ">u8"), np.frombuffer(prints.contents, "<u8")
    entries = np.empty(len(keys), ENTRY)
    entries["key"], entries["low"], entries["high"] = keys, contents[::2], contents[1::2]
    return entries


def unknown(keys: Sequence[int] | NDArray[np.uint64]) -> NDArray[Any]:
    """Return entries whose fingerprints are not known."""
    entries = np.zeros(len(keys), ENTRY)
    entries["key"] = np.asarray(keys, np.uint64)
    return entries


def load_state(connection: Connection, dialect: SqlDialect, job_name: str, header: StateHeader) -> State | None:
    """Return the entries, or None where they are not what the header says: then everything is compared in full."""
    statement = select(state_parts.c.entries).where(state_parts.c.job == job_name).order_by(state_parts.c.part)
    entries = np.empty(header.entries, ENTRY)
    whole, size, parts = entries.view(np.uint8), 0, 0
    for blob in chain.from_iterable(dialect.values(connection, statement, at_once=_AT_ONCE)):
        if size + len(blob) > len(whole):
            return None
        whole[size : size + len(blob)] = np.frombuffer(blob, np.uint8)
        size, parts = size + len(blob), parts + 1
    if parts != header.parts or size != len(whole):
        return None
    is_sorted = bool(np.all(entries["key"][:-1] <= entries["key"][1:]))
    return State(entries) if is_sorted else None


def save_parts(connection: Connection, job_name: str, state: State, before: State | None) -> int:
    """Write the blobs that differ from those of the state before; return how many parts there are."""
    parts = _parts(len(state))
    new = _slices(state, parts)
    where = state_parts.c.job == job_name
    if before is None or _parts(len(before)) != parts:
        dirty = list(range(parts))
        connection.execute(delete(state_parts).where(where))
    else:
        pairs = zip(new, _slices(before, parts), strict=True)
        dirty = [part for part, (now, then) in enumerate(pairs) if now.tobytes() != then.tobytes()]
        if dirty:
            connection.execute(delete(state_parts).where(where, state_parts.c.part.in_(dirty)))
    for start in range(0, len(dirty), _AT_ONCE):
        some = dirty[start : start + _AT_ONCE]
        rows = [{"job": job_name, "part": part, "entries": new[part].tobytes()} for part in some]
        connection.execute(insert(state_parts), rows)
    return parts


def _parts(entries: int) -> int:
    """Return a power of two, so that a key's part is told by its first bits."""
    return min(1 << max(0, (max(entries, 1) - 1) // _PER_PART).bit_length(), _MAX_PARTS)


def _slices(state: State, parts: int) -> list[NDArray[Any]]:
    """Return the entries of each part, as views."""
    shift = 64 - (parts.bit_length() - 1)
    starts = [0] if parts == 1 else np.searchsorted(state.keys, np.arange(parts, dtype=np.uint64) << np.uint64(shift))
    edges = [*map(int, starts), len(state)]
    return [state.entries[edges[part] : edges[part + 1]] for part in range(parts)]
