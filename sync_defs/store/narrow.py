"""Narrowing: run a set-based step whole, and when records break it, find exactly these."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ColumnElement

from sync_defs.errors import RecordError
from sync_defs.results import Action
from sync_defs.store.dialects import Refused, SqlDialect
from sync_defs.store.dialects.ranges import HIGH, LOW

_CHUNK, _PART = 1_000, 50
Where = ColumnElement[bool]
_Attempt = Callable[[int, int], int | RecordError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What takes one action on the rows that a stage lists for it, in any range of the stage."""

    action: Action
    statements: Sequence[Any]
    """Write history and target in any range of the stage (see `in_range`); the last one is counted."""
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What they want bound beside the range."""
    write_all: Any = None
    """Does the same quicker where nothing is in its way, of a step without history; tried first."""
    keep_history: Callable[[Where], None] | None = None
    """Keeps old and new values through this process, where the database cannot."""


class Narrowing:
    """Runs a step over ranges of a stage's `seq`, so that a failure costs only the records that cause it.

    The step runs once over everything, by `write_all` where it has that. If a record breaks it, the dialect takes it to
    the records where it has a way of its own; else it runs over chunks of 1,000, in those that fail over 50 records at
    a time, and of these halves until single records are left. Errors that no record can cause (a lost connection, a
    deadlock, a full disk) pass through.
    """

    def __init__(self, connection: Connection, dialect: SqlDialect, stage: Table) -> None:
        """Run on one connection, inside its transaction."""
        self._connection = connection
        self._dialect = dialect
        self._stage = stage

    def run(self, low: int, high: int, step: Step) -> tuple[int, Refused]:
        """Return how many rows the step wrote in all, and the records that it had to leave out."""
        if low > high:
            return 0, []
        attempt = self._attempt_of(step, step.statements)
        attempt_all = attempt if step.write_all is None else self._attempt_of(step, [step.write_all])
        written = attempt_all(low, high)
        if not isinstance(written, RecordError):
            return written, []
        if low == high and step.write_all is None:
            return 0, [(low, written)]
        if step.keep_history is None:
            found = self._dialect.write_apart(self._connection, self._stage, step.statements, step.values, low, high)
            if found is not None:
                return found
        return _narrowed(low, high, attempt, min(_CHUNK, (high - low + 2) // 2))

    def _attempt_of(self, step: Step, statements: Sequence[Any]) -> _Attempt:
        def attempt(low: int, high: int) -> int | RecordError:
            values = {**step.values, LOW: low, HIGH: high}
            try:
                with self._connection.begin_nested():
                    if step.keep_history is not None:
                        step.keep_history(self._stage.c.seq.between(low, high))
                    return self._dialect.write_together(self._connection, statements, values)
            except DBAPIError as error:
                found = self._dialect.record_error(error)
                if found is None:
                    raise
                return found

        return attempt


def _narrowed(low: int, high: int, attempt: _Attempt, size: int) -> tuple[int, Refused]:
    """Run a range that has failed in smaller parts of a size."""
    written, refused = 0, list[tuple[int, RecordError]]()
    for start in range(low, high + 1, size):
        end = min(start + size - 1, high)
        found = attempt(start, end)
        if not isinstance(found, RecordError):
            written += found
        elif start == end:
            refused.append((start, found))
        else:
            # Where many are bad, all halves of a chunk fail, each time with all that is in them.
            more, others = _narrowed(start, end, attempt, min(_PART, (end - start + 2) // 2))
            written, refused = written + more, refused + others
    return written, refused
