"""An inbox over a fresh database, a clock that tests set, and a job whose messages it takes."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from sync_defs.inbox import Inbox, Message, read_message
from sync_defs.job import TableSync, table_sync
from sync_defs.store.database import Database

START = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(migrated_url: str, clock: Clock) -> Iterator[Database]:
    with Database(migrated_url, clock=clock) as database:
        yield database


@pytest.fixture
def inbox(database: Database) -> Inbox:
    return Inbox(database, random=lambda: 0.5)


def items_table() -> sa.Table:
    """Return the target of these tests' jobs."""
    columns = (sa.Column("id", sa.String(255), primary_key=True), sa.Column("name", sa.String(50)))
    return sa.Table("items", sa.MetaData(), *columns, sa.Column("updated_at", sa.DateTime(timezone=True)))


@pytest.fixture
def job() -> TableSync:
    @table_sync(target=items_table(), key="id", fields={"name": "name"}, version="updated_at")
    def erp():
        return []

    return erp


@pytest.fixture
def message(job: TableSync) -> Callable[..., Message]:
    """Make a message of the job: an id and its data, or raw bytes."""

    def make(message_id: str, data: object) -> Message:
        body = data if isinstance(data, bytes) else json.dumps({"data": data}).encode()
        return read_message(job, message_id=message_id, body=body, now=START)

    return make
