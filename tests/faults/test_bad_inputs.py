"""The corpus of bad inputs, as far as values, their order and what is stored are concerned; ids as in the corpus."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from sync_defs import Database, run_sync, table_sync
from sync_defs.errors import DatabaseNotReadyError
from sync_defs.inbox import DrainOptions, Inbox, drain, read_message
from sync_defs.job import TableSync
from sync_defs.store.database import REVISION
from sync_defs.store.schema import queue
from sync_defs.store.store import SqlStore

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
GOODS = sa.Table(
    "goods",
    sa.MetaData(),
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(40)),
    sa.Column("qty", sa.Integer),
    sa.Column("price", sa.Numeric(12, 2)),
    sa.Column("weight", sa.Double),
    sa.Column("barcode", sa.String(40), unique=True),
    sa.Column("updated_at", sa.DateTime(timezone=True)),
)
FIELDS = {column.name: column.name for column in GOODS.columns if column.name != "id"}
REFUSED = {
    "value-03": ({"name": "x" * 41}, "too_long"),
    "value-04": ({"qty": 2**31}, "out_of_range"),
    "value-08": ({"weight": float("nan")}, "non_finite_number"),
    "value-09": ({"weight": float("inf")}, "non_finite_number"),
    "value-11": ({"price": Decimal("12345678901.23")}, "out_of_range"),
    "value-12": ({"price": Decimal("NaN")}, "non_finite_number"),
    "value-14": ({"barcode": "taken"}, "unique"),
    "value-22": ({"updated_at": "0000-01-01"}, "bad_datetime"),
    "value-23": ({"updated_at": 1_795_456_800_000}, "bad_datetime"),
}
KEPT = {
    "value-17": ("2026-03-29T02:30:00+02:00", datetime(2026, 3, 29, 0, 30, tzinfo=UTC)),
    "value-18": ("2026-01-01T00:00:00.123456Z", datetime(2026, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)),
}


class Shop:
    """A target that takes messages and full fetches, of a job with a version or without one."""

    def __init__(self, database: Database, version: str | None = None) -> None:
        self.database = database
        self.inbox = Inbox(database, random=lambda: 0.0)
        self.records: list[Any] = []
        self.job = self.make(version)
        self.count = 0

    def make(self, version: str | None) -> TableSync:
        options: dict[str, Any] = {"create_table": True, "on_missing": "delete"}
        return table_sync(target=GOODS, key="id", fields=FIELDS, version=version, name="goods", **options)(
            lambda: self.records
        )

    def sync(self) -> Any:
        return run_sync(self.job, database=self.database, full=True)

    def deliver(self, *versions: Any, kind: str = "goods.changed") -> Any:
        """Deliver a message of item A for each version, and drain after each; return the account of the last."""
        results = None
        for version in versions:
            self.count += 1
            body = json.dumps({"type": kind, "data": self.record("A", **version)}).encode()
            message = read_message(self.job, message_id=f"m{self.count}", body=body, now=NOW)
            self.inbox.enqueue(message)
            options = DrainOptions(linger_s=0.0)
            results = drain(self.job, SqlStore(self.database), self.inbox, run_id=f"r{self.count}", options=options)
        return results

    @staticmethod
    def record(item: str, **given: Any) -> dict[str, Any]:
        return {"id": item, **dict.fromkeys(FIELDS), **given}

    def read(self, column: str) -> dict[str, Any]:
        statement = sa.select(GOODS.c.id, GOODS.c[column])
        with self.database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}


@pytest.fixture
def database(migrated_url):
    with Database(migrated_url, clock=lambda: NOW) as database:
        yield database


@pytest.fixture
def shop(database):
    return Shop(database)


def test_each_bad_value_costs_its_item_alone(shop):
    bad = [shop.record(case, **change) for case, (change, _) in REFUSED.items()]
    shop.records = [shop.record("good", barcode="taken"), *bad, shop.record("other", qty=1)]
    results = shop.sync()
    assert {error.external_id: error.code for error in results.errors} == {
        case: code for case, (_, code) in REFUSED.items()
    }
    assert (results.created, results.rejected) == (2, len(REFUSED))
    values = [str(value) for change, _ in REFUSED.values() for value in change.values()]
    assert not [error.message for error in results.errors for value in values if value in error.message]
    assert shop.read("qty") == {"good": None, "other": 1}


def test_a_time_is_kept_as_the_same_instant_on_every_database(shop):
    shop.records = [shop.record(case, updated_at=given) for case, (given, _) in KEPT.items()]
    assert shop.sync().created == len(KEPT)
    stored = shop.read("updated_at")
    assert {case: at if at.tzinfo else at.replace(tzinfo=UTC) for case, at in stored.items()} == {
        case: kept for case, (_, kept) in KEPT.items()
    }


@pytest.fixture
def numbered(database):
    """A shop whose version is a number."""
    return Shop(database, version="qty")


def test_order_01_an_older_version_after_a_newer_one_is_stale(numbered):
    assert numbered.deliver({"qty": 2}, {"qty": 1}).actions == {"stale": 1}
    assert numbered.read("qty") == {"A": 2}


def test_order_03_a_version_after_none(numbered):
    numbered.deliver({"qty": None}, {"qty": 1})
    assert numbered.read("qty") == {"A": 1}


def test_order_04_a_version_of_another_kind_is_refused_and_the_row_stays(numbered):
    """The column's type says what a version is: there is no code of its own for another kind of it."""
    results = numbered.deliver({"qty": 5}, {"qty": "2026-01-01T00:00:00Z"})
    assert [error.code for error in results.errors] == ["bad_integer"]
    assert numbered.read("qty") == {"A": 5}


