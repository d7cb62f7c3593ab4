"""A run's progress in Dagster's log."""

import logging
import time
from collections.abc import Callable

from sync_defs.engine import ChangeCounts, Observer
from sync_defs.results import RunStatus, SyncResults

_EVERY_S = 5.0


class LogProgress(Observer):
    """Logs progress at most every five seconds: each line is an event, which costs Dagster 12 to 16 ms."""

    def __init__(
        self,
        log: logging.Logger,
        *,
        expected: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to an op's log; `expected` is the number of records that there should be, for an estimate."""
        self._log = log
        self._expected = expected
        self._monotonic = monotonic
        self._began = self._last = monotonic()

    def on_fetched(self, records: int) -> None:
        """Say how many records were fetched so far."""
        self._say("fetched", records)

    def on_diffed(self, counts: ChangeCounts) -> None:
        """Say what the diff found, once."""
        about = "" if counts.is_exact else "about "
        self._log.info(
            "%sto create: %s, to update: %s, unchanged: %s, missing: %s",
            about,
            f"{counts.created:,}",
            f"{counts.updated:,}",
            f"{counts.unchanged:,}",
            f"{counts.missing:,}",
        )

    def on_written(self, records: int) -> None:
        """Say how many records were handled so far."""
        self._say("handled", records)

    def on_ended(self, results: SyncResults) -> None:
        """Say the summary of a success; a failure says itself."""
        if results.status is RunStatus.SUCCEEDED:
            self._log.info(results.summary())

    def _say(self, done: str, records: int) -> None:
        now = self._monotonic()
        if now - self._last < _EVERY_S:
            return
        self._last = now
        rate = records / (now - self._began)
        self._log.info(
            "%s %s records so far, %s a second%s", done, f"{records:,}", f"{rate:,.0f}", self._left(records, rate)
        )

    def _left(self, records: int, rate: float) -> str:
        """Return the estimate, where there is something to estimate by that has not turned out wrong yet."""
        if self._expected is None or records >= self._expected or not rate:
            return ""
        return f"; about {self._expected:,} in all, {(self._expected - records) / rate:,.0f} s to go"
