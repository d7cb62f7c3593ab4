"""Callbacks run for many records together: what becomes of each is what it were if each ran apart."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import Database, SyncJob, run_sync
from sync_defs.store import isolation, schema


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


class Tool(Base):
    __tablename__ = "tools"
    __table_args__ = (sa.CheckConstraint("stock >= 0", name="stock_not_negative"),)
    sku: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    stock: Mapped[int | None]
    code: Mapped[str | None] = mapped_column(sa.String(20), unique=True)


Ways = dict[str, Callable[[Session, Tool], None]]


def _set_another(session: Session, row: Tool) -> None:
    session.get_one(Tool, "T0").stock = (row.stock or 0) + 500


def _set_another_by_statement(session: Session, row: Tool) -> None:
    session.execute(sa.text("UPDATE tools SET stock = 900 WHERE sku = 'T1'"))


def _read_by_statement(session: Session, row: Tool) -> None:
    row.stock = session.execute(sa.text("SELECT sum(stock) FROM tools")).scalar_one() % 1000


def _expire(session: Session, row: Tool) -> None:
    session.expire_all()


def _roll_back(session: Session, row: Tool) -> None:
    session.rollback()


def _commit(session: Session, row: Tool) -> None:
    session.commit()


def _flush_and_ignore(session: Session, row: Tool) -> None:
    with suppress(sqlalchemy.exc.IntegrityError):
        session.flush()


def _add_twice(session: Session, row: Tool) -> None:
    with suppress(sqlalchemy.exc.IntegrityError), session.begin_nested():
        session.add(Tool(sku=f"{row.sku}-copy", stock=1, code="taken"))


def _delete_another(session: Session, row: Tool) -> None:
    other = session.get(Tool, "T2")
    if other is not None and other is not row:
        session.delete(other)


def _fail(session: Session, row: Tool) -> None:
    raise KeyError(row.sku)


WAYS: Ways = {
    "another": _set_another,
    "by statement": _set_another_by_statement,
    "read": _read_by_statement,
    "expire": _expire,
    "rollback": _roll_back,
    "commit": _commit,
    "flush": _flush_and_ignore,
    "twice": _add_twice,
    "delete": _delete_another,
    "fail": _fail,
}


class ToolJob(SyncJob[dict[str, Any], Tool]):
    """Sets what the record says, and then does what it says."""

    name = "tools"

    def fetch_external(self, source: Any) -> Any:
        return source

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def find_local(self, session: Session, external_id: str) -> Tool | None:
        return session.get(Tool, external_id)

    def create(self, session: Session, record: dict[str, Any]) -> None:
        row = Tool(sku=record["sku"])
        session.add(row)
        self.update(session, row, record)

    def update(self, session: Session, row: Tool, record: dict[str, Any]) -> None:
        row.stock, row.code = record["stock"], record["code"]
        if record["way"]:
            WAYS[record["way"]](session, row)


class Shed:
    """A database with tools, some of which are known."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.sent: list[str] = []
        event.listen(database.engine, "before_cursor_execute", lambda *given: self.sent.append(given[2]))

    def fill(self) -> None:
        with self.database.write() as connection:
            connection.execute(sa.delete(Tool))
            connection.execute(sa.delete(schema.changes))
            connection.execute(sa.insert(Tool), [tool(number) | {"code": f"c{number}"} for number in range(4)])

    def sync(self, *records: dict[str, Any]) -> tuple[Any, ...]:
        """Return outcomes, errors, rows and history."""
        self.sent.clear()
        results = run_sync(ToolJob(), database=self.database, resources={"source": list(records)})
        assert results.is_balanced
        c = schema.changes.c
        history = sa.select(c.external_id, c.action, c.old_values, c.new_values).order_by(c.id)
        with self.database.read() as connection:
            rows = sorted(tuple(row) for row in connection.execute(sa.text("SELECT sku, stock, code FROM tools")))
            changes = [tuple(row) for row in connection.execute(history)]
        return results.outcomes, [(error.external_id, error.code) for error in results.errors], rows, changes

    def written(self) -> int:
        return sum(text.startswith(("INSERT INTO tools", "UPDATE tools", "SAVEPOINT")) for text in self.sent)


def tool(number: int, stock: Any = 1) -> dict[str, Any]:
    return {"sku": f"T{number}", "stock": stock}


def record(number: int, stock: Any = 1, code: Any = None, way: str | None = None) -> dict[str, Any]:
    return tool(number, stock) | {"code": code, "way": way}


@pytest.fixture
def shed(migrated_url: str) -> Iterator[Shed]:
    with Database(migrated_url) as database:
        with database.write() as connection:
            Base.metadata.create_all(connection)
        found = Shed(database)
        found.fill()
        yield found


def test_statements_are_few(shed):
    """Savepoints: of the look-ups of diff and upsert, and of each hundred; MariaDB's driver shows one insert as one."""
    shed.sync(*[record(number, 2) for number in range(400)])
    assert shed.written() <= 30
    shed.sync(*[record(number, 3) for number in range(400)])
    assert shed.written() <= 30


def test_what_two_records_do_to_one_row_is_the_change_of_both(shed):
    _, _, rows, changes = shed.sync(record(0, 5, "c0"), record(1, 1, "c1", "another"), record(2, 1, "c2"))
    assert rows[0] == ("T0", 501, "c0")
    assert [(external_id, old, new) for external_id, _, old, new in changes] == [
        ("T0", '{"stock": "1"}', '{"stock": "5"}'),
        ("T1", '{"stock": "5"}', '{"stock": "501"}'),
    ]


def test_a_statement_of_a_callback_sees_what_records_before_it_did(shed):
    _, _, rows, _ = shed.sync(record(0, 100, "c0"), record(1, 1, "c1", "read"), record(7, 3))
    assert rows[1] == ("T1", 103, "c1")
    assert rows[-1] == ("T7", 3, None)


def test_an_error_of_another_record_cannot_be_swallowed(shed):
    _, errors, rows, _ = shed.sync(record(0, -1, "c0"), record(1, 8, "c1", "flush"))
    assert errors == [("T0", "check")]
    assert rows[:2] == [("T0", 1, "c0"), ("T1", 8, "c1")]


RECORDS = st.lists(
    st.builds(
        record,
        st.integers(0, 6),
        st.sampled_from([1, 2, None, -1, "many", "7"]),
        st.sampled_from([None, "c0", "c1", "taken"]),
        st.one_of(st.none(), st.none(), st.sampled_from(sorted(WAYS))),
    ),
    max_size=7,
    unique_by=lambda each: each["sku"],
)


@example(records=[record(0, 2, None), record(1, 1, "c0")])
@example(records=[record(4, 2, None), record(1, 1, "c1", "expire"), record(2, 5, "c2"), record(0, 9, "c0", "delete")])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=RECORDS)
def test_together_is_as_apart(shed, records):
    """Unless two records compete for a unique code: there the order of the statements decides."""
    codes = [each["code"] for each in records if each["code"]]
    owners = {f"c{number}": f"T{number}" for number in range(4)}
    competes = len(set(codes)) < len(codes) or any(
        owners.get(each["code"], each["sku"]) != each["sku"] for each in records
    )
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for batch in (100, 1):
            patch.setattr(isolation, "BATCH", batch)
            shed.fill()
            found.append(shed.sync(*records))
    if not competes:
        assert found[0] == found[1]
    assert sum(found[0][0].values()) == len(records)
