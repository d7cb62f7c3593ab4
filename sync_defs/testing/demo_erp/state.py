"""What the ERP knows: reads, and writes that move ``updated_at`` and put a message into the outbox."""

import json
import sqlite3
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from sync_defs.testing.demo_erp.database import Database
from sync_defs.testing.demo_erp.outbox import Outbox, enqueue
from sync_defs.testing.demo_erp.records import (
    Kind,
    Record,
    blank,
    changed,
    check_id,
    stamped,
    to_microseconds,
    to_wire,
)
from sync_defs.testing.demo_erp.seed import seed_records


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A record and its place in the order of a listing."""

    updated_us: int
    """Microseconds since 1970, UTC."""
    record_id: str
    """Breaks ties between records of the same time."""
    record: Record
    """The record as it goes over the wire."""


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class ErpState:
    """The records in one SQLite file; safe to use from several threads.

    Times only move forward: each change gets one that is later than every change before it, also when the
    clock stands still. So the order by ``updated_at`` is the order of the changes.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        announce: Collection[Kind] = (),
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Open the file, seed it when new, and put changes of the ``announce`` kinds into the outbox."""
        self._database = Database(path)
        self._announce = frozenset(announce)
        self._clock = clock
        self._listener: Callable[[], None] | None = None
        self.outbox = Outbox(self._database)
        self._seed()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def now(self) -> float:
        """Return the clock's time in Unix seconds."""
        return self._clock().timestamp()

    def on_change(self, listener: Callable[[], None] | None) -> None:
        """Set who is called after each committed change, on the thread that made it; None for nobody."""
        self._listener = listener

    def records(self, kind: Kind) -> list[Record]:
        """Return all records of a kind in the order of a listing."""
        return [stored.record for stored in self.page(kind)]

    def page(
        self,
        kind: Kind,
        *,
        since_us: int | None = None,
        after: tuple[int, str] | None = None,
        limit: int = -1,
    ) -> list[StoredRecord]:
        """Return records by (updated_at, id): from a time on (inclusive), and behind a place (exclusive)."""
        after_us, after_id = after or (-(2**62), "")
        statement = (
            "SELECT updated_us, id, body FROM records WHERE kind = ? AND updated_us >= ? "
            "AND (updated_us, id) > (?, ?) ORDER BY updated_us, id LIMIT ?"
        )
        earliest = -(2**62) if since_us is None else since_us
        with self._database.reading() as connection:
            rows = connection.execute(statement, (kind, earliest, after_us, after_id, limit)).fetchall()
        return [StoredRecord(updated_us=us, record_id=key, record=json.loads(body)) for us, key, body in rows]

    def find(self, kind: Kind, ids: Sequence[str]) -> list[Record]:
        """Return the records with these ids, each once, in listing order; unknown ids give nothing."""
        statement = (
            "SELECT body FROM records WHERE kind = ? AND id IN (SELECT value FROM json_each(?)) ORDER BY updated_us, id"
        )
        with self._database.reading() as connection:
            rows = connection.execute(statement, (kind, json.dumps(list(ids)))).fetchall()
        return [cast("Record", json.loads(body)) for (body,) in rows]

    def change(self, kind: Kind, record_id: str, fields: Mapping[str, object]) -> Record | None:
        """Change fields of a record and return it, None if there is no such record.

        Raises:
            InvalidRecordError: A field is unknown or its value is not acceptable; nothing was written.
        """
        with self.writing() as writer:
            return writer.change(kind, record_id, fields)

    def put(self, kind: Kind, record_id: str, fields: Mapping[str, object]) -> tuple[Record, bool]:
        """Create or replace a record; return it and whether it is new.

        Raises:
            InvalidRecordError: The id, a field or a value is not acceptable; nothing was written.
        """
        with self.writing() as writer:
            return writer.put(kind, record_id, fields)

    def delete(self, kind: Kind, record_id: str) -> bool:
        """Delete a record and return whether there was one."""
        with self.writing() as writer:
            return writer.delete(kind, record_id)

    @contextmanager
    def writing(self) -> Generator["Writer"]:
        """Give a writer for several changes in one transaction; their messages are committed with them."""
        with self._database.writing() as connection:
            yield Writer(connection, announce=self._announce, now_us=to_microseconds(self._clock()))
        if self._listener is not None:
            self._listener()

    def _seed(self) -> None:
        with self._database.writing() as connection:
            if read_counter(connection, "seeded"):
                return
            rows = [
                (kind, record_id, to_microseconds(instant), json.dumps(record))
                for kind, record_id, instant, record in seed_records()
            ]
            insert = "INSERT INTO records (kind, id, updated_us, body) VALUES (?, ?, ?, ?)"
            connection.executemany(insert, rows)
            write_counter(connection, "seeded", 1)
            write_counter(connection, "last_us", max(us for _, _, us, _ in rows))


