"""The bookkeeping tables of DESIGN's section "One database, own tables".

They live beside the target's tables: in a schema `sync_defs` where the database has schemas, else by their prefix.
Their released form is in `migrations/`; a test compares both.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

SCHEMA = "sync_defs"
metadata = MetaData(schema=SCHEMA)
_ZONELESS = ("sqlite", "mariadb", "mysql")


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware in Python, UTC with microseconds in the database, also where the database has no zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC, and drop the zone where the database cannot keep it."""
        if value is None:
            return None
        instant = value.astimezone(UTC)
        return instant.replace(tzinfo=None) if dialect.name in _ZONELESS else instant

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return an aware instant in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_Id = BigInteger().with_variant(Integer, "sqlite")

runs = Table(
    "sync_runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("job", String(63), nullable=False),
    Column("trigger", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("is_full", Boolean, nullable=False),
    Column("stage", String(63)),
    Column("watermark", BigInteger, nullable=False),
    Column("cursor_before", Text),
    Column("started_at", UtcDateTime, nullable=False),
    Column("completed_at", UtcDateTime),
    Column("results", Text),
    Column("report_due_at", UtcDateTime),
    Index("ix_sync_runs_job_started_at", "job", "started_at"),
    Index("ix_sync_runs_report_due_at", "report_due_at"),
)

rejects = Table(
    "sync_rejects",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("job", String(63), nullable=False),
    Column("external_id", String(255)),
    Column("code", String(64), nullable=False),
    Column("field", String(255)),
    Column("reason", Text, nullable=False),
    Column("record", Text),
    Column("attempts", Integer, nullable=False),
    Column("run_id", String(64), nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Index("ix_sync_rejects_job_closed_at", "job", "closed_at"),
)

changes = Table(
    "sync_changes",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("job", String(63), nullable=False),
    Column("external_id", String(255), nullable=False),
    Column("run_id", String(64), nullable=False),
    Column("is_item", Boolean, nullable=False),
    Column("action", String(16), nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("old_values", Text),
    Column("new_values", Text),
    Index("ix_sync_changes_job_external_id", "job", "external_id", "id"),
)

cursors = Table(
    "sync_cursors",
    metadata,
    Column("job", String(63), primary_key=True),
    Column("value", Text, nullable=False),
    Column("run_id", String(64), nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

states = Table(
    "sync_state",
    metadata,
    Column("job", String(63), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("checksum", BigInteger),
    Column("watermark", BigInteger, nullable=False),
    Column("runs", Integer, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

state_parts = Table(
    "sync_state_parts",
    metadata,
    Column("job", String(63), primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("entries", LargeBinary, nullable=False),
)

handoffs = Table(
    "sync_handoffs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("step_key", LargeBinary(32), primary_key=True),
    Column("body", Text, nullable=False),
    Column("handed_at", UtcDateTime, nullable=False),
)

leases = Table(
    "sync_leases",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("token", String(64)),
    Column("holder", String(255)),
    Column("expires_at", UtcDateTime),
)

inbox = Table(
    "sync_inbox",
    metadata,
    Column("source", String(63), primary_key=True),
    Column("message_key", LargeBinary(32), primary_key=True),
    Column("received_at", UtcDateTime, nullable=False),
    Index("ix_sync_inbox_received_at", "received_at"),
)

queue = Table(
    "sync_queue",
    metadata,
    Column("job", String(63), primary_key=True),
    Column("item_key", LargeBinary(32), primary_key=True),
    Column("external_id", String(255)),
    Column("generation", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("version", Text),
    Column("due_at", UtcDateTime),
    Column("token", String(64)),
    Column("attempts", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("code", String(64)),
    Column("error", Text),
    Column("message_id", Text),
    Column("received_at", UtcDateTime, nullable=False),
    Index("ix_sync_queue_due_at", "due_at"),
    Index("ix_sync_queue_job_due_at", "job", "due_at"),
)