def test_order_06_a_newer_create_after_a_delete(numbered):
    numbered.deliver({"qty": 1})
    numbered.deliver({"qty": 2}, kind="goods.deleted")
    assert numbered.read("qty") == {}
    numbered.deliver({"qty": 3})
    assert numbered.read("qty") == {"A": 3}


def test_order_09_a_version_from_the_far_future_does_not_lock_its_item(database):
    shop = Shop(database, version="updated_at")
    results = shop.deliver({"updated_at": "2999-01-01T00:00:00Z"})
    assert [error.code for error in results.errors] == ["version_in_future"]
    assert shop.inbox.counts("goods").dead == 1
    assert shop.deliver({"updated_at": "2026-11-23T00:00:00Z"}).applied == 1
    assert shop.inbox.depth() == {}


def test_queue_05_messages_of_a_job_that_is_gone_end_as_dead_letters_and_others_go_on(shop):
    shop.deliver({"qty": 1})
    gone = shop.make(None)
    gone.name = "gone"
    body = json.dumps({"id": "B"}).encode()
    shop.inbox.enqueue(read_message(gone, message_id="of-gone", body=body, now=NOW - timedelta(days=1)))
    assert shop.inbox.bury_unknown_jobs(["goods"]) == 1
    [dead] = shop.inbox.list_messages(dead_only=True)
    assert (dead.job, dead.code) == ("gone", "unknown_job")
    assert shop.deliver({"qty": 2}).applied == 1


def test_queue_06_corrupted_bytes_end_as_a_dead_letter(shop):
    body = json.dumps({"id": "A"}).encode()
    shop.inbox.enqueue(read_message(shop.job, message_id="m", body=body, now=NOW))
    with shop.database.write() as connection:
        connection.execute(sa.update(queue).values(payload=b"\x00\x01"))
    drain(shop.job, SqlStore(shop.database), shop.inbox, run_id="r", options=DrainOptions(linger_s=0.0))
    [dead] = shop.inbox.list_messages(dead_only=True)
    assert (dead.code, dead.payload) == ("bad_payload", b"\x00\x01")


def test_queue_07_tables_that_are_newer_than_the_code_are_refused(shop):
    version = sa.table("sync_schema_version", sa.column("version_num"), schema=shop.database.dialect.schema)
    with shop.database.write() as connection:
        connection.execute(sa.update(version).values(version_num="0999"))
    try:
        with pytest.raises(DatabaseNotReadyError) as refused:
            shop.deliver({"qty": 1})
    finally:
        with shop.database.write() as connection:
            connection.execute(sa.update(version).values(version_num=REVISION))
    assert refused.value.code == "database_newer"
    assert shop.inbox.counts("goods").ready == 1
