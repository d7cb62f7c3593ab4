"""How SQLite writes a range of a stage without the records that a constraint refuses: by statements prepared once."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sync_defs.errors import RecordError
from sync_defs.store.dialects.dialect import Refused
from sync_defs.store.dialects.ranges import HIGH, LOW, as_sent

_SIZES = (1_000, 25, 1)
_SAVEPOINT = "sync_defs_apart"
# The driver gets values by their places: these, which no other value is, show where the bounds go.
_BOUNDS = {LOW: -(2**63) + 1, HIGH: -(2**63) + 2}


class SqliteApart:
    """Writes a range of a stage: chunks of 1,000, of a failing one 25 records at a time, of these each by itself."""

    def __init__(
        self,
        connection: Connection,
        statements: Sequence[Any],
        values: Mapping[str, Any],
        record_error: Callable[[BaseException], RecordError | None],
    ) -> None:
        """Prepare the statements, the last of which writes the target."""
        self._prepared = [_prepared(*as_sent(connection, statement, {**values, **_BOUNDS})) for statement in statements]
        # A failed statement undoes only itself: with no history before it, there is nothing else to undo.
        self._undoes = len(statements) > 1
        self._record_error = record_error
        self._dialect = connection.dialect
        driver: Any = connection.connection
        self._cursor: sqlite3.Cursor = driver.cursor()

    def run(self, low: int, high: int) -> tuple[int, Refused]:
        """Return how many rows were written, and the records refused."""
        refused: Refused = []
        with closing(self._cursor):
            return self._descend(low, high, 0, refused), refused

    def _descend(self, low: int, high: int, level: int, refused: Refused) -> int:
        size, written = _SIZES[level], 0
        for start in range(low, high + 1, size):
            end = min(start + size - 1, high)
            found = self._attempt(start, end)
            if not isinstance(found, RecordError):
                written += found
            elif size > 1:
                written += self._descend(start, end, level + 1, refused)
            else:
                refused.append((start, found))
        return written

    def _attempt(self, low: int, high: int) -> int | RecordError:
        if self._undoes:
            self._cursor.execute(f"SAVEPOINT {_SAVEPOINT}")
        try:
            for text, values in self._prepared:
                self._cursor.execute(text, values(low, high))
        except sqlite3.Error as error:
            found = self._record_error(error)
            if found is None:
                raise DBAPIError.instance(
                    self._prepared[-1][0], None, error, sqlite3.Error, hide_parameters=True, dialect=self._dialect
                ) from error
            if self._undoes:
                self._cursor.execute(f"ROLLBACK TO {_SAVEPOINT}")
                self._cursor.execute(f"RELEASE {_SAVEPOINT}")
            return found
        written = int(self._cursor.execute("SELECT changes()").fetchone()[0])
        if self._undoes:
            self._cursor.execute(f"RELEASE {_SAVEPOINT}")
        return written


def _prepared(text: str, values: Sequence[Any]) -> tuple[str, Callable[[int, int], list[Any]]]:
    """Return a statement, and what makes its values for a range."""
    given = list(values)
    lows, highs = ([place for place, value in enumerate(given) if value == _BOUNDS[name]] for name in (LOW, HIGH))

    def bound(low: int, high: int) -> list[Any]:
        for place in lows:
            given[place] = low
        for place in highs:
            given[place] = high
        return given

    return text, bound
