"""The stage of single items on PostgreSQL: a temporary table that stays with its connection, empty in between.

To make one for each item took a third of the server's time for it, and with it went the plans of all statements on it.
It is looked for in each transaction, since behind a pooler these may be on connections of others; its name says what
its columns are, so that whoever made it made the same.
"""

import re
from typing import Any, Final

from sqlalchemy import Connection, Table, delete
from sqlalchemy.schema import CreateTable

_BUILT_IN: Final = re.compile(
    r"(VARCHAR|CHAR|TEXT|BYTEA|BOOLEAN|SMALLINT|INTEGER|BIGINT|NUMERIC|REAL|FLOAT|DOUBLE PRECISION|DATE|TIME|TIMESTAMP"
    r"|UUID|JSONB?)(\(\d+(, \d+)?\))?( WITH(OUT)? TIME ZONE)?"
)
_MOST_DEAD: Final = 500
"""Rows deleted from it that it may be slowed down by: nothing vacuums a temporary table."""
_CREATE: Final = "sync_defs_create"
_STAYS: Final = "sync_defs_stays"
_DEAD: Final = "sync_defs_dead"


def create(connection: Connection, stage: Table) -> None:
    """Make the stage unless the connection has it; one with types of the user's own goes with the transaction.

    These could not be dropped as long as it is there.
    """
    if _CREATE not in stage.info:
        kinds: list[Any] = [column.type for column in stage.columns]
        stays = all(_BUILT_IN.fullmatch(kind.compile(dialect=connection.dialect)) for kind in kinds)
        made = CreateTable(stage, if_not_exists=True).compile(dialect=connection.dialect)
        stage.info[_STAYS] = stays
        stage.info[_CREATE] = f"{made}" if stays else f"{made} ON COMMIT DROP"
    connection.exec_driver_sql(stage.info[_CREATE])


def clear(connection: Connection, stage: Table) -> None:
    """Empty the stage before the transaction ends; what others have left in one that is met first is not known."""
    if not stage.info[_STAYS]:
        return
    counts: dict[str, int] = connection.info.setdefault(_DEAD, {})
    dead = counts.get(stage.name, _MOST_DEAD) + connection.execute(delete(stage)).rowcount
    if dead > _MOST_DEAD:
        connection.exec_driver_sql(f"TRUNCATE {connection.dialect.identifier_preparer.format_table(stage)}")
        dead = 0
    counts[stage.name] = dead
