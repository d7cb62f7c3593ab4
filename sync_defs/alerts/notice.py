"""What is said of a job whose state has changed, and the class that delivers it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a job is."""

    OK = "OK"
    WARN = "WARN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One reason why a job is not OK."""

    source: str
    """The check that fails, or the Dagster job whose run has failed."""
    state: State
    sentence: str
    """Counts, times and names; never a value of a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A job's change from one state to another."""

    job: str
    before: State
    now: State
    problems: tuple[Problem, ...] = ()
    """All that is wrong now, the worst first."""
    url: str | None = None
    """The page of the asset, where the address of Dagster is known."""

    @property
    def title(self) -> str:
        """Return the change in one line, such as `erp_inventory: OK → ERROR`."""
        return f"{self.job}: {self.before} → {self.now}"

    @property
    def text(self) -> str:
        """Return the change, its reasons and where to look, a line each."""
        reasons = [f"{problem.state} {problem.source}: {problem.sentence}" for problem in self.problems]
        return "\n".join([self.title, *reasons, *([self.url] if self.url else [])])


class Notifier(ABC):
    """Delivers notices; subclass it for a channel of your own."""

    @abstractmethod
    def notify(self, notice: Notice) -> None:
        """Deliver a notice, within some ten seconds.

        Whatever it raises is logged by its kind, and the notice comes again with the next look, a minute later: at
        least once. No sync waits for it or fails because of it.
        """
