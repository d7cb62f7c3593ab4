"""Webhook messages that wait for delivery, kept in the state file beside the data they tell of."""

import json
import sqlite3
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

from sync_defs.testing.demo_erp.database import Database
from sync_defs.testing.demo_erp.records import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """One webhook message to send."""

    message_id: str
    """The same on each attempt, so that the receiver can tell a repetition."""
    kind: Kind
    """Decides the URL."""
    body: str
    """The JSON text that is signed and sent, unchanged on each attempt."""
    attempts: int
    """How often it was tried before."""


def enqueue(connection: sqlite3.Connection, kind: Kind, *, due_at: float, event: Mapping[str, object]) -> None:
    """Add a message inside the transaction of the change that it tells of."""
    body = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    connection.execute(
        "INSERT INTO outbox (message_id, kind, body, due_at) VALUES (?, ?, ?, ?)",
        (f"msg_{uuid.uuid4().hex}", kind, body, due_at),
    )


class Outbox:
    """The waiting messages: at least once each, since a crash between sending and forgetting repeats one."""

    def __init__(self, database: Database) -> None:
        """Use the tables of the state file."""
        self._database = database

    def due(self, now: float, *, kinds: Collection[Kind], limit: int) -> list[OutgoingMessage]:
        """Return up to ``limit`` messages of these kinds whose time has come, the longest due first."""
        statement = (
            "SELECT message_id, kind, body, attempts FROM outbox "
            "WHERE due_at <= ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY due_at, rowid LIMIT ?"
        )
        with self._database.reading() as connection:
            rows = connection.execute(statement, (now, json.dumps(sorted(kinds)), limit)).fetchall()
        return [
            OutgoingMessage(message_id=message_id, kind=Kind(kind), body=body, attempts=attempts)
            for message_id, kind, body, attempts in rows
        ]

    def next_due(self, *, kinds: Collection[Kind]) -> float | None:
        """Return when the next message of these kinds is due (Unix seconds), None if none waits."""
        statement = "SELECT min(due_at) FROM outbox WHERE kind IN (SELECT value FROM json_each(?))"
        with self._database.reading() as connection:
            row = connection.execute(statement, (json.dumps(sorted(kinds)),)).fetchone()
        return cast("float | None", row[0])

    def delivered(self, message_id: str) -> None:
        """Forget a message that was accepted."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM outbox WHERE message_id = ?", (message_id,))

    def failed(self, message_id: str, *, due_at: float | None) -> None:
        """Count an attempt and set the next one; None gives the message up and keeps it."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE outbox SET attempts = attempts + 1, due_at = ? WHERE message_id = ?",
                (due_at, message_id),
            )

    def count(self) -> int:
        """Return how many messages are not delivered, those given up included."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT count(*) FROM outbox").fetchone()
        return cast("int", row[0])
