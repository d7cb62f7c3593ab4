"""Alembic's environment: runs inside the transaction that `sync_defs.store.migrate` opened."""

from alembic import context

from sync_defs.store.database import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    version_table_schema=context.config.attributes["schema"],
)
context.run_migrations()
