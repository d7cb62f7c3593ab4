"""What the steps of a run hand to each other, so that each of them may run on another machine."""

import sqlalchemy as sa

from sync_defs.store.migrations.steps import create_table

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table."""
    create_table(
        "sync_handoffs",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("step_key", sa.LargeBinary(32), primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("handed_at", sa.DateTime(timezone=True), nullable=False),
    )
