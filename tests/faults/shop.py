"""The shop that the storms rage over: a source with revisions of items, and a job of each kind that follows it.

Every item's content follows from its name and revision, so that whatever stands in a table shows by itself whether the
source ever had it.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import Database, SyncJob, table_sync
from sync_defs.job import Job

SECRET = "whsec_" + "c2VjcmV0LWtleS1vZi0zMi1ieXRlcy1sZW5ndGghISE="
PAGE = 40
"""Records of a page of a full fetch."""


class Base(DeclarativeBase):
    pass


class Card(Base):
    __tablename__ = "storm_cards"
    sku: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    revision: Mapped[int] = mapped_column(sa.BigInteger)
    content: Mapped[str] = mapped_column(sa.String(80))


def table(name: str) -> sa.Table:
    columns = (sa.Column("revision", sa.BigInteger), sa.Column("content", sa.String(80)))
    return sa.Table(name, sa.MetaData(), sa.Column("sku", sa.String(40), primary_key=True), *columns)


APPLIED = sa.Table(
    "storm_applied",
    sa.MetaData(),
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("job", sa.String(63), nullable=False),
    sa.Column("item_key", sa.LargeBinary(32), nullable=False),
    sa.Column("message_id", sa.String(80), nullable=False),
)
"""What was acknowledged, one row each, written in the transaction of the acknowledgement."""


def content_of(sku: str, revision: int) -> str:
    """Return the only content that a revision of an item has."""
    return hashlib.sha256(f"{sku}@{revision}".encode()).hexdigest()[:40]


def record_of(sku: str, revision: int) -> dict[str, object]:
    """Return the record of a revision of an item."""
    return {"sku": sku, "revision": revision, "content": content_of(sku, revision)}


@dataclass(frozen=True, slots=True)
class Source:
    """What the external system has now: job, item and revision, in a file."""

    path: Path

    def write(self, items: dict[str, dict[str, int]]) -> None:
        """Change all at once."""
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(items), encoding="utf-8")
        new.replace(self.path)

    def read(self, job: str) -> dict[str, int]:
        """Return the revisions of a job's items."""
        return json.loads(self.path.read_text(encoding="utf-8"))[job] if self.path.exists() else {}


def is_listed(sku: str) -> bool:
    """Tell whether a full fetch has an item: every other one comes by messages alone, so that none may be lost."""
    return hashlib.sha256(sku.encode()).digest()[0] % 2 == 0


def listed(job: str, source: Source) -> Iterator[list[dict[str, object]]]:
    """Yield the items that are listed as they were when the fetch began, in pages."""
    items = sorted(item for item in source.read(job).items() if is_listed(item[0]))
    for start in range(0, len(items), PAGE):
        yield [record_of(sku, revision) for sku, revision in items[start : start + PAGE]]


@table_sync(
    target=table("storm_goods"),
    key="sku",
    fields={"revision": "revision", "content": "content"},
    version="revision",
    create_table=True,
)
def goods(source: Source) -> Iterable[Any]:
    """Messages bring the record; the database compares and writes."""
    return listed("goods", source)


def chosen_hints(external_ids: Sequence[str], source: Source) -> Iterable[Any]:
    items = source.read("hints")
    return [record_of(sku, items[sku]) for sku in external_ids if sku in items]


@table_sync(
    target=table("storm_hints"),
    key="sku",
    fields={"revision": "revision", "content": "content"},
    version="revision",
    create_table=True,
    refetch=True,
    fetch_items=chosen_hints,
)
def hints(source: Source) -> Iterable[Any]:
    """Messages name an item; the source is asked for it."""
    return listed("hints", source)


class Cards(SyncJob[dict[str, Any], Card]):
    """Messages bring the record; callbacks write."""

    name = "cards"
    create_tables = (Card,)

    def fetch_external(self, source: Source) -> Iterable[Any]:
        return listed("cards", source)

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def get_version(self, record: dict[str, Any]) -> object:
        return record["revision"]

    def get_local_version(self, row: Card) -> object:
        return row.revision

    def find_local(self, session: Session, external_id: str) -> Card | None:
        return session.get(Card, external_id)

    def create(self, session: Session, record: dict[str, Any]) -> None:
        session.add(Card(**record))

    def update(self, session: Session, row: Card, record: dict[str, Any]) -> None:
        row.revision, row.content = record["revision"], record["content"]


cards = Cards()
JOBS: dict[str, Job] = {job.name: job for job in (goods, hints, cards)}
TARGETS: dict[str, sa.Table] = {
    "goods": goods.target,
    "hints": hints.target,
    "cards": Base.metadata.tables["storm_cards"],
}
FOUNDERS = {job: f"{job}-founder" for job in JOBS}
"""An item of each job that is there from the start: the first load of an empty table is not in its history."""


def open_shop(url: str) -> None:
    """Create the tables of the shop, with an item in each."""
    with Database(url) as database, database.write() as connection:
        APPLIED.create(connection)
        for job, target in TARGETS.items():
            target.create(connection)
            connection.execute(sa.insert(target).values(record_of(FOUNDERS[job], 1)))


@dataclass(frozen=True, slots=True)
class FastClock:
    """A clock of all processes of a storm that runs faster than the world, so that leases end soon."""

    started_at: float
    """When it was right, in seconds since 1970."""
    factor: float
    ahead_s: float = 0.0
    """How far it is off, beside that."""

    def __call__(self) -> datetime:
        passed = (time.time() - self.started_at) * self.factor
        return datetime.fromtimestamp(self.started_at + passed + self.ahead_s, UTC)
