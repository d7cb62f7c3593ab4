"""What a callback job does with the rows beside a rejected record, and with attributes that are not loaded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, object_session

from sync_defs import Database, SyncJob, SyncResults, run_sync


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


class Part(Base):
    __tablename__ = "parts"
    __table_args__ = (sa.CheckConstraint("stock >= 0", name="stock_not_negative"),)
    sku: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    stock: Mapped[int | None]
    version: Mapped[int | None]


class Manual(Base):
    __tablename__ = "manuals"
    language: Mapped[str] = mapped_column(sa.String(2), primary_key=True)
    sku: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    text: Mapped[str | None] = mapped_column(sa.Text, deferred=True)
    pages: Mapped[int | None] = mapped_column(deferred=True)


Trouble = Callable[[Session, Any], None]


class PartJob(SyncJob[dict[str, Any], Part]):
    """Updates a part; `trouble` is called for the record that says so."""

    name = "parts"
    trouble: Trouble

    def fetch_external(self, records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        yield from records

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def find_local(self, session: Session, external_id: str) -> Part | None:
        return session.get(Part, external_id)

    def create(self, session: Session, record: dict[str, Any]) -> None:
        session.add(Part(sku=record["sku"], stock=record["stock"], version=1))

    def update(self, session: Session, row: Part, record: dict[str, Any]) -> None:
        if record.get("is_bad"):
            self.trouble(session, row)
        else:
            row.stock = record["stock"]

    def get_version(self, record: dict[str, Any]) -> int:
        return 1

    def get_local_version(self, row: Part) -> int | None:
        return row.version


class ManualJob(SyncJob[dict[str, Any], Manual]):
    """Keeps rows with a compound key and two deferred columns."""

    name = "manuals"

    def fetch_external(self, records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        yield from records

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def find_local(self, session: Session, external_id: str) -> Manual | None:
        return session.scalar(sa.select(Manual).where(Manual.sku == external_id))

    def find_local_many(self, session: Session, external_ids: Any) -> dict[str, Manual]:
        return {row.sku: row for row in session.scalars(sa.select(Manual).where(Manual.sku.in_(external_ids)))}

    def create(self, session: Session, record: dict[str, Any]) -> None:
        session.add(Manual(language="en", **record))

    def update(self, session: Session, row: Manual, record: dict[str, Any]) -> None:
        row.text = record["text"]
        row.pages = record["pages"]


@dataclass
class Account:
    """What was sent to the target's table during a block, and what was kept of it in the history."""

    updates: int = 0
    selects: int = 0
    history: list[tuple[str, str, str, str]] = field(default_factory=list)


@dataclass
class Bench:
    """A database with the targets."""

    database: Database

    def sync(self, job: SyncJob[Any, Any], records: list[dict[str, Any]]) -> SyncResults:
        return run_sync(job, database=self.database, resources={"records": records})

    @contextmanager
    def account(self, table: str) -> Iterator[Account]:
        found = Account()
        with self.database.write() as connection:
            connection.execute(sa.text(f"DELETE FROM {CHANGES[self.database.dialect.name]}"))

        def note(*given: Any) -> None:
            statement, values, is_of_many = given[2], given[3], given[5]
            if statement.startswith(f"UPDATE {table} "):
                found.updates += len(values) if is_of_many else 1
            if statement.startswith("SELECT") and f"FROM {table} " in statement.replace("\n", " "):
                found.selects += 1

        event.listen(self.database.engine, "after_cursor_execute", note)
        try:
            yield found
        finally:
            event.remove(self.database.engine, "after_cursor_execute", note)
        query = sa.text(
            f"SELECT external_id, action, old_values, new_values FROM {CHANGES[self.database.dialect.name]} ORDER BY id"
        )
        with self.database.read() as connection:
            found.history = [tuple(row) for row in connection.execute(query)]


CHANGES = {"sqlite": "sync_changes", "mariadb": "sync_changes", "postgresql": "sync_defs.sync_changes"}


@pytest.fixture
def bench(migrated_url: str) -> Iterator[Bench]:
    with Database(migrated_url) as database:
        with database.write() as connection:
            Base.metadata.create_all(connection)
        yield Bench(database)


