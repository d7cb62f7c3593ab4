"""The first tables: runs, rejects, changes, cursors, leases, inbox and queue."""

import sqlalchemy as sa

from sync_defs.store.migrations.steps import create_index, create_table

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    create_table(
        "sync_runs",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("job", sa.String(63), nullable=False),
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("dry_run", sa.Boolean, nullable=False),
        sa.Column("is_full", sa.Boolean, nullable=False),
        sa.Column("stage", sa.String(63)),
        sa.Column("watermark", sa.BigInteger, nullable=False),
        sa.Column("cursor_before", sa.Text),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("completed_at", _TIME),
        sa.Column("results", sa.Text),
    )
    create_index("ix_sync_runs_job_started_at", "sync_runs", ["job", "started_at"])
    create_table(
        "sync_rejects",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("job", sa.String(63), nullable=False),
        sa.Column("external_id", sa.String(255)),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("field", sa.String(255)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("record", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("last_at", _TIME, nullable=False),
        sa.Column("closed_at", _TIME),
    )
    create_index("ix_sync_rejects_job_closed_at", "sync_rejects", ["job", "closed_at"])
    create_table(
        "sync_changes",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("job", sa.String(63), nullable=False),
        sa.Column("external_id", sa.String(255), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("is_item", sa.Boolean, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.Column("old_values", sa.Text),
        sa.Column("new_values", sa.Text),
    )
    create_index("ix_sync_changes_job_external_id", "sync_changes", ["job", "external_id", "id"])
    create_table(
        "sync_cursors",
        sa.Column("job", sa.String(63), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
    )
    create_table(
        "sync_leases",
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("token", sa.String(64)),
        sa.Column("holder", sa.String(255)),
        sa.Column("expires_at", _TIME),
    )
    create_table(
        "sync_inbox",
        sa.Column("source", sa.String(63), primary_key=True),
        sa.Column("message_key", sa.LargeBinary(32), primary_key=True),
        sa.Column("received_at", _TIME, nullable=False),
    )
    create_index("ix_sync_inbox_received_at", "sync_inbox", ["received_at"])
    create_table(
        "sync_queue",
        sa.Column("job", sa.String(63), primary_key=True),
        sa.Column("item_key", sa.LargeBinary(32), primary_key=True),
        sa.Column("external_id", sa.String(255)),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("version", sa.Text),
        sa.Column("due_at", _TIME),
        sa.Column("token", sa.String(64)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("deaths", sa.Integer, nullable=False),
        sa.Column("code", sa.String(64)),
        sa.Column("error", sa.Text),
        sa.Column("message_id", sa.Text),
        sa.Column("received_at", _TIME, nullable=False),
    )
    create_index("ix_sync_queue_due_at", "sync_queue", ["due_at"])
    create_index("ix_sync_queue_job_due_at", "sync_queue", ["job", "due_at"])
