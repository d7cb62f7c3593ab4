"""The filter: records whose fingerprint is known are unchanged, and neither read nor staged.

It is used where every run fetches everything. The state is believed only while it is proved to fit: the mapping is
the same, the target has as many rows as there are entries, and, where the database can tell, the target's checksum is
the one that was left. Otherwise every record is a candidate, which costs time and nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, select

from sync_defs.engine.ports import KnownRecords, Run, Sifted, StagedRecord, StageHandle
from sync_defs.job import Job
from sync_defs.policies import MissingAction
from sync_defs.results import Action, Outcome
from sync_defs.store import schema
from sync_defs.store.column_prints import ColumnPrints
from sync_defs.store.database import Database
from sync_defs.store.dialects import SqlDialect
from sync_defs.store.fingerprint import Fingerprinter, Prints, key_digest, key_hash, mapping_digest
from sync_defs.store.frames import FramePage
from sync_defs.store.proof import table_sum
from sync_defs.store.staging import is_candidate
from sync_defs.store.state import (
    ENTRY,
    State,
    entries_of,
    fingerprints,
    in_order,
    joined,
    load_state,
    save_parts,
    unknown,
)
from sync_defs.store.state_header import StateHeader, load_header, save_header
from sync_defs.store.statements import TableStatements
from sync_defs.store.table_writer import expected_without_state

COMPARE_EVERY = 24
"""Without a checksum, everything is compared in every so-manieth run."""
_UNSEEN, _SEEN, _CANDIDATE = 0, 1, 2
KEYS_AT_ONCE = 10_000
DIGEST_VERSION = "1"
"""Of what a fingerprint covers; raised when coercion changes what a record means."""
StageMissing = Callable[[Sequence[tuple[Any, str]]], None]
"""Stages rows that a fetch lacked, given as key and external id."""


class JobState(ABC):
    """A job's state beside its target, on one connection."""

    def __init__(self, connection: Connection, dialect: SqlDialect, job: Job, stage: Table, *, digest: str) -> None:
        """Work inside the connection's transaction; `digest` is of everything that decides what the state means."""
        self._connection = connection
        self._dialect = dialect
        self._job = job
        self._stage = stage
        self._digest = digest

    @abstractmethod
    def _fitting(self, state: State) -> State | None:
        """Return the state with no more in it than the target bears out, or None where it does not fit at all."""

    def _rows(self) -> int | None:
        """Return how many entries there have to be; None: as many as there are."""
        return None

    def _reconciled(self, state: State) -> State:
        """Return a state with as many entries as `_rows` said."""
        return state

    def load(self, drift: int | None) -> State | None:
        """Return the state with what cannot be told by it not known, or None where it is not proved to fit."""
        header = load_header(self._connection, self._job.name)
        if header is None or header.digest != self._digest or not self._is_due_to_be_believed(header):
            return None
        # Where only one of then and now has a checksum, nothing is proved either.
        if (header.checksum is None) != (drift is None) or drift:
            return None
        state = load_state(self._connection, self._dialect, self._job.name, header)
        if state is None:
            return None
        state = self._fitting(_without(state, self._touched(header.watermark)))
        return self._without_rejected(state) if state is not None else None

    def save(self, run: Run, handle: StageHandle, shift: int | None, now: datetime) -> None:
        """Bring the state in line with what the run has just written, in the same transaction."""
        last = load_header(self._connection, self._job.name)
        held = last if handle.is_sifted and last is not None and last.digest == self._digest else None
        put, removed = self._news() if handle.has_stage else (unknown([]), unknown([])["key"])
        touched = self._touched(held.watermark) if held is not None else []
        is_news = held is None or len(put) or len(removed) or touched
        # A state that was believed had an entry for each row: it has been counted before the fetch.
        rows = self._rows() if held is None else None
        moved = None if shift is None or handle.drift is None else _checksum_of(last) ^ handle.drift ^ shift
        header = StateHeader(
            digest=self._digest,
            entries=held.entries if held is not None else 0,
            parts=held.parts if held is not None else 0,
            checksum=moved,
            watermark=run.watermark,
            runs=held.runs + 1 if held is not None else 0,
        )
        # What others wrote meanwhile shows to the next run, which then compares everything.
        if is_news:
            stored = load_state(self._connection, self._dialect, self._job.name, held) if held is not None else None
            state = _without(stored or State.empty(), touched).changed(put, removed)
            if rows not in (None, len(state)):
                state = self._reconciled(state)
            parts = save_parts(self._connection, self._job.name, state, stored)
            header = replace(header, entries=len(state), parts=parts)
        save_header(self._connection, self._job.name, header, now)

    def _is_due_to_be_believed(self, header: StateHeader) -> bool:
        verify = self._job.verify
        if verify is None:
            return header.checksum is not None or header.runs + 1 < COMPARE_EVERY
        return verify == 0 or header.runs + 1 < verify

    def _without_rejected(self, state: State) -> State:
        """Return the state with the records of open rejects not known: they are closed by being kept."""
        c = schema.rejects.c
        is_open = (c.job == self._job.name, c.closed_at.is_(None), c.external_id.is_not(None))
        ids = list(self._connection.execute(select(c.external_id).where(*is_open)).scalars())
        keys = np.fromiter(map(key_hash, ids), np.uint64, len(ids))
        return state.changed(unknown(keys[state.find(keys)[1]]), unknown([])["key"])

    def _touched(self, watermark: int) -> list[tuple[str, str]]:
        c = schema.changes
        rows = self._connection.execute(
            select(c.c.external_id, c.c.action)
            .where(c.c.job == self._job.name, c.c.is_item, c.c.id > watermark)
            .order_by(c.c.id)
        )
        return [(external_id, action) for external_id, action in rows]

    def _news(self) -> tuple[NDArray[Any], NDArray[np.uint64]]:
        """Return the entries of what landed, or is held in another form, and the keys of what was deleted."""
        s = self._stage
        landed = is_candidate(s) | (s.c.action == Outcome.UNCHANGED.value)
        statement = select(s.c.seq, s.c.entry).where(s.c.entry.is_not(None), ~s.c.is_deletion, landed).order_by(s.c.seq)
        put = in_order(joined(self._dialect.packed_prints(self._connection, statement)))
        others = (Outcome.STALE.value, Action.MARKED.value, Action.DELETED.value)
        # What landed without a fingerprint would else be taken for what the row was before.
        is_unprinted = s.c.entry.is_(None) & ~s.c.is_deletion & landed
        unknown_now = s.c.action.in_(others) | is_unprinted
        rows = self._connection.execute(select(s.c.external_id, s.c.action).where(unknown_now))
        there, gone = _there_and_gone([(external_id, action) for external_id, action in rows])
        return np.concatenate([put, unknown(there)]) if len(there) else put, gone


