"""The tables of the benchmarks, the same for the product and for what it is compared with."""

from datetime import datetime
from decimal import Decimal
from typing import cast

from sqlalchemy import Boolean, CheckConstraint, Column, DateTime, ForeignKey, Integer, Numeric, String, Table
from sqlalchemy.dialects.mysql import VARCHAR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# MariaDB's default collations take A for a; sync_defs wants keys that it tells apart.
_KEY = String(40).with_variant(VARCHAR(40, collation="utf8mb4_nopad_bin"), "mysql", "mariadb")


class Base(DeclarativeBase):
    """Mapped classes, for what is done with the ORM."""


class Product(Base):
    """A row of the workload; its columns are in the order of `workload.COLUMNS`."""

    __tablename__ = "product"

    sku: Mapped[str] = mapped_column(_KEY, primary_key=True)
    quantity: Mapped[int] = mapped_column(Integer)
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    name: Mapped[str] = mapped_column(String(80))
    active: Mapped[bool] = mapped_column(Boolean)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    attributes: Mapped[str] = mapped_column(String(400))


metadata = Base.metadata
product = cast("Table", Product.__table__)
brand = Table("brand", metadata, Column("name", _KEY, primary_key=True))
article = Table(
    "article",
    metadata,
    Column("sku", _KEY, primary_key=True),
    Column("quantity", Integer, nullable=False),
    Column("price", Numeric(12, 2), nullable=False),
    Column("name", String(80), nullable=False),
    Column("brand", _KEY, ForeignKey("brand.name"), nullable=False),
    Column("barcode", String(20), nullable=False, unique=True),
    Column("slug", String(40), nullable=False, unique=True),
    CheckConstraint("quantity >= 0", name="quantity_not_negative"),
)
