"""Between two chunks of a callback job others write: their work is kept, and the account is of what is committed."""

import threading
from typing import Any

import pytest
import sqlalchemy as sa

from sync_defs.engine.items import sync_items
from sync_defs.store import callback_calls, callback_writer
from sync_defs.store.callback_writer import CallbackWriter
from sync_defs.store.store import SqlStore


def records(skus: str) -> list[dict[str, Any]]:
    return [{"sku": sku, "quantity": 1} for sku in skus]


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Have chunks of two records, and call what a test puts in after each."""
    calls: list[Any] = []
    monkeypatch.setattr(callback_calls, "CHUNK", 2)
    monkeypatch.setattr(callback_writer, "CHUNK", 2)

    def make_room(self: CallbackWriter) -> None:
        for call in calls:
            call()

    monkeypatch.setattr(CallbackWriter, "_make_room", make_room)
    return calls


def test_g13_what_a_message_brings_between_the_chunks_stays(callback_world, between):
    world = callback_world
    world.records = records("ABCDEF")
    job = world.job(on_missing="delete")
    world.sync(job)
    messages = [[{"sku": "E", "quantity": 7}]]
    between.append(lambda: messages and sync_items(world.job(), SqlStore(world.database), messages.pop()))
    world.records = records("A")
    results = world.sync(job, allow_deletes=100)
    assert (results.deleted, results.missing) == (5, 5)
    assert {sku: row[0] for sku, row in world.rows().items()} == {"A": 1, "E": 7}


def test_a_run_that_fails_tells_of_the_deletes_that_are_committed(callback_world, between):
    world = callback_world
    world.records = records("ABCDEF")
    job = world.job(on_missing="delete")
    world.sync(job)
    ended: list[Any] = []
    job.on_complete = ended.append
    left = [1]

    def interrupt() -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()

    between.append(interrupt)
    world.records = records("AGHIJ")
    with pytest.raises(KeyboardInterrupt):
        world.sync(job, allow_deletes=100)
    assert (ended[0].deleted, ended[0].created, sorted(world.rows())) == (5, 3, ["A", "G", "H", "I"])


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_others_get_to_write_on_sqlite(callback_world, monkeypatch):
    """A second seems to pass with each chunk: whoever waits to write is let in before the next one."""
    monkeypatch.setattr(callback_calls, "CHUNK", 2)
    monkeypatch.setattr(callback_writer, "CHUNK", 2)
    seconds = iter(range(10_000))
    monkeypatch.setattr(callback_writer, "monotonic", lambda: float(2 * next(seconds)))
    order: list[str] = []

    def write() -> None:
        with callback_world.database.write() as connection:
            connection.execute(sa.text("INSERT INTO brands (name) VALUES ('other')"))
        order.append("other")

    other = threading.Thread(target=write)
    job = callback_world.job()
    create = job.create

    def slow(session: Any, record: dict[str, Any]) -> None:
        if record["sku"] == "S2":
            other.start()
            threading.Event().wait(0.3)  # until it waits for the lock
        create(session, record)

    job.create = slow
    callback_world.records = [{"sku": f"S{number}", "quantity": 1} for number in range(40)]
    callback_world.sync(job)
    order.append("run")
    other.join()
    assert order == ["other", "run"]


def test_versions_of_two_kinds_cost_no_other_record(callback_world):
    world = callback_world
    world.records = [
        {"sku": "A", "quantity": 1, "version": "one"},
        {"sku": "B", "quantity": 1, "version": 1},
        {"sku": "C", "quantity": 1, "version": "two"},
        {"sku": "C", "quantity": 1, "version": 2},
    ]
    results = world.sync()
    assert (results.created, results.rejected, results.skipped) == (2, 1, 1)
    assert {"B", "C"} == set(world.rows())
    world.records = [{"sku": "A", "quantity": 1, "version": 7}]
    world.sync(full=False)
    assert world.rows()["A"][2] == 7


def test_what_the_own_code_of_a_job_raises_is_logged_by_its_kind(world, caplog):
    def tell(results: Any) -> None:
        raise ValueError("IBAN DE02")

    job = world.job()
    job.on_complete = tell

    class Hearing:
        def __getattr__(self, name: str) -> Any:
            return tell

    world.records = records("A")
    world.sync(job, observer=Hearing())
    assert "ValueError" in caplog.text
    assert "DE02" not in caplog.text


def test_a_run_that_cannot_begin_lets_the_job_go(world, monkeypatch):
    world.records = records("A")
    dialect = type(world.database.dialect)
    create_stage = dialect.create_stage

    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(dialect, "create_stage", refuse)
    with pytest.raises(PermissionError):
        world.sync()
    monkeypatch.setattr(dialect, "create_stage", create_stage)
    assert world.sync().created == 1
