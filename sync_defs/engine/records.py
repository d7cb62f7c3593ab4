"""From whatever a fetch returns to pages of records, and from a record to its staged form."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from sync_defs.engine.external_id import external_id_text
from sync_defs.engine.ports import StagedRecord, Store
from sync_defs.errors import FetchError, RecordError
from sync_defs.fields import Deletion
from sync_defs.job import Job
from sync_defs.results import ItemError, Outcome

PAGE = 2_000
FramePages = Callable[[Any], "Iterator[list[Any]] | None"]


def pages(fetched: Any, frame_pages: FramePages) -> Iterator[list[Any]]:
    """Yield pages of records from a fetch's return value; records and small pages are gathered into some 2,000.

    Raises:
        FetchError: the value is nothing that holds records, such as None or text.
    """
    frames = frame_pages(fetched)
    if frames is not None:
        yield from frames
        return
    # A pydantic model or a named tuple can be iterated, but over its fields.
    is_record = hasattr(fetched, "model_dump") or hasattr(fetched, "_asdict")
    if is_record or not hasattr(fetched, "__iter__") or isinstance(fetched, str | bytes | Mapping):
        kind = type(cast("object", fetched)).__name__
        raise FetchError(
            f"the fetch returned {kind}; return or yield records, pages of records or a DataFrame",
            code="bad_fetch_result",
        )
    gathered: list[Any] = []
    try:
        for part in cast("Iterable[Any]", fetched):
            frames = frame_pages(part)
            for page in [_listed(part)] if frames is None else frames:
                gathered += page
                if len(gathered) >= PAGE:
                    yield gathered
                    gathered = []
    except Exception:
        # What came before the failure is judged, so that the results so far are true; then it fails.
        if gathered:
            yield gathered
        raise
    if gathered:
        yield gathered


def id_or_none(job: Job, record: Any) -> str | None:
    """Return a record's id as the job tells it, or None where it cannot."""
    try:
        return external_id_text(job.get_external_id(record))
    except Exception:  # noqa: BLE001 - user code: whoever asks here has a use for "none"
        return None


def _listed(part: Any) -> list[Any]:
    return cast("list[Any]", part) if isinstance(part, list) else [part]


class Stager:
    """Judges records one by one: id, `should_skip`, shape. Keeps the newest version that it saw."""

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
        self.rejected: list[ItemError] = []
        self.newest_version: Any = None

    def stage(self, record: Any, *, moves_cursor: bool = True) -> StagedRecord:
        """Return a record's staged form; an error of the record is in it, never raised."""
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
            values, text = self._shaper.shape(record)
            if moves_cursor:
                self._note_version(self._shaper.version_of(record, values))
        except Exception as error:  # noqa: BLE001 - user code: one bad record must not end the sync
            return self._reject(record, external_id, error)
        if text is None and self._keeps_all:
            # The next incremental fetch will not bring it again, should the database refuse it.
            text = self._kept(record)
        return StagedRecord(self.fetched, external_id, values, None, None, text)

    def _deletion(self, deletion: Deletion) -> StagedRecord:
        if not self._takes_deletions:
            raise RecordError("a fetch yields records; only a message says that an item is gone")
        external_id = self._shaper.id_text(external_id_text(deletion.external_id))
        values = self._shaper.key_only(external_id, deletion.record)
        last = self._kept(deletion.record) if deletion.record is not None else None
        return StagedRecord(self.fetched, external_id, values, record=last, is_deletion=True)

    def _note_version(self, version: Any) -> None:
        if version is not None and (self.newest_version is None or version > self.newest_version):
            self.newest_version = version

    def _reject(self, record: Any, external_id: str | None, error: Exception) -> StagedRecord:
        external_id = external_id or id_or_none(self._job, record)
        if external_id is None:
            self.unidentified += 1
        reason, code, field = _reason(error)
        item = ItemError(external_id=external_id, message=reason, code=code, field=field, timestamp=self._now())
        if len(self.rejected) < PAGE:
            self.rejected.append(item)
        values = self._shaper.key_only(external_id) if external_id is not None else None
        return StagedRecord(self.fetched, external_id, values, Outcome.REJECTED, item, self._kept(record))

    def _kept(self, record: Any) -> str | None:
        try:
            return self._encode(record)
        except Exception:  # noqa: BLE001 - a record that cannot even be read is reported, not kept
            return None


def _reason(error: Exception) -> tuple[str, str, str | None]:
    if isinstance(error, RecordError):
        return error.reason, error.code, error.field
    return f"get_external_id, should_skip or a field raised {type(error).__name__}", "callback_failed", None
