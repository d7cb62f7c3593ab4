"""From whatever a fetch returns to pages of records, and from a record to its staged form."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, cast

from sync_defs.engine.external_id import external_id_text
from sync_defs.engine.ports import Fingerprint, Shaped, StagedRecord, Store
from sync_defs.errors import FetchError, RecordError
from sync_defs.fields import Deletion
from sync_defs.job import Job
from sync_defs.results import ItemError, Outcome

PAGE = 2_000
Page = list[Sequence[Any]]
"""Records in one or several parts: lists, and pages of frames, which make their records when asked for them."""
FramePages = Callable[[Any], "Iterator[Sequence[Any]] | None"]


def pages(fetched: Any, frame_pages: FramePages) -> Iterator[Page]:
    """Yield pages of records from a fetch's return value; what comes in small parts is gathered into some 2,000.

    Raises:
        FetchError: the value is nothing that holds records, such as None or text.
    """
    gathered: Page = []
    size = 0
    try:
        for part in _parts(fetched, frame_pages):
            frames = frame_pages(part)
            for records in [_listed(part)] if frames is None else frames:
                if len(records):
                    _gather(gathered, records)
                    size += len(records)
                if size >= PAGE:
                    yield gathered
                    gathered, size = [], 0
    except Exception:
        # What came before the failure is judged, so that the results so far are true; then it fails.
        if gathered:
            yield gathered
        raise
    if gathered:
        yield gathered


def _parts(fetched: Any, frame_pages: FramePages) -> Iterable[Any]:
    if frame_pages(fetched) is not None:
        return [fetched]
    # A pydantic model or a named tuple can be iterated, but over its fields.
    is_record = hasattr(fetched, "model_dump") or hasattr(fetched, "_asdict")
    if is_record or not hasattr(fetched, "__iter__") or isinstance(fetched, str | bytes | Mapping):
        kind = type(cast("object", fetched)).__name__
        raise FetchError(
            f"the fetch returned {kind}; return or yield records, pages of records or a DataFrame",
            code="bad_fetch_result",
        )
    return cast("Iterable[Any]", fetched)


def _listed(part: Any) -> list[Any]:
    return cast("list[Any]", part) if isinstance(part, list) else [part]


def _gather(gathered: Page, records: Sequence[Any]) -> None:
    """Put records to those of the same kind before them: lists become one, in a list that is nobody else's."""
    if not isinstance(records, list):
        gathered.append(records)
    elif gathered and isinstance(last := gathered[-1], list):
        last.extend(records)
    else:
        gathered.append(list(records))


class _Found(NamedTuple):
    """A record of which the id is known, to be shaped."""

    seq: int
    external_id: str
    record: Any
    fingerprint: Fingerprint | None


