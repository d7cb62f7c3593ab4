"""What the engine needs of a store; `sync_defs.store` implements it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, cast

from sync_defs.errors import ConfigurationError
from sync_defs.job import Job
from sync_defs.options import whole_number_problem
from sync_defs.results import ItemError, ItemResult, Outcome, RunStatus, SampledChange, SyncResults, Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What is asked of one run."""

    run_id: str | None = None
    """Given by an orchestrator, so that a retried step finds its run; None: a new one is made."""
    trigger: Trigger = Trigger.API
    dry_run: bool = False
    full: bool = False
    """Ignore the cursor and fetch everything."""
    external_ids: tuple[str, ...] = ()
    """Sync only these; nothing is then missing."""
    since: str | None = None
    """Where this run's fetch begins, in place of the stored cursor, which stays where it is."""
    partition: str | None = None
    """The partition that the run is of, of a job with partitions."""
    allow_deletes: int | None = None
    """Ceiling for this run's deletes or marks, in place of the job's guards."""
    wait_s: float = 0.0
    """How long to wait for another run of the job, in seconds."""
    holder: str = ""
    """Who runs, shown to others that wait."""

    def __post_init__(self) -> None:
        """Refuse what is of no use.

        Raises:
            ConfigurationError: `allow_deletes` is no integer of 0 or more, `since` no text, or two exclude each other.
        """
        problem = self._since_problem()
        if problem is None and self.allow_deletes is not None:
            problem = whole_number_problem("allow_deletes", self.allow_deletes, "give 0 or more, or leave it out")
        if problem:
            raise ConfigurationError(problem)

    def _since_problem(self) -> str | None:
        since = cast("object", self.since)
        if since is None:
            return None
        if not isinstance(since, str):
            return f"since is {type(since).__name__}; give text, such as the job's cursor has it"
        if not since.strip():
            return "since is empty; give where to begin, or leave it out"
        other = "full" if self.full else "external_ids" if self.external_ids else None
        return f"since and {other} exclude each other; give one of them" if other else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run under way, as `sync_runs` has it."""

    run_id: str
    job_name: str
    trigger: Trigger
    dry_run: bool
    is_full: bool
    stage: str
    watermark: int
    """Newest `sync_changes.id` when the fetch began; later single-item changes are newer than the fetch."""
    cursor_before: str | None
    started_at: datetime
    partition: str | None = None
    """The partition that it is of; not stored with it, but handed on."""
    is_item: bool = False
    """A single-item sync, which needs no lease and outranks fetches that began before it."""
    report_after_s: float = 0.0
    """Of a single-item sync: how long whoever asked for it has for telling an orchestrator of it himself."""
    status: RunStatus = RunStatus.RUNNING
    results: SyncResults | None = None
    """Set once the run has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageHandle:
    """What one op hands to the next: where the records wait, and counts. JSON-friendly, never records."""

    run_id: str
    job_name: str
    fetched: int = 0
    is_complete: bool = False
    """The fetch covered everything and ended well, so that rows can be judged missing."""
    cursor_after: str | None = None
    allow_deletes: int | None = None
    unchanged: int = 0
    """Records that are known to be unchanged and were not staged."""
    skipped: int = 0
    """Repetitions of these."""
    missing: int | None = None
    """Rows that the fetch lacked, staged where something is to be done with them; None: the whole fetch is staged."""
    is_sifted: bool = False
    """Records were held against what the last run knew."""
    has_stage: bool = True
    """False: every record was known and no row is missing, so that the run has no stage."""
    has_prints: bool = False
    """Staged records carry fingerprints, for the next run."""
    may_repeat: bool = True
    """False: no key of the target is staged more than once."""
    row_count: int | None = None
    """Rows of the target before the fetch, where they were counted."""
    drift: int | None = None
    """What the target's checksum differed by from the one that was left, 0 if not at all; None: there is none."""
    not_in_source: int = 0
    """Chosen ids that the source does not have."""
    ids_not_in_source: list[str] = field(default_factory=list[str])
    """The first 1,000 of these."""
    partition: str | None = None
    retried: int = 0
    """Kept rejects that were staged before what the source brought."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "StageHandle":
        """Read what `to_dict` wrote; what a newer version wrote beside it is left out."""
        return cls(**{name: value for name, value in plain.items() if name in cls.__slots__})


Fingerprint = bytes
"""What is known of a record before it is read: 8 bytes for its external id, 16 for all that is mapped."""
Sifted = tuple[Sequence[Any], Sequence[Fingerprint | None]]
"""Records, and the fingerprint of each; None for one that has none."""


class StagedRecord(NamedTuple):
    """One fetched record on its way to the stage."""

    seq: int
    """Order of arrival, from 1."""
    external_id: str | None
    values: Sequence[Any] | None
    """The shaped values, as the `Shaper` returned them; None where `outcome` is already known."""
    outcome: Outcome | None = None
    """`skipped` or `rejected`; None for a candidate."""
    error: ItemError | None = None
    record: str | None = None
    """The record as JSON text, for a rejected one and for callback jobs."""
    is_deletion: bool = False
    version: Any = None
    """The source's order of the record's states, in the form in which two of them compare; None: it has none."""
    fingerprint: Fingerprint | None = None


@dataclass(slots=True, kw_only=True)
class ChangeCounts:
    """What diff found, or upsert did."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    stale: int = 0
    rejected: int = 0
    deleted: int = 0
    marked: int = 0
    withheld: int = 0
    missing: int = 0
    withheld_reason: str | None = None
    is_exact: bool = True
    """False for a callback job's diff, which cannot know `updated` from `unchanged` without running callbacks."""
    errors: list[ItemError] = field(default_factory=list[ItemError])
    samples: list[SampledChange] = field(default_factory=list[SampledChange])
    row_count: int | None = None


