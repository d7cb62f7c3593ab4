"""Messages of a job whose callbacks are written for a `record_type`, from arrival to row."""

import json
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import SyncJob
from sync_defs.inbox import DrainOptions, drain, read_message
from sync_defs.results import Action
from sync_defs.store.store import SqlStore


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


class Contact(Base):
    __tablename__ = "contacts"
    number: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20))
    version: Mapped[int]


class Record(pydantic.BaseModel):
    number: str = pydantic.Field(alias="contactNumber")
    name: str
    version: int


class ContactJob(SyncJob[Record, Contact]):
    name = "contacts"
    record_type = Record
    on_missing = "delete"

    def fetch_external(self) -> list[Record]:
        return []

    def get_external_id(self, record: Record) -> object:
        return record.number

    def find_local(self, session: Session, external_id: str) -> Contact | None:
        return session.get(Contact, external_id)

    def local_external_ids(self, session: Session) -> Iterator[str]:
        yield from session.scalars(sa.select(Contact.number))

    def create(self, session: Session, record: Record) -> None:
        session.add(Contact(number=record.number, name=record.name, version=record.version))

    def update(self, session: Session, row: Contact, record: Record) -> None:
        row.name, row.version = record.name, record.version

    def get_version(self, record: Record) -> int:
        return record.version

    def get_local_version(self, row: Contact) -> int:
        return row.version


@pytest.fixture
def send(database, inbox):
    """Put a message into the inbox, and say what became of it."""
    with database.write() as connection:
        Base.metadata.create_all(connection)

    def enqueue(message_id: str, kind: str, *contacts: dict[str, Any]) -> Any:
        body = json.dumps({"type": f"contact.{kind}", "data": list(contacts)}).encode()
        return inbox.enqueue(read_message(ContactJob(), message_id=message_id, body=body, now=database.now()))

    return enqueue


@pytest.fixture
def run(database, inbox):
    """Drain without waiting, and return what was done and the rows after it."""

    def run() -> tuple[dict[Action, int], list[tuple[Any, ...]]]:
        done = drain(ContactJob(), SqlStore(database), inbox, run_id="r", options=DrainOptions(linger_s=0))
        assert inbox.depth() == {}
        with database.read() as connection:
            rows = connection.execute(sa.select(Contact.number, Contact.name, Contact.version).order_by(Contact.number))
            return done.actions, [tuple(row) for row in rows]

    return run


def contact(number: str, name: str, version: int) -> dict[str, Any]:
    return {"contactNumber": number, "name": name, "version": version}


def test_messages_become_rows_and_delete_them(send, run):
    send("m1", "updated", contact("A", "Ada", 1), contact("B", "Bob", 1))
    send("m2", "updated", contact("C", "Cy", 1))
    assert run() == ({Action.CREATED: 3}, [("A", "Ada", 1), ("B", "Bob", 1), ("C", "Cy", 1)])
    send("m3", "deleted", contact("A", "Ada", 2), contact("B", "Bob", 0))
    send("m4", "deleted", contact("C", "Cy", 2))
    assert run() == ({Action.DELETED: 2, Action.STALE: 1}, [("B", "Bob", 1)])


def test_an_older_message_does_not_replace_a_newer_one_that_waits(send, run):
    send("m1", "updated", contact("A", "newer", 2))
    late = send("m2", "updated", contact("A", "older", 1))
    assert (late.queued, late.superseded) == (0, 1)
    assert run() == ({Action.CREATED: 1}, [("A", "newer", 2)])
