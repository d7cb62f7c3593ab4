"""What the source said of each record when it was last in step: the header, and the fingerprints in blobs."""

import sqlalchemy as sa
from alembic import context, op

from sync_defs.store.migrations.steps import create_table

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables."""
    create_table(
        "sync_state",
        sa.Column("job", sa.String(63), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("parts", sa.Integer, nullable=False),
        sa.Column("checksum", sa.BigInteger),
        sa.Column("watermark", sa.BigInteger, nullable=False),
        sa.Column("runs", sa.Integer, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    create_table(
        "sync_state_parts",
        sa.Column("job", sa.String(63), primary_key=True),
        sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("entries", sa.LargeBinary, nullable=False),
    )
    schema = context.config.attributes["schema"]
    if schema is not None and op.get_bind().dialect.name == "postgresql":
        # Hashes do not compress; without this the server tries.
        op.execute(f'ALTER TABLE "{schema}".sync_state_parts ALTER COLUMN entries SET STORAGE EXTERNAL')