class TableState(JobState):
    """A table job's state: one entry for each row."""

    def __init__(self, connection: Connection, statements: TableStatements) -> None:
        """See `JobState`."""
        mapping = statements.mapping
        digest = mapping_digest(mapping, DIGEST_VERSION)
        super().__init__(connection, statements.dialect, mapping.job, statements.stage, digest=digest)
        self._statements = statements
        self.row_count: int | None = None
        """Rows of the target when they were counted, those without a key too."""
        self._keys: int | None = None

    def drift(self) -> int | None:
        """Return what the target's checksum differs by from the one that was left; None where there is no checksum."""
        header, found = load_header(self._connection, self._job.name), table_sum(self._connection, self._statements)
        if found is None:
            return None
        self.row_count, self._keys = found.rows, found.keys
        return found.checksum ^ _checksum_of(header)

    def _fitting(self, state: State) -> State | None:
        keys = self._keys if self._keys is not None else self._rows()
        return state if keys == len(state) else None

    def _rows(self) -> int | None:
        self.row_count, keys = self._connection.execute(self._statements.count_rows_and_keys()).one()
        return int(keys)

    def _reconciled(self, state: State) -> State:
        """Return a state with one entry for each row: rows that no record stands for, or whose record failed, too."""
        parts = self._dialect.values(self._connection, self._statements.present_keys(), at_once=KEYS_AT_ONCE)
        hashes = [_hashes(self._statements.mapping.ids_of(part)) for part in parts]
        keys = np.concatenate([np.empty(0, np.uint64), *hashes])
        absent = keys[~state.find(keys)[1]]
        return state.changed(unknown(absent), state.keys[~np.isin(state.keys, keys)])


