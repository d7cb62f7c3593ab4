"""Accepting messages: one transaction that remembers their ids and puts their items into the queue.

What a message does to an item's queue row:

- no row: it is inserted, due now.
- pending: payload and version are replaced and the generation grows. A due time that has passed stays, so that an
  item that changes all the time is not pushed back behind the others; a wait after failed attempts ends.
- claimed: payload and generation change, the lease stays. The worker still applies the older state and then finds
  that the generation has moved on: nothing of the row is deleted, the lease ends and the row is due at once. A worker
  that dies instead leaves a lease that runs out. Either way the newer message is applied.
- dead: the newer message takes the place of the dead one and gets all its attempts.

A row that holds a newer version than the message's is left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, select, update
from sqlalchemy.sql import ColumnElement

from sync_defs.inbox.message import EnqueueResult, EnqueueStatus, Message, MessageItem, message_key
from sync_defs.inbox.version import is_older
from sync_defs.store.dialects import SqlDialect
from sync_defs.store.schema import inbox, queue


@dataclass(frozen=True, slots=True)
class _Put:
    """One item on its way into the queue."""

    job: str
    key: bytes
    place: int
    """Which of the messages it is of."""
    item: MessageItem
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Accepts messages in the caller's transaction; nothing is kept if that rolls back."""

    dialect: SqlDialect
    now: datetime

    def accept(self, connection: Connection, messages: Sequence[Message]) -> list[EnqueueResult]:
        """Store messages, an earlier one before a later one; a known id changes nothing.

        Ids first and then queue rows are locked in the order of their keys, so that two transactions with the same
        ones cannot lock each other out.
        """
        is_new = self._insert_ids(connection, messages)
        puts = [
            _Put(message.job, message.item_key(index), place, item, message.message_id)
            for place, message in enumerate(messages)
            if is_new[place]
            for index, item in enumerate(message.items)
        ]
        puts.sort(key=lambda put: (put.job, put.key))
        results = [
            EnqueueResult(status=EnqueueStatus.QUARANTINED if new else EnqueueStatus.DUPLICATE) for new in is_new
        ]
        for put, is_stored in zip(puts, self._put_all(connection, puts), strict=True):
            results[put.place] = _counted(results[put.place], put.item, is_stored=is_stored)
        return [
            replace(result, code=next((item.code for item in message.items if item.code), None)) if new else result
            for result, message, new in zip(results, messages, is_new, strict=True)
        ]

    def _insert_ids(self, connection: Connection, messages: Sequence[Message]) -> list[bool]:
        """Remember ids and tell of each message whether its id is new."""
        rows = [
            {
                "source": message.source or message.job,
                "message_key": message_key(message.message_id),
                "received_at": self.now,
            }
            for message in messages
        ]
        order = sorted(range(len(rows)), key=lambda place: (rows[place]["source"], rows[place]["message_key"]))
        inserted = self.dialect.insert_absent_rows(connection, inbox, [rows[place] for place in order])
        return [new for _, new in sorted(zip(order, inserted, strict=True))]

    def _put_all(self, connection: Connection, puts: Sequence[_Put]) -> list[bool]:
        """Insert or update the items' rows; tell of each whether it was stored, as a row may hold a newer version."""
        inserted = self.dialect.insert_absent_rows(connection, queue, [self._row(put) for put in puts])
        return [new or self._put(connection, put) for put, new in zip(puts, inserted, strict=True)]

    def _put(self, connection: Connection, put: _Put) -> bool:
        """Update an item's row, which is there, or insert it after all: a worker may delete it in between."""
        where = and_(queue.c.job == put.job, queue.c.item_key == put.key)
        held = select(queue.c.version, queue.c.due_at, queue.c.token, queue.c.deaths).where(where).with_for_update()
        while True:
            row = connection.execute(held).first()
            if row is not None:
                return self._replace(connection, where, row, self._values(put))
            if self.dialect.insert_absent(connection, queue, self._row(put)):
                return True

    def _row(self, put: _Put) -> dict[str, Any]:
        first = {"job": put.job, "item_key": put.key, "generation": 1, "deaths": 0}
        return first | self._values(put) | {"due_at": None if put.item.code else self.now}

    def _values(self, put: _Put) -> dict[str, Any]:
        return {
            "external_id": put.item.external_id,
            "payload": put.item.payload,
            "version": put.item.version,
            "attempts": 0,
            "code": put.item.code,
            "error": put.item.error,
            "message_id": put.message_id,
            "received_at": self.now,
        }

    def _replace(
        self, connection: Connection, where: ColumnElement[bool], row: Row[*tuple[Any, ...]], values: dict[str, Any]
    ) -> bool:
        if is_older(values["version"], than=row.version):
            return False
        if row.token is None:
            due_at = self.now if row.due_at is None else min(row.due_at, self.now)
            values = values | {"due_at": None if values["code"] else due_at, "deaths": 0}
        connection.execute(update(queue).where(where).values(**values, generation=queue.c.generation + 1))
        return True


def _counted(result: EnqueueResult, item: MessageItem, *, is_stored: bool) -> EnqueueResult:
    if item.code:
        return replace(result, dead=result.dead + 1)
    if is_stored:
        return replace(result, status=EnqueueStatus.QUEUED, queued=result.queued + 1)
    return replace(result, status=EnqueueStatus.QUEUED, superseded=result.superseded + 1)
