"""Narrowing: run a set-based step whole, and when records break it, find exactly these."""

from collections import Counter
from collections.abc import Callable

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sync_defs.errors import RecordError
from sync_defs.results import Action
from sync_defs.store.dialects import SqlDialect

Step = Callable[[int, int], Counter[Action]]

_CHUNK = 1_000


class Narrowing:
    """Runs a step over ranges of a stage's `seq`, so that a failure costs only the records that cause it.

    The step runs once over everything. If a record breaks it, it runs again over chunks of 1,000, and a chunk that
    fails is halved until single records are left; these are reported. Errors that no record can cause (a lost
    connection, a deadlock, a full disk) pass through.
    """

    def __init__(self, connection: Connection, dialect: SqlDialect) -> None:
        """Run on one connection, inside its transaction."""
        self._connection = connection
        self._dialect = dialect

    def run(self, low: int, high: int, step: Step, reject: Callable[[int, RecordError], None]) -> Counter[Action]:
        """Return how many rows the step wrote in all; `reject` is told each record that it had to leave out."""
        if low > high:
            return Counter()
        written = self._try(low, high, step)
        if not isinstance(written, RecordError):
            return written
        if low == high:
            reject(low, written)
            return Counter()
        size = _CHUNK if high - low >= _CHUNK else (high - low + 2) // 2
        total = Counter[Action]()
        for start in range(low, high + 1, size):
            total += self.run(start, min(start + size - 1, high), step, reject)
        return total

    def _try(self, low: int, high: int, step: Step) -> Counter[Action] | RecordError:
        try:
            with self._connection.begin_nested():
                return step(low, high)
        except DBAPIError as error:
            found = self._dialect.record_error(error)
            if found is None:
                raise
            return found