class Writer:
    """Changes inside one transaction; valid until it ends."""

    def __init__(self, connection: sqlite3.Connection, *, announce: Collection[Kind], now_us: int) -> None:
        """Write through an open transaction, at the time given."""
        self._connection = connection
        self._announce = announce
        self._now_us = now_us

    def ids(self, kind: Kind) -> list[str]:
        """Return all ids of a kind, sorted."""
        rows = self._connection.execute("SELECT id FROM records WHERE kind = ? ORDER BY id", (kind,))
        return [cast("str", record_id) for (record_id,) in rows]

    def get(self, kind: Kind, record_id: str) -> Record | None:
        """Return a record, None if there is none."""
        row = self._connection.execute(
            "SELECT body FROM records WHERE kind = ? AND id = ?", (kind, record_id)
        ).fetchone()
        return None if row is None else cast("Record", json.loads(row[0]))

    def next_number(self, name: str, *, first: int) -> int:
        """Return a number that was never given out under this name."""
        number = max(read_counter(self._connection, name) + 1, first)
        write_counter(self._connection, name, number)
        return number

    def change(self, kind: Kind, record_id: str, fields: Mapping[str, object]) -> Record | None:
        """Change fields of a record and return it, None if there is no such record."""
        held = self.get(kind, record_id)
        return None if held is None else self._store(kind, record_id, changed(kind, held, fields), "updated")

    def put(self, kind: Kind, record_id: str, fields: Mapping[str, object]) -> tuple[Record, bool]:
        """Create or replace a record; return it and whether it is new."""
        is_new = self.get(kind, record_id) is None
        record = changed(kind, blank(kind, check_id(record_id)), fields)
        return self._store(kind, record_id, record, "created" if is_new else "updated"), is_new

    def delete(self, kind: Kind, record_id: str) -> bool:
        """Delete a record and return whether there was one; its message tells the time of the deletion."""
        held = self.get(kind, record_id)
        if held is None:
            return False
        self._connection.execute("DELETE FROM records WHERE kind = ? AND id = ?", (kind, record_id))
        moment = self._next_us()
        self._tell(kind, "deleted", moment, stamped(kind, held, to_wire(moment)))
        return True

    def _store(self, kind: Kind, record_id: str, record: Record, action: str) -> Record:
        moment = self._next_us()
        stored = stamped(kind, record, to_wire(moment))
        self._connection.execute(
            "INSERT INTO records (kind, id, updated_us, body) VALUES (?, ?, ?, ?) ON CONFLICT (kind, id) "
            "DO UPDATE SET updated_us = excluded.updated_us, body = excluded.body",
            (kind, record_id, moment, json.dumps(stored)),
        )
        self._tell(kind, action, moment, stored)
        return stored

    def _next_us(self) -> int:
        moment = max(self._now_us, read_counter(self._connection, "last_us") + 1)
        write_counter(self._connection, "last_us", moment)
        return moment

    def _tell(self, kind: Kind, action: str, moment: int, record: Record) -> None:
        if kind in self._announce:
            event = {"type": f"{kind}.{action}", "timestamp": to_wire(moment), "data": record}
            enqueue(self._connection, kind, due_at=self._now_us / 1e6, event=event)


def read_counter(connection: sqlite3.Connection, name: str) -> int:
    """Return a counter's value, 0 if it was never set."""
    row = connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else cast("int", row[0])


def write_counter(connection: sqlite3.Connection, name: str, value: int) -> None:
    """Set a counter."""
    connection.execute(
        "INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )
