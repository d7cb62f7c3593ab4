"""Jobs with `refetch`: a message names an item, and the source is asked for what it has of it now."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pydantic
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import Action, FetchError, ItemResult, SyncJob, sync_single_item
from sync_defs.engine.items import sync_single_item as sync_all_items
from sync_defs.errors import ConfigurationError
from sync_defs.inbox import DrainOptions, Inbox, drain, read_message
from sync_defs.job import TableSync, table_sync
from sync_defs.store.database import Database
from sync_defs.store.store import SqlStore
from tests.inbox.conftest import START, items_table

Items = dict[str, dict[str, Any]]


@dataclass
class Erp:
    """A source that tells what it was asked for."""

    items: Items = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    poison: frozenset[str] = frozenset()
    """Ids over which it stumbles."""
    error: Exception | None = None
    extra: list[dict[str, Any]] = field(default_factory=list)
    """Records in every answer that nobody asked for."""
    during: Callable[[], object] = lambda: None
    """Called while it answers."""

    def put(self, external_id: str, name: str, hour: int = 1) -> None:
        self.items[external_id] = {"id": external_id, "name": name, "updated_at": f"2026-11-23T{hour:02}:00:00Z"}

    def get(self, external_ids: Sequence[str]) -> Iterable[dict[str, Any]]:
        self.asked.append(sorted(external_ids))
        self.during()
        if self.error is not None:
            raise self.error
        if self.poison & set(external_ids):
            raise ValueError(f"secret {external_ids}")
        yield from self.extra
        yield from (self.items[external_id] for external_id in external_ids if external_id in self.items)


def chosen(external_ids: Sequence[str], erp: Erp) -> Iterable[dict[str, Any]]:
    return erp.get(external_ids)


@pytest.fixture
def erp() -> Erp:
    return Erp()


@pytest.fixture
def job() -> TableSync:
    @table_sync(
        target=items_table(),
        key="id",
        fields={"name": "name"},
        version="updated_at",
        on_missing="delete",
        fetch_items=chosen,
        refetch=True,
        create_table=True,
    )
    def erp_items(shop: object):
        return []

    erp_items.name = "erp"
    return erp_items


@pytest.fixture
def send(inbox: Inbox, job: TableSync) -> Callable[..., None]:
    """Deliver a message that names items, and says of them what is no longer so."""

    def enqueue(message_id: str, *external_ids: str, deleted: bool = False) -> None:
        kind = "item.deleted" if deleted else "item.updated"
        data = [{"id": external_id, "name": "of the message"} for external_id in external_ids]
        body = json.dumps({"type": kind, "data": data[0] if len(data) == 1 else data}).encode()
        inbox.enqueue(read_message(job, message_id=message_id, body=body, now=START))

    return enqueue


@pytest.fixture
def run(database: Database, inbox: Inbox, job: TableSync, erp: Erp):
    """Drain without waiting."""

    def run(**options: Any):
        given = DrainOptions(**{"linger_s": 0.0, "sleep": lambda _: pytest.fail("it slept")} | options)
        return drain(job, SqlStore(database), inbox, run_id="r1", options=given, resources={"erp": erp})

    return run


@pytest.fixture
def rows(database: Database, job: TableSync):
    """Read the target: id to name."""

    def read() -> dict[str, str]:
        with database.read() as connection:
            return {row.id: row.name for row in connection.execute(sa.select(job.target))}

    return read


def waiting(inbox: Inbox) -> dict[str | None, tuple[str | None, int, float]]:
    """Of every queue row: code, attempts, and in how many seconds it is due."""
    now = inbox.database.now()
    return {
        left.external_id: (left.code, left.attempts, (left.due_at - now).total_seconds() if left.due_at else -1.0)
        for left in inbox.list_messages()
    }


def test_the_source_is_asked_once_and_its_state_is_written(send, run, rows, erp, inbox):
    erp.put("A", "first")
    erp.put("B", "second")
    send("m1", "A", "B")
    send("m2", "A")
    results = run()
    assert rows() == {"A": "first", "B": "second"}
    assert erp.asked == [["A", "B"]]
    assert (results.actions, results.transactions) == ({Action.CREATED: 2}, 1)
    assert inbox.depth() == {}


def test_g12_an_item_that_the_source_lacks_is_tried_again_and_never_deleted(send, run, rows, erp, inbox, clock):
    erp.put("A", "first")
    send("m1", "A")
    run()
    del erp.items["A"]
    send("m2", "A")
    results = run()
    assert (results.retried, [error.code for error in results.errors]) == (1, ["not_in_source"])
    assert rows() == {"A": "first"}
    assert waiting(inbox) == {"A": ("not_in_source", 1, 1.5)}
    erp.put("A", "again", hour=2)
    clock.advance(2)
    assert run().actions == {Action.UPDATED: 1}
    assert (rows(), inbox.depth()) == ({"A": "again"}, {})


def test_a_delete_is_believed_once_the_source_lacks_the_item(send, run, rows, erp, inbox):
    for external_id in "AB":
        erp.put(external_id, "first")
    send("m1", "A", "B")
    run()
    del erp.items["A"]
    erp.put("B", "lives", hour=2)
    send("m2", "A", deleted=True)
    send("m3", "B", deleted=True)
    assert run().actions == {Action.DELETED: 1, Action.UPDATED: 1}
    assert (rows(), inbox.depth()) == ({"B": "lives"}, {})


@pytest.mark.parametrize("error", [FetchError("away", code="unreachable"), ValueError("secret")])
def test_g12_a_failed_answer_never_deletes_and_loses_nothing(send, run, rows, erp, error, clock):
    erp.put("A", "first")
    send("m1", "A")
    run()
    del erp.items["A"]
    erp.error = error
    send("m2", "A", deleted=True)
    results = run()
    assert (rows(), results.retried) == ({"A": "first"}, 1)
    assert "secret" not in str(results)
    erp.error = None
    clock.advance(30)
    run()
    assert rows() == {}


def test_g12_an_answer_that_does_not_tell_its_ids_never_deletes(send, run, rows, erp, inbox):
    """The item may be among the records that cannot be told apart."""
    erp.put("A", "first")
    send("m1", "A")
    run()
    erp.items["A"] = {"sku": "A", "name": "renamed key"}
    send("m2", "A", deleted=True)
    assert [error.code for error in run().errors] == ["bad_fetch_result"]
    assert rows() == {"A": "first"}


def test_a_source_that_is_away_is_asked_once_and_the_rest_waits_without_an_attempt(send, run, erp, inbox):
    erp.error = FetchError("too many requests", code="rate_limited", retry_after_s=90.0)
    send("m1", *(f"item {n}" for n in range(25)))
    results = run(batch=10)
    assert (results.retried, len(erp.asked)) == (10, 1)
    found = waiting(inbox)
    assert set(found.values()) == {(None, 0, 90.0), ("rate_limited", 1, 90.0)}
    assert len(found) == 25


@pytest.mark.parametrize("retry_after_s", [0.0, -3.0])
def test_a_source_that_wants_no_pause_gets_one_all_the_same(send, run, erp, inbox, retry_after_s):
    erp.error = FetchError("busy", code="rate_limited", retry_after_s=retry_after_s)
    send("m1", *(f"item {n}" for n in range(25)))
    assert (run(batch=10).retried, len(erp.asked)) == (10, 1)
    assert min(due for _, _, due in waiting(inbox).values()) >= 1.0


def test_a_source_that_fails_whatever_is_asked_is_soon_left_alone(send, run, erp, inbox):
    erp.error = RuntimeError("broken")
    send("m1", *(f"item {n}" for n in range(64)))
    assert run().retried == 64
    assert len(erp.asked) <= 10
    assert {(code, attempts) for code, attempts, _ in waiting(inbox).values()} == {("fetch_failed", 1)}
    assert min(due for _, _, due in waiting(inbox).values()) == 30.0


def test_g9_an_id_that_the_source_stumbles_over_holds_back_no_other(send, run, rows, erp, inbox):
    names = [f"item {n}" for n in range(40)]
    for name in names:
        erp.put(name, "x")
    erp.poison = frozenset({"item 7", "item 23"})
    send("m1", *names)
    results = run()
    assert sorted(rows()) == sorted(set(names) - erp.poison)
    assert results.retried == 2
    assert {key: code for key, (code, _, _) in waiting(inbox).items()} == {
        "item 7": "fetch_failed",
        "item 23": "fetch_failed",
    }
    assert len(erp.asked) <= 2 * 2 * 6 + 1


def test_no_transaction_is_open_while_the_source_answers(send, run, rows, erp, database):
    """Another writer gets its turn meanwhile, also where the database has one lock for all."""
    done: list[int] = []

    def write() -> None:
        with database.write() as connection:
            done.append(connection.execute(sa.text("SELECT 1")).scalar_one())

    erp.put("A", "first")
    erp.during = write
    send("m1", "A")
    assert (run().applied, done) == (1, [1])


def test_a_newer_message_that_came_in_meanwhile_has_the_source_asked_again(send, run, rows, erp, inbox):
    def change_and_tell() -> None:
        erp.during = lambda: None
        erp.put("A", "newer", hour=2)
        send("m2", "A")

    send("m1", "A")
    erp.put("A", "older")
    erp.during = change_and_tell
    results = run()
    assert (results.handed_on, len(erp.asked)) == (1, 2)
    assert (rows(), inbox.depth()) == ({"A": "newer"}, {})


def test_g8_a_drain_that_lost_its_leases_while_the_source_answered_writes_nothing(send, run, rows, erp, inbox, clock):
    def lose() -> None:
        erp.during = lambda: None
        clock.advance(61)
        assert len(inbox.claim("erp", 1)) == 1

    erp.put("A", "first")
    erp.during = lose
    send("m1", "A")
    assert run().handed_on == 1
    assert rows() == {}


def test_leases_are_renewed_while_a_source_answers_slowly(send, inbox, clock, monkeypatch):
    send("m1", "A")
    claims = inbox.claim("erp", 1)
    renewed = Event()
    renew = inbox.renew

    def note(claims: Any) -> None:
        renew(claims)
        renewed.set()

    monkeypatch.setattr(inbox, "renew", note)
    with inbox.holding(claims, every_s=0.001):
        clock.advance(59)
        renewed.clear()
        assert renewed.wait(30)
        renewed.clear()
        assert renewed.wait(30)
    clock.advance(59)
    assert inbox.claim("erp", 1) == []


def test_a_resource_that_is_absent_fails_the_drain_and_keeps_the_messages(send, inbox, job, database):
    send("m1", "A")
    options = DrainOptions(linger_s=0.0)
    with pytest.raises(ConfigurationError, match="job 'erp' needs the resource 'erp'; given: 'shop'") as caught:
        drain(job, SqlStore(database), inbox, run_id="r1", options=options, resources={"shop": 1})
    assert caught.value.code == "missing_resource"
    assert [(claimed.attempts, claimed.deaths) for claimed in inbox.claim("erp", 10)] == [(0, 0)]


def test_of_two_records_of_one_id_the_newest_counts(send, run, rows, erp):
    erp.put("A", "older", hour=1)
    erp.extra = [{"id": "A", "name": "newer", "updated_at": "2026-11-23T02:00:00Z"}]
    send("m1", "A")
    run()
    assert rows() == {"A": "newer"}


def test_an_id_that_nobody_asked_for_is_left_out(send, run, rows, erp):
    erp.put("A", "first")
    erp.extra = [{"id": "Z", "name": "stray", "updated_at": "2026-11-23T02:00:00Z"}]
    send("m1", "A")
    run()
    assert rows() == {"A": "first"}


def test_a_single_item_is_what_the_source_has(database, job, erp, rows):
    erp.put("A", "first")
    given = {"database": database, "resources": {"erp": erp}}
    payload = {"type": "item.updated", "data": {"id": "A", "name": "of the message"}}
    assert sync_single_item(job, payload, **given) == ItemResult(action=Action.CREATED, external_id="A")
    assert rows() == {"A": "first"}
    absent = sync_single_item(job, {"id": "B"}, **given)
    assert (absent.action, absent.external_id, absent.code) == (Action.REJECTED, "B", "not_in_source")
    assert sync_single_item(job, {"type": "item.deleted", "data": {"id": "A"}}, **given).action is Action.UNCHANGED
    del erp.items["A"]
    assert sync_single_item(job, {"type": "item.deleted", "data": {"id": "A"}}, **given).action is Action.DELETED
    assert sync_single_item(job, {"name": "no id"}, **given).code == "missing_field"
    erp.error = FetchError("away", code="unreachable")
    with pytest.raises(FetchError, match="away"):
        sync_single_item(job, payload, **given)


def test_the_results_of_several_items_are_in_their_order(database, job, erp):
    erp.put("B", "second")
    payload = {"data": [{"id": "A"}, {"id": "B"}, {"name": "no id"}, {"id": "B"}]}
    results = sync_all_items(job, SqlStore(database), payload, resources={"erp": erp})
    assert [(result.action, result.external_id) for result in results] == [
        (Action.REJECTED, "A"),
        (Action.SKIPPED, "B"),
        (Action.REJECTED, None),
        (Action.CREATED, "B"),
    ]
    assert erp.asked == [["A", "B"]]


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


class Row(Base):
    __tablename__ = "callback_items"
    id: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(50))


class Item(pydantic.BaseModel):
    id: str
    name: str


class Callbacks(SyncJob[Item, Row]):
    """Its messages hold an id alone, of which no whole record can be made."""

    name = "erp"
    record_type = Item
    refetch = True
    create_tables = (Row,)

    def fetch_external(self) -> list[Item]:
        return []

    def fetch_items(self, external_ids: Sequence[str], erp: Erp) -> Any:
        return erp.get(external_ids)

    def get_external_id(self, record: Item | dict[str, Any]) -> object:
        return record["id"] if isinstance(record, dict) else record.id

    def find_local(self, session: Session, external_id: str) -> Row | None:
        return session.get(Row, external_id)

    def create(self, session: Session, record: Item) -> None:
        session.add(Row(id=record.id, name=record.name))

    def update(self, session: Session, row: Row, record: Item) -> None:
        row.name = record.name


def test_a_message_of_an_id_alone_will_do_for_a_job_of_callbacks(database, inbox, erp):
    job = Callbacks()
    erp.items["A"] = {"id": "A", "name": "whole"}
    inbox.enqueue(read_message(job, message_id="m1", body=b'{"id": "A"}', now=START))
    options = DrainOptions(linger_s=0.0)
    results = drain(job, SqlStore(database), inbox, run_id="r1", options=options, resources={"erp": erp})
    assert results.actions == {Action.CREATED: 1}
    with database.read() as connection:
        assert connection.execute(sa.select(Row.id, Row.name)).all() == [("A", "whole")]