def parts(**changed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records P0 to P9 with the stocks 0 to 9, some of them changed."""
    return [{"sku": f"P{n}", "stock": n} | changed.get(f"P{n}", {}) for n in range(10)]


def outcomes(results: SyncResults) -> dict[str, int]:
    return {outcome.value: count for outcome, count in results.outcomes.items() if count}


def refused_by_the_database(_session: Session, row: Part) -> None:
    row.stock = -1


def refused_by_the_column(_session: Session, row: Part) -> None:
    row.stock = "many"  # pyright: ignore[reportAttributeAccessIssue]


def raised_after_a_query(session: Session, row: Part) -> None:
    row.stock = 77
    session.scalar(sa.select(Part.stock).where(Part.sku == "P0"))
    raise KeyError("color")


def raised_after_a_write_elsewhere(session: Session, _row: Part) -> None:
    session.get_one(Part, "P9").stock = 77
    session.flush()
    session.execute(sa.update(Part).where(Part.sku == "P8").values(stock=78))
    raise KeyError("color")


def raised_in_a_savepoint_of_its_own(session: Session, row: Part) -> None:
    session.begin_nested()
    row.stock = 77
    session.flush()
    raise KeyError("color")


def raised_after_a_commit(session: Session, row: Part) -> None:
    row.stock = 77
    session.commit()
    raise KeyError("color")


def raised_after_a_rollback(session: Session, row: Part) -> None:
    session.rollback()
    row.stock = 77
    session.flush()
    raise KeyError("color")


def raised_in_a_savepoint_after_a_commit(session: Session, row: Part) -> None:
    row.stock = 77
    session.commit()
    session.begin_nested()
    raise KeyError("color")


def flushed_then_refused(session: Session, row: Part) -> None:
    row.stock = 77
    session.flush()
    refused_by_the_database(session, row)
    session.flush()


TROUBLES = [
    refused_by_the_database,
    refused_by_the_column,
    raised_after_a_query,
    raised_after_a_write_elsewhere,
    raised_in_a_savepoint_of_its_own,
    raised_after_a_commit,
    raised_after_a_rollback,
    raised_in_a_savepoint_after_a_commit,
    flushed_then_refused,
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_a_reject_leaves_the_unchanged_rest_of_its_chunk_alone(bench, trouble):
    job = PartJob()
    job.trouble = trouble
    bench.sync(job, parts())
    bad = {"is_bad": True}
    for _ in range(2):
        with bench.account("parts") as account:
            results = bench.sync(job, parts(P3=bad, P6={"stock": 60}))
        assert outcomes(results) == {"updated": 1, "unchanged": 8, "rejected": 1}
        assert [(sample.external_id, sample.changes) for sample in results.samples] == [("P6", {"stock": ("6", "60")})]
        assert account.history == [("P6", "updated", '{"stock": "6"}', '{"stock": "60"}')]
        bench.sync(job, parts(P3=bad))
    with bench.database.read() as connection:
        held = dict(map(tuple, connection.execute(sa.select(Part.sku, Part.stock))))
    assert held == {f"P{n}": n for n in range(10)}


@pytest.mark.parametrize("trouble", [refused_by_the_column, raised_after_a_query])
def test_a_reject_costs_neither_an_update_nor_a_query_for_each_other_record(bench, trouble):
    job = PartJob()
    job.trouble = trouble
    bench.sync(job, parts())
    with bench.account("parts") as before:
        assert outcomes(bench.sync(job, parts())) == {"unchanged": 10}
    with bench.account("parts") as after:
        assert outcomes(bench.sync(job, parts(P1={"is_bad": True}))) == {"unchanged": 9, "rejected": 1}
    # Its query, before which its change is flushed, both times that it is called; and one for the rows beside it.
    own = {refused_by_the_column: 0, raised_after_a_query: 2}[trouble]
    assert after == Account(updates=own, selects=before.selects + own + 1)


def test_many_rejects_leave_the_others_alone(bench):
    job = PartJob()
    job.trouble = refused_by_the_database
    bench.sync(job, parts())
    bad = {"is_bad": True}
    results = bench.sync(job, parts(P0=bad, P2=bad, P4=bad, P9=bad, P5={"stock": 50}))
    assert outcomes(results) == {"updated": 1, "unchanged": 5, "rejected": 4}
    assert [(sample.external_id, sample.changes) for sample in results.samples] == [("P5", {"stock": ("5", "50")})]


def manuals(**changed: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"sku": f"M{n}", "text": f"text {n}", "pages": None} | changed.get(f"M{n}", {}) for n in range(20)]


def test_an_unloaded_attribute_that_is_set_to_an_equal_value_is_no_change(bench):
    bench.sync(ManualJob(), manuals())
    with bench.account("manuals") as account:
        results = bench.sync(ManualJob(), manuals())
    assert outcomes(results) == {"unchanged": 20}
    assert (account.updates, account.history) == (0, [])
    assert account.selects <= 4, "find_local_many in diff and upsert, and one for each of the two columns"


def test_a_change_of_an_unloaded_attribute_has_its_old_value(bench):
    bench.sync(ManualJob(), manuals())
    with bench.account("manuals") as account:
        changed = manuals(M0={"pages": 3}, M7={"text": None}, M9={"text": "new"})
        results = bench.sync(ManualJob(), changed)
    assert outcomes(results) == {"updated": 3, "unchanged": 17}
    assert account.updates == 3
    assert account.history == [
        ("M0", "updated", '{"pages": null}', '{"pages": "3"}'),
        ("M7", "updated", '{"text": "text 7"}', '{"text": null}'),
        ("M9", "updated", '{"text": "text 9"}', '{"text": "new"}'),
    ]
    with bench.database.read() as connection:
        rows = connection.execute(sa.select(Manual.sku, Manual.text, Manual.pages)).all()
    assert sorted(tuple(row) for row in rows) == sorted(
        (record["sku"], record["text"], record["pages"]) for record in changed
    )


class PlainPartJob(PartJob):
    """Has no versions, so that nothing reads a row before it is set; and updates by the row's own session."""

    def get_local_version(self, row: Part) -> None:
        return None

    def update(self, session: Session, row: Part, record: dict[str, Any]) -> None:
        if record.get("is_bad"):
            session.expire_all()
            assert object_session(row) is session
        row.stock = record["stock"]


def test_rows_that_a_callback_expired_are_compared_all_the_same(bench):
    bench.sync(PlainPartJob(), parts())
    with bench.account("parts") as account:
        results = bench.sync(PlainPartJob(), parts(P2={"is_bad": True}, P8={"stock": 80}))
    assert outcomes(results) == {"updated": 1, "unchanged": 9}
    assert account.history == [("P8", "updated", '{"stock": "8"}', '{"stock": "80"}')]
    assert account.updates == 1
