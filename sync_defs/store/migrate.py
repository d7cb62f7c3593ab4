"""Alembic, loaded only when the database is upgraded."""

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy.schema import CreateSchema

from sync_defs.errors import DatabaseNotReadyError
from sync_defs.store.database import REVISION, VERSION_TABLE, Database

if TYPE_CHECKING:
    from sqlalchemy import Connection


def upgrade(database: Database) -> None:
    """Bring the bookkeeping tables to `REVISION` in one transaction, behind a lock against other processes.

    Raises:
        DatabaseNotReadyError: the tables are newer than this code.
    """
    with database.dialect.migrating(database.engine) as connection:
        if database.dialect.schema:
            connection.execute(CreateSchema(database.dialect.schema, if_not_exists=True))
        current = _current(connection, database.dialect.schema)
        if current is not None and current > REVISION:
            raise DatabaseNotReadyError(
                f"the database is at {current}, newer than this version of sync_defs ({REVISION}); update sync_defs",
                code="database_newer",
            )
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        config.attributes["schema"] = database.dialect.schema
        config.attributes["undoes_ddl"] = database.dialect.undoes_ddl
        command.upgrade(config, REVISION)


def _current(connection: "Connection", schema: str | None) -> str | None:
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "version_table_schema": schema}
    )
    return context.get_current_revision()
