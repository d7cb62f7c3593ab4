"""Accepting a message: one transaction that remembers its id and puts its items into the queue.

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

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, select, update
from sqlalchemy.sql import ColumnElement

from sync_defs.inbox.message import EnqueueResult, EnqueueStatus, Message, MessageItem, message_key
from sync_defs.inbox.version import is_older
from sync_defs.store.dialects import SqlDialect
from sync_defs.store.schema import inbox, queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Accepts messages in the caller's transaction; nothing is kept if that rolls back."""

    dialect: SqlDialect
    now: datetime

    def accept(self, connection: Connection, message: Message) -> EnqueueResult:
        """Store a message; a known id changes nothing.

        Queue rows are locked in the order of their keys, so that two messages with the same items cannot lock each
        other out.
        """
        if not self._is_new(connection, message):
            return EnqueueResult(status=EnqueueStatus.DUPLICATE)
        result = EnqueueResult(status=EnqueueStatus.QUARANTINED)
        keyed = [(message.item_key(index), item) for index, item in enumerate(message.items)]
        for key, item in sorted(keyed, key=lambda pair: pair[0]):
            is_stored = self._put(connection, message, key, item)
            result = _counted(result, item, is_stored=is_stored)
        first_code = next((item.code for item in message.items if item.code), None)
        return replace(result, code=first_code)

    def _is_new(self, connection: Connection, message: Message) -> bool:
        statement = (
            self.dialect.insert_or_ignore(inbox)
            .values(
                source=message.source or message.job,
                message_key=message_key(message.message_id),
                received_at=self.now,
            )
            .returning(inbox.c.received_at)
        )
        return bool(connection.execute(statement).all())

    def _put(self, connection: Connection, message: Message, key: bytes, item: MessageItem) -> bool:
        """Insert or update the item's row; return False if it holds a newer version."""
        values = {
            "external_id": item.external_id,
            "payload": item.payload,
            "version": item.version,
            "attempts": 0,
            "code": item.code,
            "error": item.error,
            "message_id": message.message_id,
            "received_at": self.now,
        }
        first = {"job": message.job, "item_key": key, "generation": 1, "deaths": 0}
        due_at = None if item.code else self.now
        insert = self.dialect.insert_or_ignore(queue).values(**first, **values, due_at=due_at)
        where = and_(queue.c.job == message.job, queue.c.item_key == key)
        held = select(queue.c.version, queue.c.due_at, queue.c.token, queue.c.deaths).where(where).with_for_update()
        # A worker may delete the row between the two statements; then the insert finds the place free.
        while not connection.execute(insert.returning(queue.c.generation)).all():
            row = connection.execute(held).first()
            if row is not None:
                return self._replace(connection, where, row, values)
        return True

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
