"""When an orchestrator is to be told of a single-item sync, beside the sync's own account."""

import sqlalchemy as sa

from sync_defs.store.migrations.steps import add_column, create_index

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column and its index; what was synced before is not told of again."""
    add_column("sync_runs", sa.Column("report_due_at", sa.DateTime(timezone=True)))
    create_index("ix_sync_runs_report_due_at", "sync_runs", ["report_due_at"])
