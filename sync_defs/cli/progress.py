"""A run under way, on stderr: a bar on a terminal, now and then a line in a pipe."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from sync_defs.cli.output import plural, tell
from sync_defs.engine.observer import Observer
from sync_defs.engine.ports import ChangeCounts
from sync_defs.results import SyncResults

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_EVERY_S = 3.0


class Watch(Observer):
    """Keeps the results of a run, those of a failed one too; shows nothing."""

    def __init__(self) -> None:
        """Have no results yet."""
        self.results: SyncResults | None = None

    def on_ended(self, results: SyncResults) -> None:
        """Keep the results."""
        self.results = results

    def __enter__(self) -> Self:
        """Begin to show progress."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""


class Lines(Watch):
    """A line at most every three seconds; a short run has none."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the job's name, and a clock in seconds."""
        super().__init__()
        self._name = name
        self._clock = clock
        self._last = clock()

    def on_fetched(self, records: int) -> None:
        """Say how many were fetched."""
        self._tell(f"{plural(records, 'record')} fetched")

    def on_diffed(self, counts: ChangeCounts) -> None:
        """Say that the comparison is done."""
        self._tell("compared with the target")

    def on_written(self, records: int) -> None:
        """Say how many were written."""
        self._tell(f"{plural(records, 'record')} handled")

    def _tell(self, text: str) -> None:
        if self._clock() - self._last >= _EVERY_S:
            tell(f"{self._name}: {text}")
            self._last = self._clock()


class Bar(Watch):
    """A bar that moves; gone when the run ends."""

    def __init__(self, name: str) -> None:
        """Take the job's name."""
        super().__init__()
        self._name = name
        self._fetched = 0
        self._progress = _bar()
        self._task: TaskID = self._progress.add_task(f"{name}: fetching", total=None)

    def on_fetched(self, records: int) -> None:
        """Show how many were fetched; how many there are, nobody knows."""
        self._fetched = records
        self._progress.update(self._task, completed=records)

    def on_diffed(self, counts: ChangeCounts) -> None:
        """Go on to the writing, of as many as were fetched."""
        self._progress.update(
            self._task, description=f"{self._name}: writing", completed=0, total=max(self._fetched, 1)
        )

    def on_written(self, records: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=records)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._progress.stop()


def watch_for(name: str) -> Watch:
    """Return what fits stderr: a bar on a terminal, else lines."""
    return Bar(name) if sys.stderr.isatty() else Lines(name)


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f} records", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
