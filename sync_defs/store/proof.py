"""The checksum by which the next run tells that its target is what was left, and how it moves with each write.

It is the XOR of the rows' hashes, so that a transaction moves it by the rows that it writes: their hashes before and
after. The table is read as a whole only before a fetch; whatever others write then shows, whenever they do it.
"""

from sqlalchemy import Connection

from sync_defs.store.statements import TableStatements


def checksum(connection: Connection, statements: TableStatements) -> int | None:
    """Return the checksum of a job's target, None where the job or the database has none."""
    if statements.mapping.job.verify is not None:
        return None
    return statements.dialect.checksum(connection, statements.mapping.columns)


class Shift:
    """What one transaction moves the checksum by; made after all is staged and before anything is written."""

    def __init__(self, connection: Connection, statements: TableStatements, *, is_empty: bool) -> None:
        """Read the rows that may be written; `is_empty` says that the target has none."""
        self._connection = connection
        self._statements = statements
        self._is_empty = is_empty
        self._before = 0 if is_empty else self._staged()

    def measure(self) -> int | None:
        """Return it, once everything is written."""
        if self._before is None:
            return None
        after = checksum(self._connection, self._statements) if self._is_empty else self._staged()
        return after if after is None else self._before ^ after

    def _staged(self) -> int | None:
        statements = self._statements
        if statements.mapping.job.verify is not None:
            return None
        return statements.dialect.checksum(self._connection, statements.mapping.columns, statements.is_staged())