Shaped = list[Any] | tuple[Any, ...] | str
"""A record's coerced column values, or the record as JSON text."""


class Shaper(ABC):
    """Turns a record into what the stage of a job holds."""

    def id_text(self, external_id: str) -> str:
        """Return an external id in the one form that the target's key has: `007` in an integer column is 7."""
        return external_id

    def ids(self, records: Sequence[Any]) -> Sequence[str] | None:
        """Return the external ids of a page at once; None, the default: each record is to be judged by itself."""
        return None

    def revive(self, record: Any) -> Any:
        """Return the record as the job's callbacks want it; the default leaves it as it is."""
        return record

    @abstractmethod
    def shape(self, records: Sequence[Any]) -> Sequence[Shaped | Exception]:
        """Return for each record what the job's stage keeps of it, or the error that rejects it; never raises."""

    @abstractmethod
    def key_only(self, external_id: str, record: Any = None) -> Sequence[Any] | None:
        """Return values that hold the key alone, so that a rejected or skipped record's row counts as present."""

    @abstractmethod
    def version_of(self, record: Any, values: Sequence[Any] | None) -> Any:
        """Return the record's version in the form in which two of them compare, or None; `values` may be unknown."""

    def versions(self, shaped: Sequence[Shaped | Exception]) -> Sequence[Any] | None:
        """Return the version of each record of a page that `ids` has returned the ids of.

        None, the default: a record is bad, or each is to be asked by itself.
        """
        return None


class KnownRecords(ABC):
    """What the last run knew of the source's records, so that unchanged ones need not be read; of one fetch."""

    unchanged: int = 0
    """Known records so far."""
    skipped: int = 0
    """Repetitions of known records so far."""
    is_sifted: bool = False
    """False: there was nothing to know them by."""
    has_prints: bool = False
    row_count: int | None = None
    drift: int | None = None

    @abstractmethod
    def sift(self, page: Sequence[Any]) -> Sifted:
        """Return the records of a page that have to be staged, and count the others."""

    def note(self, staged: Sequence[StagedRecord]) -> Sequence[str | None]:
        """Take note of what was staged: its rows are not missing. Return what diff will find each to be, as a guess.

        It is the value of an `Outcome`, None is `unchanged`. A right guess spares diff the writing of it.
        """
        return [None] * len(staged)

    def may_repeat(self) -> bool:
        """After the fetch: tell whether a key of the target may be staged more than once; the default cannot say."""
        return True

    def find_missing(self) -> int | None:
        """After a complete fetch: stage the rows that it lacked and return their number; None: the stage can tell."""
        return None


class NoneKnown(KnownRecords):
    """Every record is staged: of callback jobs, incremental fetches and chosen ids."""

    def __init__(self, expected: str | None = None) -> None:
        """Take the guess for all records."""
        self._expected = expected

    def note(self, staged: Sequence[StagedRecord]) -> Sequence[str | None]:
        """See `KnownRecords`."""
        return [self._expected] * len(staged)

    def sift(self, page: Sequence[Any]) -> Sifted:
        """See `KnownRecords`."""
        return page, [None] * len(page)


