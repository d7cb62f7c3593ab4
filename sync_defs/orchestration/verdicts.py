"""What the checks of a job say: each verdict follows from counts and times alone.

A verdict that cannot be reached says so and is a warning, never a success.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Final

import dagster as dg

from sync_defs.inbox import Counts, QueuedMessage
from sync_defs.orchestration.metadata import PREFIX, Metadata, inbox_metadata
from sync_defs.orchestration.names import (
    CHECK_NAME,
    FETCHED_CHECK,
    FRESHNESS_CHECK,
    INBOX_CHECK_NAME,
    INBOX_LAG_CHECK,
    OUTCOMES_CHECK,
    WITHHELD_CHECK,
)
from sync_defs.orchestration.ticks import Ticks
from sync_defs.results import SyncResults

EARLIER: Final = 7
"""A full fetch is held against the median of so many before it."""
LEAST_RECORDS: Final = 20
"""A rate of fewer records says nothing."""
LATE_AT_MOST: Final = timedelta(hours=1)
LAG_ERROR: Final = 12
_WARN, _ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one check says."""

    check: str
    passed: bool
    description: str
    severity: dg.AssetCheckSeverity = _WARN
    is_evaluated: bool = True
    """False: there is nothing to judge by, so that nothing has changed for the worse or better."""
    metadata: Metadata = field(default_factory=dict[str, Any])

    def result(self, asset: dg.AssetKey) -> dg.AssetCheckResult:
        """Return it as what an op yields."""
        return dg.AssetCheckResult(
            check_name=self.check,
            asset_key=asset,
            passed=self.passed,
            severity=self.severity,
            description=self.description,
            metadata=self._told,
        )

    def evaluation(self, asset: dg.AssetKey) -> dg.AssetCheckEvaluation:
        """Return it as an event to be logged."""
        return dg.AssetCheckEvaluation(
            check_name=self.check,
            asset_key=asset,
            passed=self.passed,
            severity=self.severity,
            description=self.description,
            metadata={key: _valued(value) for key, value in self._told.items()},
        )

    @property
    def _told(self) -> Metadata:
        return self.metadata if self.is_evaluated else {**self.metadata, f"{PREFIX}evaluated": False}


def judge_outcomes(results: SyncResults) -> Verdict:
    """Judge whether the outcomes of a run add up to what it has fetched."""
    counts = {f"{PREFIX}{outcome.value}": count for outcome, count in results.outcomes.items()}
    total = sum(results.outcomes.values())
    return Verdict(
        check=OUTCOMES_CHECK,
        passed=results.is_balanced,
        severity=_ERROR,
        description=f"{results.fetched} fetched, {total} with an outcome",
        metadata={f"{PREFIX}fetched": results.fetched, **counts},
    )


def judge_rejects(
    *, rejected: int, fetched: int, still_open: int, limit: float, table: dg.TableMetadataValue | None
) -> Verdict:
    """Judge the records that were rejected just now, and those that wait for retry in all."""
    rate = rejected / fetched if fetched else 0.0
    is_over = fetched >= LEAST_RECORDS and rate > limit
    counts = {f"{PREFIX}rejected": rejected, f"{PREFIX}open_rejects": still_open, f"{PREFIX}rejected_rate": rate}
    description = f"{rejected} of {fetched} rejected, {still_open} open"
    return Verdict(
        check=CHECK_NAME,
        passed=rejected == 0 and still_open == 0,
        severity=_ERROR if is_over else _WARN,
        description=f"{description}; over the limit of {limit:.0%}" if is_over else description,
        metadata=counts if table is None else {**counts, f"{PREFIX}rejected_records": table},
    )


def judge_withheld(newest: SyncResults | None) -> Verdict:
    """Judge the newest full fetch: other runs cannot know which rows are missing."""
    if newest is None:
        return _unknown(
            WITHHELD_CHECK, "no full fetch is on record, so nobody knows of missing rows; run with full: true"
        )
    return Verdict(
        check=WITHHELD_CHECK,
        passed=newest.withheld == 0,
        description=newest.withheld_reason or f"{newest.missing} missing, none withheld",
        metadata={
            f"{PREFIX}missing": newest.missing,
            f"{PREFIX}withheld": newest.withheld,
            f"{PREFIX}deleted": newest.deleted,
            f"{PREFIX}marked": newest.marked,
        },
    )


