"""When a schedule ticks, as Dagster reads a cron expression."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from itertools import islice, pairwise
from typing import Final

import dagster as dg

from sync_defs.job import Job

_START: Final = "2000-01-01"
_SAMPLE: Final = 30
"""Gaps between so many ticks are looked at: a month of a daily schedule, which may leave out weekends."""


class Ticks:
    """The ticks of a cron expression in a time zone."""

    def __init__(self, cron: str, timezone: str) -> None:
        """Read them.

        Raises:
            DagsterInvalidDefinitionError: it is no cron expression.
        """
        # The one public class of Dagster that iterates a cron expression: partitions are the spans between its ticks.
        self._spans = dg.TimeWindowPartitionsDefinition(
            start=_START, fmt="%Y-%m-%d", cron_schedule=cron, timezone=timezone
        )

    def newest(self, instant: datetime, count: int) -> list[datetime]:
        """Return the newest ticks at or before an instant, the newest first; fewer if there were not so many.

        Raises:
            ValueError: it names a date that never comes.
        """
        return list(islice(self._before(instant), count))

    def _before(self, instant: datetime) -> Iterator[datetime]:
        span = self._spans.get_prev_partition_window(instant)
        while span is not None:
            yield span.end
            earliest, span = span.start, self._spans.get_prev_partition_window(span.start)
            if span is None:
                yield earliest

    @cached_property
    def longest_gap(self) -> timedelta:
        """Return the longest time between two ticks one after the other."""
        ticks = self.newest(datetime.now(UTC), _SAMPLE)
        gaps = [later - earlier for later, earlier in pairwise(ticks)]
        return max(gaps, default=timedelta(days=366))


def ticks_of(job: Job) -> Ticks | None:
    """Return the ticks of a job's schedule; None: it has none."""
    cron = job.cron_schedule
    return None if cron is None else _ticks(cron, job.timezone)


# Many jobs share a schedule, and to look for its gaps takes some milliseconds.
@cache
def _ticks(cron: str, timezone: str) -> Ticks:
    return Ticks(cron, timezone)