class Stager:
    """Judges the records of a page: id, `should_skip`, shape. Keeps the newest version that it saw."""

    def __init__(self, job: Job, store: Store, *, takes_deletions: bool) -> None:
        """Judge for one run of a job."""
        self._job = job
        self._shaper = store.shaper(job)
        self._now = store.now
        self._encode = store.encode
        self._takes_deletions = takes_deletions
        self._keeps_all = job.is_incremental
        self.fetched = 0
        self.unidentified = 0
        """Records without a usable id: which row they are is unknown, so no row can be judged missing."""
        self.rejected_count = 0
        self.rejected: list[ItemError] = []
        self.newest_version: Any = None

    def pass_over(self, count: int) -> None:
        """Count records that need not be staged."""
        self.fetched += count

    def stage(
        self,
        records: Sequence[Any],
        fingerprints: Sequence[Fingerprint | None] | None = None,
        *,
        moves_cursor: bool = True,
    ) -> list[StagedRecord]:
        """Return the staged form of each record; an error of a record is in its own, never raised."""
        records = records if isinstance(records, list) else list(records)  # a frame makes its records each time anew
        prints = [None] * len(records) if fingerprints is None else fingerprints
        ids = self._shaper.ids(records)
        if ids is not None:
            return self._stage_page(records, ids, prints, moves_cursor=moves_cursor)
        judged = list(map(self._judge, records, prints))
        shaped = iter(self._shaper.shape([item.record for item in judged if isinstance(item, _Found)]))
        return [
            self._shaped(item, next(shaped), moves_cursor=moves_cursor) if isinstance(item, _Found) else item
            for item in judged
        ]

    def _stage_page(
        self, records: Sequence[Any], ids: Sequence[str], prints: Sequence[Fingerprint | None], *, moves_cursor: bool
    ) -> list[StagedRecord]:
        """Return the staged form of a page whose ids are known; where all is well with it, in one go."""
        seqs = range(self.fetched + 1, self.fetched + 1 + len(records))
        self.fetched += len(records)
        shaped = self._shaper.shape(records)
        versions = None if self._keeps_all else self._shaper.versions(shaped)
        if versions is None:
            found = map(_Found, seqs, ids, records, prints)
            return [self._shaped(item, row, moves_cursor=moves_cursor) for item, row in zip(found, shaped, strict=True)]
        nothing = repeat(None)
        rows = zip(seqs, ids, shaped, nothing, nothing, nothing, repeat(False), versions, prints, strict=False)
        return list(map(StagedRecord._make, rows))

    def _judge(self, record: Any, fingerprint: Fingerprint | None) -> "_Found | StagedRecord":
        self.fetched += 1
        external_id: str | None = None
        try:
            if isinstance(record, Deletion):
                return self._deletion(record)
            record = self._shaper.revive(record)
            external_id = self._shaper.id_text(external_id_text(self._job.get_external_id(record)))
            if self._job.should_skip(record):
                values = self._shaper.key_only(external_id)
                return StagedRecord(self.fetched, external_id, values, Outcome.SKIPPED)
        except Exception as error:  # noqa: BLE001 - user code: one bad record must not end the sync
            return self._reject(self.fetched, record, external_id, error)
        return _Found(self.fetched, external_id, record, fingerprint)

    def _shaped(self, found: "_Found", shaped: Shaped | Exception, *, moves_cursor: bool) -> StagedRecord:
        seq, external_id, record, fingerprint = found
        if isinstance(shaped, Exception):
            return self._reject(seq, record, external_id, shaped)
        values, text = (None, shaped) if isinstance(shaped, str) else (shaped, None)
        try:
            version = self._shaper.version_of(record, values)
            if moves_cursor and version is not None:
                self._note_version(version)
        except Exception as error:  # noqa: BLE001 - user code: one bad record must not end the sync
            return self._reject(seq, record, external_id, error)
        if text is None and self._keeps_all:
            # The next incremental fetch will not bring it again, should the database refuse it.
            text = self._kept(record)
        return StagedRecord(seq, external_id, values, None, None, text, False, version, fingerprint)

    def _deletion(self, deletion: Deletion) -> StagedRecord:
        if not self._takes_deletions:
            raise RecordError("a fetch yields records; only a message says that an item is gone")
        given = deletion.external_id
        if given is None and deletion.record is not None:
            given = self._job.get_external_id(self._shaper.revive(deletion.record))
        external_id = self._shaper.id_text(external_id_text(given))
        values = self._shaper.key_only(external_id, deletion.record)
        last = self._kept(deletion.record) if deletion.record is not None else None
        version = self._version_of_last(deletion.record, values)
        return StagedRecord(self.fetched, external_id, values, record=last, is_deletion=True, version=version)

    def _version_of_last(self, record: Any, values: Any) -> Any:
        try:
            return self._shaper.version_of(self._shaper.revive(record), values) if record is not None else None
        except Exception:  # noqa: BLE001 - user code: a message may say no more of what is gone than its id
            return None

    def _note_version(self, version: Any) -> None:
        if self._keeps_all and (self.newest_version is None or is_older(self.newest_version, version)):
            self.newest_version = version

    def _reject(self, seq: int, record: Any, external_id: str | None, error: Exception) -> StagedRecord:
        external_id = external_id or _id_or_none(self._job, record)
        if external_id is None:
            self.unidentified += 1
        reason, code, field = _reason(error)
        self.rejected_count += 1
        item = ItemError(external_id=external_id, message=reason, code=code, field=field, timestamp=self._now())
        if len(self.rejected) < PAGE:
            self.rejected.append(item)
        values = self._shaper.key_only(external_id) if external_id is not None else None
        return StagedRecord(seq, external_id, values, Outcome.REJECTED, item, self._kept(record))

    def _kept(self, record: Any) -> str | None:
        try:
            return self._encode(record)
        except Exception:  # noqa: BLE001 - a record that cannot even be read is reported, not kept
            return None


def is_older(version: Any, than: Any) -> bool:
    """Tell whether one version of an item is certainly older than another."""
    try:
        return version is not None and than is not None and bool(version < than)
    except TypeError:  # a callback job's versions may be of two kinds
        return False


def _id_or_none(job: Job, record: Any) -> str | None:
    """Return a record's id as the job tells it, or None where it cannot."""
    try:
        return external_id_text(job.get_external_id(record))
    except Exception:  # noqa: BLE001 - user code: whoever asks here has a use for "none"
        return None


def _reason(error: Exception) -> tuple[str, str, str | None]:
    if isinstance(error, RecordError):
        return error.reason, error.code, error.field
    return f"get_external_id, should_skip or a field raised {type(error).__name__}", "callback_failed", None
