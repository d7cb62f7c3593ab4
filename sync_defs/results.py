"""What a sync reports: outcomes, errors of single records, and the results of a run."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum


class Outcome(StrEnum):
    """What became of one fetched record; each record has exactly one."""

    CREATED = "created"
    """A row was inserted."""
    UPDATED = "updated"
    """A row was changed."""
    UNCHANGED = "unchanged"
    """The row already said the same; nothing was written."""
    SKIPPED = "skipped"
    """`should_skip` said so, or a later record of the same fetch has the same external id."""
    STALE = "stale"
    """The row holds a newer version, or a message changed it after the fetch began."""
    REJECTED = "rejected"
    """The record has an error and was kept for retry."""


class Action(StrEnum):
    """What `sync_single_item` did; the outcomes, and what a delete message can do."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    STALE = "stale"
    REJECTED = "rejected"
    DELETED = "deleted"
    MARKED = "marked"


class Trigger(StrEnum):
    """What started a run."""

    MANUAL = "manual"
    SCHEDULE = "schedule"
    WEBHOOK = "webhook"
    CLI = "cli"
    API = "api"


class RunStatus(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemError:
    """Why one record was rejected, or one delete failed."""

    external_id: str | None
    """None where the record has no usable id."""
    message: str
    """Reason, without the value."""
    timestamp: datetime
    """When it was found, in UTC."""
    code: str = "bad_item"
    """Stable code, see `docs/errors.md`."""
    field: str | None = None
    """Target column or record field to blame, where one is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledChange:
    """One changed row of the bounded sample."""

    external_id: str
    action: Action = Action.UPDATED
    changes: dict[str, tuple[str | None, str | None]]
    """Column to (old, new), as text; masked columns read `***`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResults:
    """The account of one run. The six outcomes add up to `fetched`."""

    name: str
    """The job."""
    run_id: str
    status: RunStatus = RunStatus.SUCCEEDED
    trigger: Trigger = Trigger.MANUAL
    dry_run: bool = False
    """Nothing was written; the counts say what a real run would have done."""
    full: bool = True
    """The fetch was of everything, not since a cursor nor of chosen ids."""
    partition: str | None = None
    """The partition that the run was of; `full` and the missing rows are about that alone."""
    fetched: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    stale: int = 0
    rejected: int = 0
    deleted: int = 0
    """Missing rows that were deleted."""
    marked: int = 0
    """Missing rows that were marked."""
    withheld: int = 0
    """Missing rows whose delete or mark a guard, or the database itself, held back."""
    missing: int = 0
    """Rows whose record was not in a full fetch, whatever became of them."""
    withheld_reason: str | None = None
    row_count: int | None = None
    """Rows in the target after the run; None of single items, and of a callback job that keeps missing rows."""
    not_in_source: int = 0
    """Chosen ids that the source does not have."""
    ids_not_in_source: list[str] = field(default_factory=list[str])
    """The first of these (at most 1,000), as they were given."""
    errors: list[ItemError] = field(default_factory=list[ItemError])
    """The first rejected records (at most 1,000; `sync_rejects` has all)."""
    samples: list[SampledChange] = field(default_factory=list[SampledChange])
    cursor_before: str | None = None
    cursor_after: str | None = None
    error: str | None = None
    """Why the run failed, if it did."""
    started_at: datetime
    completed_at: datetime
    duration_ms: int = 0

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """Return the count of each outcome, in the order of the glossary."""
        return {outcome: getattr(self, outcome.value) for outcome in Outcome}

    @property
    def is_balanced(self) -> bool:
        """Tell whether the outcomes add up to `fetched`."""
        return sum(self.outcomes.values()) == self.fetched

    @property
    def rows_per_second(self) -> float:
        """Return fetched records per second of the whole run."""
        return round(self.fetched / (self.duration_ms / 1000), 1) if self.duration_ms else float(self.fetched)

    def summary(self) -> str:
        """Return the one line that closes a run; outcomes of 0 are left out.

        Example: `erp: 3 fetched = 2 created + 1 unchanged; 5 deletes withheld`.
        """
        parts = [f"{count} {outcome}" for outcome, count in self.outcomes.items() if count]
        line = f"{self.name}: {self.fetched} fetched = {' + '.join(parts) or '0'}"
        notes = [f"{self.deleted} deleted"] if self.deleted else []
        if self.marked:
            notes.append(f"{self.marked} marked")
        if self.withheld:
            notes.append(f"{self.withheld} deletes withheld")
        if self.not_in_source:
            notes.append(f"{self.not_in_source} chosen {'id' if self.not_in_source == 1 else 'ids'} not in the source")
        if self.dry_run:
            notes.append("dry run, nothing written")
        if self.status is RunStatus.FAILED:
            line, notes = f"{self.name}: FAILED after {self.fetched} fetched", [self.error or "unknown error"]
        return "; ".join([line, *notes])

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types: times as ISO 8601 text, every count present also when 0."""
        plain = asdict(self)
        for name in ("started_at", "completed_at"):
            plain[name] = getattr(self, name).isoformat()
        plain["errors"] = [asdict(e) | {"timestamp": e.timestamp.isoformat()} for e in self.errors]
        plain["samples"] = [
            {
                "external_id": s.external_id,
                "action": s.action.value,
                "changes": {column: list(pair) for column, pair in s.changes.items()},
            }
            for s in self.samples
        ]
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """What became of one single-item sync."""

    action: Action
    external_id: str | None
    message: str | None = None
    """Why it was rejected; None otherwise."""
    code: str | None = None
    """Stable code of the error; None otherwise."""