class Writer(ABC):
    """Writes one staged run to the target; made inside `Store.writing`.

    The calls come in this order: `judge_missing`, `sample` (for a plan only), `write`, `settle`, `finish`.
    """

    @abstractmethod
    def judge_missing(self, allow: Callable[[int, int], str | None]) -> None:
        """Stage the missing rows for deletion or mark if `allow(missing, rows)` returns None, else withhold them.

        `allow` returns the reason for withholding.
        """

    @abstractmethod
    def sample(self, limit: int) -> None:
        """Sample every kind of change, up to `limit`, in place of the job's own sample of updates."""

    @abstractmethod
    def write(self, progress: Callable[[int], None], judge: Callable[[], None] | None = None) -> None:
        """Delete or mark, update and insert what differs; narrow a failure to the records that cause it.

        `judge` is asked before a part commits, and raises to have it rolled back; `progress` is told afterwards.
        """

    def committed(self) -> dict[str, int]:
        """Return the counts of what is committed already, should the run fail now; the default is nothing."""
        return {}

    def judged(self) -> Mapping[str, int]:
        """Return how many records got which outcome so far, by themselves; the default is nothing."""
        return {}

    @abstractmethod
    def settle(self) -> ChangeCounts:
        """Return the final counts, each record once."""

    @abstractmethod
    def finish(self, results: SyncResults, cursor_after: str | None) -> None:
        """Write rejects, cursor and the run's results in the same transaction as the rows."""


class Store(ABC):
    """A database with targets and bookkeeping, as the engine sees it."""

    @property
    @abstractmethod
    def takes_threads(self) -> bool:
        """Whether what one thread stages is there for another one."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the current instant in UTC."""

    @abstractmethod
    def prepare(self, job: Job) -> None:
        """Check tables and target, creating the target if the job says so.

        Raises:
            ConfigurationError: the target does not exist or lacks a column.
            DatabaseNotReadyError: the bookkeeping tables are not at the right version.
        """

    @abstractmethod
    def begin_run(self, job: Job, request: RunRequest) -> Run:
        """Take the job's lease and record the run; repeating a run starts it afresh, without what was staged.

        Raises:
            BusyError: another run holds the job for longer than the request waits.
        """

    @abstractmethod
    def load_run(self, run_id: str) -> Run:
        """Return a run by id.

        Raises:
            ConfigurationError: there is no such run.
        """

    @abstractmethod
    def holding(self, job: Job, run: Run) -> AbstractContextManager[None]:
        """Keep the run's lease alive during the block."""

    @abstractmethod
    def shaper(self, job: Job) -> Shaper:
        """Return the job's shaper."""

    @abstractmethod
    def frame_pages(self, value: Any) -> Iterator[Sequence[Any]] | None:
        """Return the pages of a DataFrame or Arrow object as sequences of mappings; None if it is neither."""

    @abstractmethod
    def encode(self, record: Any) -> str:
        """Return a record as text to be kept for retry.

        Raises:
            RecordError: it holds something that cannot be kept.
        """

    @abstractmethod
    def kept_rejects(self, job: Job) -> Iterable[Any]:
        """Return the records of the job's open rejects."""

    @abstractmethod
    def stage(
        self, job: Job, run: Run, page: Sequence[StagedRecord], expected: Sequence[str | None] | None = None
    ) -> None:
        """Append records to the run's stage, in a transaction of its own; `expected` has a guess for each candidate.

        The first ones make the stage.
        """

    @abstractmethod
    def end_fetch(self, job: Job, run: Run, *, is_sifted: bool) -> bool:
        """Return whether the run has a stage; it gets an empty one where the next steps need it all the same."""

    @abstractmethod
    def known_records(self, job: Job, run: Run, request: RunRequest) -> KnownRecords:
        """Return what sifts the pages of a fetch."""

    @abstractmethod
    def diff(self, job: Job, run: Run, handle: StageHandle, allow: Callable[[int, int], str | None]) -> ChangeCounts:
        """Classify the staged records against the target; writes to the stage only."""

    @abstractmethod
    def writing(self, job: Job, run: Run, handle: StageHandle) -> AbstractContextManager[Writer]:
        """Open the transaction of the upsert; rolled back for a dry run and on an exception.

        Raises:
            LeaseLostError: the run no longer holds the job.
        """

    @abstractmethod
    def end_run(self, job: Job, run: Run, results: SyncResults) -> None:
        """Record the end of a run, drop its stage and let the lease go. Never raises for a stage already gone."""

    @abstractmethod
    def apply_items(
        self,
        job: Job,
        run: Run,
        items: Sequence[StagedRecord],
        *,
        keep: Callable[[Any], set[int]] | None,
        settle: Callable[[Any, Sequence[ItemResult]], None] | None,
    ) -> list[ItemResult]:
        """Write single items in one transaction, with a stage of their own; see `sync_defs.engine.items`."""
