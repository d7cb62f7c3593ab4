"""Syncs the rows with diffsync: both sides as models, each difference one statement, all in one transaction."""

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from diffsync import Adapter, DiffSyncModel

source, address, _ = sys.argv[1:]
ATTRIBUTES = ("quantity", "price", "name", "active", "updated_at", "attributes")
INSERT = f"INSERT INTO product (sku, {', '.join(ATTRIBUTES)}) VALUES (%s, %s, %s, %s, %s, %s, %s)"


class Product(DiffSyncModel):
    _modelname = "product"
    _identifiers = ("sku",)
    _attributes = ATTRIBUTES

    sku: str
    quantity: int
    price: Decimal
    name: str
    active: bool
    updated_at: datetime
    attributes: str


class StoredProduct(Product):
    @classmethod
    def create(cls, adapter: Any, ids: dict, attrs: dict) -> Any:
        adapter.connection.execute(INSERT, [ids["sku"], *(attrs[name] for name in ATTRIBUTES)])
        return super().create(adapter, ids, attrs)

    def update(self, attrs: dict) -> Any:
        sets = ", ".join(f"{name} = %s" for name in attrs)
        self.adapter.connection.execute(f"UPDATE product SET {sets} WHERE sku = %s", [*attrs.values(), self.sku])
        return super().update(attrs)

    def delete(self) -> Any:
        self.adapter.connection.execute("DELETE FROM product WHERE sku = %s", [self.sku])
        return super().delete()


class Source(Adapter):
    product = Product
    top_level = ("product",)

    def load(self) -> None:
        with Path(source).open("rb") as lines:
            for line in lines:
                for record in json.loads(line):
                    instant = datetime.fromisoformat(record["updated_at"]).astimezone(UTC)
                    price = Decimal(record["price"]).quantize(Decimal("0.01"))
                    self.add(Product(**record | {"updated_at": instant, "price": price}))


class Stored(Adapter):
    product = StoredProduct
    top_level = ("product",)
    connection: psycopg.Connection

    def load(self) -> None:
        columns = ("sku", *ATTRIBUTES)
        for row in self.connection.execute(f"SELECT {', '.join(columns)} FROM product"):
            record = dict(zip(columns, row, strict=True))
            self.add(StoredProduct(**record | {"updated_at": record["updated_at"].astimezone(UTC)}))


with psycopg.connect(address) as connection:
    given, stored = Source(), Stored()
    stored.connection = connection
    given.load()
    stored.load()
    stored.sync_from(given)