def _without(state: State, touched: Sequence[tuple[str, str]]) -> State:
    """Return the state with what messages wrote not known, and what they deleted not there."""
    if not touched:
        return state
    there, gone = _there_and_gone(list(dict(touched).items()))
    return state.changed(unknown(there), gone)


def _there_and_gone(actions: Sequence[tuple[str, str]]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the hashes of the ids whose rows are there, and of those whose rows were deleted."""
    there = [key_hash(external_id) for external_id, action in actions if action != Action.DELETED]
    gone = [key_hash(external_id) for external_id, action in actions if action == Action.DELETED]
    return np.array(there, np.uint64), np.array(gone, np.uint64)


class KnownByPrint(KnownRecords):
    """The filter of one run's fetch."""

    has_prints = True

    def __init__(
        self,
        job: Job,
        state: State | None,
        prints: Callable[[Sequence[Any]], Prints],
        revive: Callable[[Any], Any],
    ) -> None:
        """Know what the state has, None for nothing.

        `prints` returns a page's fingerprints, `revive` a record as the job's own code wants it.
        """
        self._prints = prints
        self._state = state or State.empty()
        self.is_sifted = state is not None
        self._should_skip = job.should_skip if job.skips else None
        self._revive = revive
        self._status = np.zeros(len(self._state), np.uint8)
        self._candidates: list[NDArray[np.uint64]] = []

    def sift(self, page: Sequence[Any]) -> Sifted:
        """See `KnownRecords`."""
        entries = self._frame_entries(page) if isinstance(page, FramePage) else None
        if entries is not None:
            return self._sifted(entries, page)
        records = page if isinstance(page, list) else list(page)
        return self._sifted(entries_of(self._prints(records)), records)

    def _sifted(self, entries: NDArray[Any], page: Sequence[Any]) -> Sifted:
        if not len(self._state):
            return page, fingerprints(entries)
        places = self._unknown(entries, page)
        return _taken(page, places), fingerprints(entries[places])

    def _frame_entries(self, page: FramePage) -> NDArray[Any] | None:
        """Return the entry of each record of a frame's page; None, the default: records are needed."""
        return None

    def _unknown(self, entries: NDArray[Any], page: Sequence[Any]) -> list[int]:
        """Count the records of a page that are known, and return the places of the others."""
        places, is_there = self._state.find(entries["key"])
        # Whole entries picked out in one go would take eight times as long.
        low, high = (self._state.entries[word][places] for word in ("low", "high"))
        is_known = is_there & (low == entries["low"]) & (high == entries["high"])
        is_known &= (entries["low"] | entries["high"]) != 0
        if self._should_skip is not None:
            known_places = np.flatnonzero(is_known)
            records = _taken(page, known_places.tolist())
            is_known[known_places] = ~np.fromiter(map(self._is_skipped, records), np.bool_, len(records))
        changed = _distinct(places[is_there & ~is_known])
        # A known record that comes again in another form is a repetition of this one.
        repeated = int(np.count_nonzero(self._status[changed] == _SEEN))
        self.unchanged -= repeated
        self.skipped += repeated
        self._status[changed] = _CANDIDATE
        # One id twice, in two forms: both go to the stage, where versions and the order of arrival decide.
        is_known &= self._status[places] != _CANDIDATE
        known = places[is_known]
        fresh = _distinct(known[self._status[known] == _UNSEEN])
        self._status[fresh] = _SEEN
        self.unchanged += len(fresh)
        self.skipped += len(known) - len(fresh)
        return np.flatnonzero(~is_known).tolist()

    def note(self, staged: Sequence[StagedRecord]) -> Sequence[str | None]:
        """See `KnownRecords`."""
        if self.is_sifted:
            self._held(staged)
        return [None] * len(staged)

    def _held(self, staged: Sequence[StagedRecord]) -> NDArray[np.bool_]:
        """Take note of records that are staged, and return which of them have an entry."""
        prints = [record.fingerprint for record in staged]
        if None in prints:
            # A record without an id is rejected, and no row has an empty one.
            keys = np.fromiter((key_hash(record.external_id or "") for record in staged), np.uint64, len(staged))
        else:
            keys = np.frombuffer(b"".join(cast("list[bytes]", prints)), ENTRY)["key"].copy()
        self._candidates.append(keys)
        places, is_there = self._state.find(keys)
        self._status[places[is_there]] = _CANDIDATE
        return is_there

    def _unseen(self) -> int:
        return int(np.count_nonzero(self._status == _UNSEEN))

    def _fetched(self) -> NDArray[np.uint64]:
        """Return the hashes of all ids that the fetch brought, sorted."""
        return np.unique(np.concatenate([self._state.keys[self._status != _UNSEEN], *self._candidates]))

    def _is_skipped(self, record: Any) -> bool:
        try:
            return bool(self._should_skip and self._should_skip(self._revive(record)))
        except Exception:  # noqa: BLE001 - user code: the record is judged, and rejected, where it is staged
            return True


class KnownRows(KnownByPrint):
    """The filter of a table job."""

    def __init__(
        self, database: Database, statements: TableStatements, *, is_full: bool, stage_missing: StageMissing
    ) -> None:
        """Load what is known, unless everything is to be compared."""
        self._database = database
        self._statements = statements
        self._stage_missing = stage_missing
        with database.read() as connection:
            held = TableState(connection, statements)
            self.drift = held.drift()
            state = None if is_full else held.load(self.drift)
            self.row_count = held.row_count
            self._expected = expected_without_state(connection, statements)
            self._tells_keys_apart = database.dialect.tells_keys_apart(connection, statements.key)
        self._column_prints = ColumnPrints(statements.mapping)
        mapping = statements.mapping
        super().__init__(mapping.job, state, Fingerprinter(mapping).page, mapping.revive)

    def _frame_entries(self, page: FramePage) -> NDArray[Any] | None:
        return self._column_prints.entries(page)

    def note(self, staged: Sequence[StagedRecord]) -> Sequence[str | None]:
        """See `KnownRecords`."""
        if self.is_sifted:
            updated, created = Outcome.UPDATED.value, Outcome.CREATED.value
            return [updated if is_held else created for is_held in self._held(staged).tolist()]
        if self._tells_keys_apart:
            self._held(staged)
        return [self._expected] * len(staged)

    def may_repeat(self) -> bool:
        """See `KnownRecords`; ids with unlike hashes are unlike."""
        if not self._tells_keys_apart:
            return True
        keys = np.concatenate([np.empty(0, np.uint64), *self._candidates])
        keys.sort()
        return bool(np.any(keys[1:] == keys[:-1]))

    def find_missing(self) -> int | None:
        """See `KnownRecords`."""
        if not self.is_sifted:
            return None
        unseen = self._unseen()
        if unseen == 0 or self._statements.policy.action is MissingAction.KEEP:
            return unseen
        found = self._find_unseen(self._state.keys[self._status == _UNSEEN])
        self._stage_missing(found)
        return len(found)

    def _find_unseen(self, unseen: NDArray[np.uint64]) -> list[tuple[Any, str]]:
        """Return key and external id of the rows with these hashes; rows without an entry are newer than the fetch."""
        statement = self._statements.present_keys(is_unmarked=True)
        found: list[tuple[Any, str]] = []
        with self._database.read() as connection:
            for keys in self._database.dialect.values(connection, statement, at_once=KEYS_AT_ONCE):
                ids = self._statements.mapping.ids_of(keys)
                hashes = _hashes(ids)
                places = np.minimum(np.searchsorted(unseen, hashes), len(unseen) - 1)
                found += [(keys[place], ids[place]) for place in np.flatnonzero(unseen[places] == hashes).tolist()]
        return found


def _hashes(ids: Sequence[str]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(map(key_digest, map(str.encode, ids))), ">u8").astype(np.uint64)


def _distinct(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each place once: a tenth of the time of `unique`, which counts by hashes."""
    places = np.sort(places)
    return places[np.append(True, places[1:] != places[:-1])[: len(places)]]


def _taken(page: Sequence[Any], places: Sequence[int]) -> list[Any]:
    return page.take(places) if isinstance(page, FramePage) else [page[place] for place in places]


def _checksum_of(header: StateHeader | None) -> int:
    return (header.checksum if header is not None else None) or 0


def remember(
    connection: Connection, statements: TableStatements, run: Run, handle: StageHandle, shift: int | None
) -> None:
    """Keep what a run has brought in step, in its transaction, so that the next one knows it."""
    TableState(connection, statements).save(run, handle, shift, statements.now)
