"""Which checks a job's asset has in Dagster, and where each begins to fail."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sync_defs.errors import ConfigurationError

SCHEDULE: Final = "schedule"
"""The age that a sync may reach follows from the job's schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """The checks of a job: False or None turns one off.

    Raises:
        ConfigurationError: a limit is none.

    Example:
        ```python
        Checks(rejected=0.2, fetched=None, freshness=timedelta(hours=3))
        ```
    """

    outcomes: bool = True
    """`outcomes_add_up`, an error: each fetched record has exactly one outcome."""
    rejected: float | None = 0.05
    """`no_rejected_records`: a warning for any, an error above this fraction of what a run of 20 records or more has
    fetched."""
    withheld: bool = True
    """`no_withheld_deletes`, a warning; of a job whose `on_missing` is not keep."""
    fetched: float | None = 0.5
    """`fetched_as_many_as_usual`, a warning where a full fetch brings less than this fraction of the median of the
    seven before it; of a job that fetches everything each time."""
    freshness: str | timedelta | None = SCHEDULE
    """`synced_on_time`: how long ago the last sync may have begun. `schedule`: a warning once a scheduled sync is an
    hour late, or half an interval if that is less; an error once a second one is."""
    dead_messages: bool = True
    """`inbox_has_no_dead_messages`, a warning; of a job that takes webhooks."""
    inbox_lag: timedelta | None = timedelta(minutes=5)
    """`inbox_keeps_up`: a warning where a message has been due for longer, an error at twelve times as long."""

    def __post_init__(self) -> None:
        """Check the limits."""
        problem = self._switch_problem() or self._fraction_problem() or self._age_problem()
        if problem:
            raise ConfigurationError(f"Checks: {problem}")

    def _switch_problem(self) -> str | None:
        for name in ("outcomes", "withheld", "dead_messages"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                return f"{name} is {type(value).__name__}; give True or False"
        return None

    def _fraction_problem(self) -> str | None:
        for name in ("rejected", "fetched"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
                return f"{name} is {value!r}; give a fraction from 0 to 1, or None for no such check"
        return None

    def _age_problem(self) -> str | None:
        way_out = "a timedelta of a minute or more, or None for no such check"
        if self.freshness != SCHEDULE and not _is_age(self.freshness):
            return f"freshness is {self.freshness!r}; give 'schedule', {way_out}"
        if not _is_age(self.inbox_lag):
            return f"inbox_lag is {self.inbox_lag!r}; give {way_out}"
        return None


def _is_age(value: object) -> bool:
    return value is None or (isinstance(value, timedelta) and value >= timedelta(minutes=1))
