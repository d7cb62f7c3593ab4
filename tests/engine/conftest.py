"""A target table, and jobs of both kinds over the same fake source."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import Cursor, Database, Field, SyncJob, SyncResults, TableSync, run_sync
from sync_defs.job import Job


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


class Variant(Base):
    """The target, with every kind of constraint."""

    __tablename__ = "variants"
    __table_args__ = (sa.CheckConstraint("stock >= 0", name="stock_not_negative"),)
    sku: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    stock: Mapped[int] = mapped_column(sa.Integer)
    price: Mapped[Any] = mapped_column(sa.Numeric(12, 2, asdecimal=False), nullable=True)
    barcode: Mapped[str | None] = mapped_column(sa.String(20), unique=True)
    brand: Mapped[str | None] = mapped_column(sa.ForeignKey("brands.name"))
    version: Mapped[int | None]
    present: Mapped[bool] = mapped_column(default=True, server_default=sa.true())


class Brand(Base):
    """What a variant may refer to."""

    __tablename__ = "brands"
    name: Mapped[str] = mapped_column(sa.String(20), primary_key=True)


FIELDS: dict[str, str | Field] = {
    "stock": "quantity",
    "price": Field(source="price", default=None),
    "barcode": Field(source="barcode", default=None),
    "brand": Field(source="brand", default=None),
    "version": Field(source="version", default=None),
}


class VariantJob(SyncJob[dict[str, Any], Variant]):
    """The job of callbacks; behaves as the declarative one does."""

    name = "variants"

    def fetch_external(self, source: Callable[[Cursor], Any], cursor: Cursor) -> Any:
        return source(cursor)

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def find_local(self, session: Session, external_id: str) -> Variant | None:
        return session.get(Variant, external_id)

    def create(self, session: Session, record: dict[str, Any]) -> None:
        session.add(self._fill(Variant(sku=record["sku"]), record))

    def update(self, session: Session, row: Variant, record: dict[str, Any]) -> None:
        self._fill(row, record)

    def local_external_ids(self, session: Session) -> Iterator[str]:
        yield from session.scalars(sa.select(Variant.sku))

    def get_version(self, record: dict[str, Any]) -> int | None:
        return record.get("version")

    def get_local_version(self, row: Variant) -> int | None:
        return row.version

    def _fill(self, row: Variant, record: dict[str, Any]) -> Variant:
        row.stock = int(record["quantity"])
        row.price = record.get("price")
        row.barcode = record.get("barcode")
        row.brand = record.get("brand")
        row.version = record.get("version")
        return row


@dataclass
class World:
    """One database with a target, and one job over a source that the test sets."""

    database: Database
    kind: str
    records: Any = field(default_factory=list)
    seen_cursors: list[str | None] = field(default_factory=list)

    def job(self, **options: Any) -> Job:
        if self.kind == "callbacks":
            job = VariantJob()
            for name, value in options.items():
                setattr(job, name, value)
            return job

        def fetch(source: Callable[[Cursor], Any], cursor: Cursor) -> Any:
            return source(cursor)

        return TableSync(
            fetch,
            name="variants",
            target=cast("sa.Table", Variant.__table__),
            key="sku",
            fields=FIELDS,
            version="version",
            **options,
        )

    def source(self, cursor: Cursor) -> Any:
        self.seen_cursors.append(cursor.value)
        return self.records

    def sync(self, job: Job | None = None, *, full: bool = True, **options: Any) -> SyncResults:
        """Run the job; a full fetch unless the test says otherwise, since the job takes a cursor."""
        return run_sync(
            job or self.job(), database=self.database, resources={"source": self.source}, full=full, **options
        )

    def rows(self) -> dict[str, tuple[Any, ...]]:
        """Return sku to (stock, price as text, version, present), read by plain SQL."""
        query = sa.text("SELECT sku, stock, price, version, present FROM variants ORDER BY sku")
        with self.database.read() as connection:
            return {
                sku: (stock, None if price is None else f"{price:.2f}", version, bool(present))
                for sku, stock, price, version, present in connection.execute(query)
            }

    def execute(self, statement: str, **values: Any) -> list[Any]:
        with self.database.write() as connection:
            result = connection.execute(sa.text(statement), values)
            return list(result.all()) if result.returns_rows else []

    def create_orders(self) -> None:
        """Create a table that refers to the target, in the target's own type."""
        tables = sa.MetaData()
        with self.database.write() as connection:
            sa.Table("variants", tables, autoload_with=connection)
            sa.Table("orders", tables, sa.Column("sku", sa.ForeignKey("variants.sku"), nullable=False)).create(
                connection
            )

    def log_writes(self) -> None:
        """Let the database itself log each row of the target that is written, by triggers."""
        with self.database.write() as connection:
            connection.exec_driver_sql("CREATE TABLE written (what VARCHAR(10), sku VARCHAR(40))")
            for statement in TRIGGERS[self.database.dialect.name]:
                connection.exec_driver_sql(statement)

    def written(self) -> list[tuple[str, str]]:
        return [tuple(row) for row in self.execute("SELECT what, sku FROM written ORDER BY sku, what")]


_SQLITE = "CREATE TRIGGER log_{0} AFTER {0} ON variants BEGIN INSERT INTO written VALUES ('{0}', {1}.sku); END"
_FUNCTION = """
CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO written VALUES (lower(TG_OP), coalesce(NEW.sku, OLD.sku)); RETURN NULL; END $$
"""
_TRIGGER = """
CREATE TRIGGER log_write AFTER INSERT OR UPDATE OR DELETE ON variants FOR EACH ROW EXECUTE FUNCTION log_write()
"""
_MARIADB = "CREATE TRIGGER log_{0} AFTER {0} ON variants FOR EACH ROW INSERT INTO written VALUES ('{0}', {1}.sku)"
_EVENTS = (("insert", "NEW"), ("update", "NEW"), ("delete", "OLD"))
TRIGGERS = {
    "sqlite": [_SQLITE.format(*event) for event in _EVENTS],
    "mariadb": [_MARIADB.format(*event) for event in _EVENTS],
    "postgresql": [_FUNCTION, _TRIGGER],
}


@pytest.fixture(params=["table", "callbacks"])
def world_on(request: pytest.FixtureRequest) -> Callable[[Database], World]:
    """Return what makes a world on a migrated database of the test's own."""

    def make(database: Database) -> World:
        with database.write() as connection:
            Base.metadata.create_all(connection)
        return World(database, request.param)

    return make


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    """A migrated database with the target."""
    with Database(migrated_url) as database:
        with database.write() as connection:
            Base.metadata.create_all(connection)
            connection.execute(sa.insert(Brand), [{"name": "acme"}])
        yield database


@pytest.fixture(params=["table", "callbacks"])
def world(database: Database, request: pytest.FixtureRequest) -> World:
    """Both kinds of job on each database."""
    return World(database, request.param)


@pytest.fixture
def table_world(database: Database) -> World:
    """The declarative job on each database."""
    return World(database, "table")


@pytest.fixture
def callback_world(database: Database) -> World:
    """The job of callbacks on each database."""
    return World(database, "callbacks")
