"""The checksum by which the next run tells that its target is what was left, and how it moves with each write.

It is the XOR of the rows' hashes, so that a transaction moves it by the rows that it writes: their hashes before and
after. The table is read as a whole only before a fetch; whatever others write then shows, whenever they do it.
"""

from sqlalchemy import ColumnElement, Connection

from sync_defs.store.dialects import TableSum
from sync_defs.store.statements import TableStatements


def table_sum(
    connection: Connection, statements: TableStatements, where: ColumnElement[bool] | None = None
) -> TableSum | None:
    """Sum up a job's target, all rows or chosen ones; None where the job or the database has no checksum."""
    if statements.mapping.job.verify is not None:
        return None
    return statements.dialect.checksum(connection, statements.mapping.columns, where)


class Shift:
    """What one transaction moves the checksum by; made after all is staged and before anything is written."""

    def __init__(self, connection: Connection, statements: TableStatements, *, is_empty: bool) -> None:
        """Read the rows that may be written; `is_empty` says that the target has none."""
        self._connection = connection
        self._statements = statements
        self._is_empty = is_empty
        self._before = 0 if is_empty else self._sum(statements.is_staged())

    def measure(self) -> int | None:
        """Return it, once everything is written."""
        if self._before is None:
            return None
        after = self._sum(None if self._is_empty else self._statements.is_staged())
        return after if after is None else self._before ^ after

    def _sum(self, where: ColumnElement[bool] | None) -> int | None:
        found = table_sum(self._connection, self._statements, where)
        return found.checksum if found is not None else None
