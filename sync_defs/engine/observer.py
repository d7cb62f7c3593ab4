"""Who watches a run: progress for a terminal, a log or a UI."""

import logging
from collections.abc import Callable
from typing import Any

from sync_defs.engine.ports import ChangeCounts
from sync_defs.results import SyncResults

logger = logging.getLogger("sync_defs")


class Observer:
    """Told of a run's progress; override what you need. Must be fast; an exception is logged and changes nothing."""

    def on_fetched(self, records: int) -> None:
        """Hear how many records were fetched so far; called once a page."""

    def on_diffed(self, counts: ChangeCounts) -> None:
        """Hear what the diff found."""

    def on_written(self, records: int) -> None:
        """Hear how many records were handled so far; called once a chunk."""

    def on_ended(self, results: SyncResults) -> None:
        """Hear the results, of a failed run too."""


class QuietObserver(Observer):
    """Passes everything on to another observer, and logs its exceptions."""

    def __init__(self, inner: Observer | None) -> None:
        """Wrap an observer; None hears nothing."""
        self._inner = inner or Observer()

    def on_fetched(self, records: int) -> None:
        """Pass on."""
        self._tell(self._inner.on_fetched, records)

    def on_diffed(self, counts: ChangeCounts) -> None:
        """Pass on."""
        self._tell(self._inner.on_diffed, counts)

    def on_written(self, records: int) -> None:
        """Pass on."""
        self._tell(self._inner.on_written, records)

    def on_ended(self, results: SyncResults) -> None:
        """Pass on."""
        self._tell(self._inner.on_ended, results)

    def _tell(self, hear: Callable[[Any], None], news: Any) -> None:
        try:
            hear(news)
        except Exception as error:  # noqa: BLE001 - user code
            # Its text may hold values.
            logger.error("%s raised %s; the run goes on", hear.__qualname__, type(error).__name__)  # noqa: TRY400
