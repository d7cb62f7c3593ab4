"""The table of prices."""

from sqlalchemy import Column, DateTime, MetaData, Numeric, String, Table

prices = Table(
    "prices",
    MetaData(),
    Column("sku", String(64), primary_key=True),
    Column("price", Numeric(12, 2), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