def judge_fetched(full: Sequence[SyncResults], *, limit: float) -> Verdict:
    """Judge the newest full fetch by the median of those before it; `full` has the newest first."""
    if len(full) < 2:
        told = {f"{PREFIX}fetched": full[0].fetched} if full else {}
        return _unknown(FETCHED_CHECK, "there is no earlier full fetch to compare with", told)
    newest, usual = full[0].fetched, float(median(results.fetched for results in full[1 : EARLIER + 1]))
    return Verdict(
        check=FETCHED_CHECK,
        passed=newest >= limit * usual,
        description=f"{newest} fetched, usually {usual:g}",
        metadata={
            f"{PREFIX}fetched": newest,
            f"{PREFIX}usually_fetched": usual,
            f"{PREFIX}least_expected": limit * usual,
        },
    )


def judge_freshness(began_at: datetime | None, *, now: datetime, ticks: Ticks | None, age: timedelta | None) -> Verdict:
    """Judge when the last sync that succeeded began: by the schedule's ticks, or by the age that it may have."""
    if began_at is None:
        return _unknown(FRESHNESS_CHECK, "no sync has succeeded yet")
    late = _late_by_age(began_at, now, age) if age is not None else _late_by_ticks(began_at, now, ticks)
    if late is None:
        return _unknown(FRESHNESS_CHECK, "the job has no schedule, so that no sync is late")
    age_s = max((now - began_at).total_seconds(), 0.0)
    return Verdict(
        check=FRESHNESS_CHECK,
        passed=late == 0,
        severity=_ERROR if late > 1 else _WARN,
        description=f"the last sync began {_told_span(age_s)} ago" + _LATE[min(late, 2)],
        metadata={f"{PREFIX}age_s": round(age_s, 1), f"{PREFIX}last_sync": began_at.isoformat(timespec="seconds")},
    )


def judge_dead(counts: Counts, dead: Sequence[QueuedMessage]) -> Verdict:
    """Judge whether messages of an inbox wait for a person."""
    return Verdict(
        check=INBOX_CHECK_NAME,
        passed=counts.dead == 0,
        description=f"{counts.dead} dead messages",
        metadata=inbox_metadata(counts, dead),
    )


def judge_lag(counts: Counts, *, limit: timedelta) -> Verdict:
    """Judge how long the oldest message has been due."""
    lag_s = counts.oldest_due_age_s
    return Verdict(
        check=INBOX_LAG_CHECK,
        passed=lag_s <= limit.total_seconds(),
        severity=_ERROR if lag_s > LAG_ERROR * limit.total_seconds() else _WARN,
        description=f"{counts.ready} messages are due, the oldest for {_told_span(lag_s)}",
        metadata=inbox_metadata(counts, []),
    )


def grace(interval: timedelta) -> timedelta:
    """Return how late a sync of a schedule with such an interval may be."""
    return min(interval / 2, LATE_AT_MOST)


_LATE: Final = ("", "; one is missing", "; two or more are missing")


def _late_by_age(began_at: datetime, now: datetime, age: timedelta) -> int:
    return 0 if now - began_at <= age else 1 if now - began_at <= 2 * age else 2


def _late_by_ticks(began_at: datetime, now: datetime, ticks: Ticks | None) -> int | None:
    """Return the number of scheduled syncs that are late, 2 at most; None: there is no schedule."""
    if ticks is None:
        return None
    due = ticks.newest(now, 3)
    if len(due) > 1 and now - due[0] < grace(due[0] - due[1]):
        due = due[1:]  # the newest may be under way
    return sum(began_at < tick for tick in due[:2])


def _unknown(check: str, reason: str, metadata: Metadata | None = None) -> Verdict:
    return Verdict(
        check=check,
        passed=False,
        description=f"Not evaluated: {reason}.",
        is_evaluated=False,
        metadata=metadata or {},
    )


def _told_span(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _valued(value: Any) -> Any:
    """Return a number or text as the value that an event wants."""
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(value)
    return dg.MetadataValue.text(value) if isinstance(value, str) else value
