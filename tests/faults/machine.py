"""The queue, the target and full syncs beside the plain model, step by step and in any order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sync_defs import BusyError, Database
from sync_defs.engine import RunRequest, StageHandle, diff, fetch, upsert
from sync_defs.errors import LeaseLostError
from sync_defs.inbox import Claimed, DrainOptions, Inbox, drain, read_message
from sync_defs.job import TableSync, table_sync
from sync_defs.store.schema import metadata, queue
from sync_defs.store.store import SqlStore
from tests.faults.model import KEEP_IDS_S, Model, Sent

START = datetime(2026, 11, 23, tzinfo=UTC)
SKUS = ("a", "b", "c")
TARGET = sa.Table(
    "machine_items",
    sa.MetaData(),
    sa.Column("sku", sa.String(9), primary_key=True),
    sa.Column("revision", sa.Integer),
    sa.Column("content", sa.String(9)),
)


class Killed(BaseException):
    """The process dies here."""


class Handed(Inbox):
    """An inbox whose next claim was made before, so that anything may happen between claim and apply."""

    handed: Sequence[Claimed] = ()

    def has_due(self, job: str) -> bool:
        return bool(self.handed)

    def claim(self, job: str, limit: int, **_: Any) -> list[Claimed]:
        handed, self.handed = list(self.handed), ()
        return handed


@dataclass
class World:
    """A SQLite in memory, which one machine after the other begins with empty."""

    database: Database
    job: TableSync
    store: SqlStore = field(init=False)
    now: datetime = START
    is_fatal: bool = False
    """The next worker dies when all is written and nothing committed."""

    def __post_init__(self) -> None:
        self.store = SqlStore(self.database)
        self.database.clock = lambda: self.now
        with self.database.write() as connection:
            TARGET.create(connection)
        dialect = self.database.dialect
        drop = dialect.drop_item_stage

        def drop_or_die(connection: sa.Connection, stage: sa.Table) -> None:
            drop(connection, stage)
            if self.is_fatal:
                raise Killed

        dialect.drop_item_stage = drop_or_die

    def empty(self) -> None:
        self.now = START
        with self.database.write() as connection:
            for table in (TARGET, *metadata.tables.values()):
                connection.execute(sa.delete(table))

    def read(self, statement: Any) -> Sequence[Any]:
        with self.database.read() as connection:
            return connection.execute(statement).all()


def make_job(version: str | None = "revision") -> TableSync:
    fields = {"revision": "revision", "content": "content"}

    @table_sync(target=TARGET, key="sku", fields=fields, version=version)
    def machine(source: dict[str, int]) -> Iterator[list[dict[str, object]]]:
        yield [record(sku, revision) for sku, revision in source.items()]

    return machine


def record(sku: str, revision: int, *, is_bad: bool = False) -> dict[str, object]:
    return {"sku": sku, "revision": revision, "content": "too long a text" if is_bad else f"{sku}{revision}"}


class Machine(RuleBasedStateMachine):
    """What may happen, to both; and what has to be the same in both after each of it."""

    world: World

    @initialize()
    def begin(self) -> None:
        self.world.empty()
        self.model = Model()
        self.inbox = Handed(self.world.database, random=lambda: 0.0)
        self.sent: list[Sent] = []
        self.claims: dict[int, list[Claimed]] = {}
        self.handles: dict[int, StageHandle] = {}
        self.number = 0

    def next_number(self) -> int:
        self.number += 1
        return self.number

    def enqueue(self, sent: Sent) -> None:
        body = self.inbox_body(sent)
        read = read_message(self.world.job, message_id=sent.message_id, body=body, now=self.world.now)
        assert self.inbox.enqueue(read).status == self.model.deliver(sent)

    @staticmethod
    def inbox_body(sent: Sent) -> bytes:
        told = record(sent.sku, sent.revision, is_bad=sent.is_bad)
        return f'{{"sku":"{told["sku"]}","revision":{told["revision"]},"content":"{told["content"]}"}}'.encode()

    @rule(sku=st.sampled_from(SKUS), revision=st.integers(1, 4), is_bad=st.sampled_from([False, False, False, True]))
    def deliver(self, sku: str, revision: int, is_bad: bool) -> None:
        sent = Sent(f"m{self.next_number()}", sku, revision, is_bad)
        self.sent.append(sent)
        self.model.source[sku] = max(revision, self.model.source.get(sku, 0))
        self.enqueue(sent)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def redeliver(self, data: st.DataObject) -> None:
        self.enqueue(data.draw(st.sampled_from(self.sent)))

    @precondition(lambda self: self.model.queue)
    @rule(limit=st.integers(1, 3))
    def claim(self, limit: int) -> None:
        self.take(limit)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def apply(self, data: st.DataObject) -> None:
        self.settle(self.draw_worker(data))

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        worker = self.draw_worker(data)
        assert len(self.inbox.renew(self.claims[worker])) == self.model.renew(worker)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """A worker dies before it applies anything."""
        worker = self.draw_worker(data)
        del self.claims[worker], self.model.workers[worker]

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def crash_in_the_middle(self, data: st.DataObject) -> None:
        """A worker dies in the transaction in which it applies its one item."""
        worker = self.draw_worker(data)
        self.world.is_fatal = True
        try:
            self.drain(self.claims.pop(worker)[:1], worker)
        except Killed:
            del self.model.workers[worker]
        else:
            raise AssertionError("nothing was applied in a transaction")
        finally:
            self.world.is_fatal = False

    @rule(seconds=st.sampled_from([1, 30, 60, 4_000, 8 * 86_400]))
    def wait(self, seconds: int) -> None:
        self.model.now += seconds
        self.world.now += timedelta(seconds=seconds)

    @precondition(lambda self: len(self.handles) < 2)
    @rule()
    def begin_sync(self) -> None:
        number = self.next_number()
        is_free = self.model.begin_sync(number)
        try:
            request = RunRequest(full=number % 2 == 0)
            handle = fetch(self.world.job, self.world.store, request, resources={"source": dict(self.model.source)})
        except BusyError:
            assert not is_free
        else:
            assert is_free
            self.handles[number] = handle

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def end_sync(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.handles)))
        handle = self.handles.pop(number)
        is_holder = self.model.end_sync(number)
        try:
            if is_holder:  # whose stage is gone has nothing to compare
                diff(self.world.job, self.world.store, handle)
            upsert(self.world.job, self.world.store, handle)
        except LeaseLostError:
            assert not is_holder
        else:
            assert is_holder

    @precondition(lambda self: self.model.now > KEEP_IDS_S)
    @rule()
    def sweep(self) -> None:
        assert self.inbox.prune() == self.model.sweep()

    @precondition(lambda self: any(waiting.due_at is None for waiting in self.model.queue.values()))
    @rule()
    def retry(self) -> None:
        assert self.inbox.retry(self.world.job.name) == self.model.retry()

    @invariant()
    def rows_are_the_same(self) -> None:
        found = {row.sku: (row.revision, row.content) for row in self.world.read(sa.select(TARGET))}
        assert found == {sku: (revision, f"{sku}{revision}") for sku, revision in self.model.rows.items()}

    @invariant()
    def queues_are_the_same(self) -> None:
        found = {
            row.external_id: (
                row.message_id,
                row.due_at and (row.due_at - START).total_seconds(),
                row.token is not None,
                row.attempts,
                row.deaths,
            )
            for row in self.world.read(sa.select(queue))
        }
        assert found == {
            sku: (
                waiting.message.message_id,
                waiting.due_at,
                waiting.holder is not None,
                waiting.attempts,
                waiting.deaths,
            )
            for sku, waiting in self.model.queue.items()
        }

    def take(self, limit: int) -> None:
        """Have a worker claim something."""
        worker = self.next_number()
        claims = Inbox.claim(self.inbox, self.world.job.name, limit)
        assert [claimed.message_id for claimed in claims] == [
            sent.message_id for sent in self.model.claim(worker, limit)
        ]
        if claims:
            self.claims[worker] = claims

    def settle(self, worker: int) -> None:
        """Have a worker apply what it claimed."""
        results = self.drain(self.claims.pop(worker), worker)
        assert (results.applied, results.rejected) == self.model.apply(worker)

    def draw_worker(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.claims)))

    def drain(self, claims: Sequence[Claimed], worker: int) -> Any:
        self.inbox.handed = claims
        options = DrainOptions(linger_s=0.0)
        return drain(self.world.job, self.world.store, self.inbox, run_id=f"w{worker}", options=options)
