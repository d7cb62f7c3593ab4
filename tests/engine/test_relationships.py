"""Callbacks that work through relationships: what they change is an update, the same again is none."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sync_defs import Database, SyncJob, SyncResults, run_sync


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


LABELS = sa.Table(
    "article_labels",
    Base.metadata,
    sa.Column("sku", sa.ForeignKey("articles.sku"), primary_key=True),
    sa.Column("label", sa.ForeignKey("labels.name"), primary_key=True),
)


class Maker(Base):
    __tablename__ = "makers"
    name: Mapped[str] = mapped_column(sa.String(20), primary_key=True)


class Label(Base):
    __tablename__ = "labels"
    name: Mapped[str] = mapped_column(sa.String(20), primary_key=True)


class Article(Base):
    __tablename__ = "articles"
    sku: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    maker_name: Mapped[str | None] = mapped_column(sa.ForeignKey("makers.name"))
    maker: Mapped[Maker | None] = relationship()
    labels: Mapped[list[Label]] = relationship(secondary=LABELS)


class ArticleJob(SyncJob[dict[str, Any], Article]):
    """Sets objects, never keys."""

    name = "articles"

    def fetch_external(self, source: Any) -> Any:
        return source

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def find_local(self, session: Session, external_id: str) -> Article | None:
        return session.get(Article, external_id)

    def create(self, session: Session, record: dict[str, Any]) -> None:
        row = Article(sku=record["sku"])
        session.add(row)
        self.update(session, row, record)

    def update(self, session: Session, row: Article, record: dict[str, Any]) -> None:
        row.maker = session.get(Maker, record["maker"]) if record["maker"] else None
        row.labels = [session.get_one(Label, name) for name in record["labels"]]


class GradualJob(ArticleJob):
    """Adds and removes labels one by one."""

    def update(self, session: Session, row: Article, record: dict[str, Any]) -> None:
        row.maker = session.get(Maker, record["maker"]) if record["maker"] else None
        wanted = {session.get_one(Label, name) for name in record["labels"]}
        for label in wanted - set(row.labels):
            row.labels.append(label)
        for label in set(row.labels) - wanted:
            row.labels.remove(label)


def record(sku: str, maker: str | None = None, *labels: str) -> dict[str, Any]:
    return {"sku": sku, "maker": maker, "labels": list(labels)}


@pytest.fixture
def shop(migrated_url: str) -> Iterator[Database]:
    """Two makers, three labels, no article."""
    with Database(migrated_url) as database:
        with database.write() as connection:
            Base.metadata.create_all(connection)
            connection.execute(sa.insert(Maker), [{"name": "acme"}, {"name": "bolt"}])
            connection.execute(sa.insert(Label), [{"name": "new"}, {"name": "red"}, {"name": "sale"}])
        yield database


@pytest.fixture(params=[ArticleJob, GradualJob])
def sync(shop: Database, request: pytest.FixtureRequest) -> Callable[..., SyncResults]:
    """Run the job over the given records."""

    def run(*records: dict[str, Any]) -> SyncResults:
        results = run_sync(request.param(), database=shop, resources={"source": list(records)})
        assert (results.is_balanced, results.errors) == (True, [])
        return results

    return run


def makers(database: Database) -> dict[str, str | None]:
    with database.read() as connection:
        found = connection.execute(sa.text("SELECT sku, maker_name FROM articles"))
        return {row.sku: row.maker_name for row in found}


def labels(database: Database) -> list[tuple[str, str]]:
    with database.read() as connection:
        rows = connection.execute(sa.text("SELECT sku, label FROM article_labels ORDER BY sku, label"))
        return [(sku, label) for sku, label in rows]


def test_another_related_object_is_an_update_and_the_same_is_none(shop, sync):
    assert sync(record("A", "acme"), record("B", "acme")).created == 2
    again = sync(record("A", "acme"), record("B", "acme"))
    assert (again.updated, again.unchanged) == (0, 2)
    results = sync(record("A", "acme"), record("B", "bolt"))
    assert (results.updated, results.unchanged) == (1, 1)
    assert makers(shop) == {"A": "acme", "B": "bolt"}


def test_a_related_object_comes_and_goes(shop, sync):
    sync(record("A"))
    assert sync(record("A")).unchanged == 1
    assert sync(record("A", "acme")).updated == 1
    assert makers(shop) == {"A": "acme"}
    assert sync(record("A", None)).updated == 1
    assert makers(shop) == {"A": None}


def test_a_collection_that_gains_or_loses_a_member_is_an_update(shop, sync):
    sync(record("A", None, "new"), record("B", None, "new", "red"))
    results = sync(record("A", None, "new", "sale"), record("B", None, "new", "red"))
    assert (results.updated, results.unchanged) == (1, 1)
    assert labels(shop) == [("A", "new"), ("A", "sale"), ("B", "new"), ("B", "red")]
    results = sync(record("A", None, "new", "sale"), record("B", None, "red"))
    assert (results.updated, results.unchanged) == (1, 1)
    assert labels(shop) == [("A", "new"), ("A", "sale"), ("B", "red")]


def test_one_member_in_place_of_another_is_an_update(shop, sync):
    sync(record("A", None, "new"))
    assert sync(record("A", None, "red")).updated == 1
    assert labels(shop) == [("A", "red")]


def test_the_same_members_in_another_order_are_no_change(shop, sync):
    sync(record("A", None, "new", "red", "sale"))
    results = sync(record("A", None, "sale", "new", "red"))
    assert (results.updated, results.unchanged) == (0, 1)
    assert labels(shop) == [("A", "new"), ("A", "red"), ("A", "sale")]
