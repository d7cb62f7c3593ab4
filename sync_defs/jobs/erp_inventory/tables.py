"""The shop's table of variants."""

from sqlalchemy import Boolean, Column, DateTime, Integer, MetaData, Numeric, String, Table

variants = Table(
    "variants",
    MetaData(),
    Column("sku", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("stock", Integer, nullable=False),
    Column("price", Numeric(12, 2), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
