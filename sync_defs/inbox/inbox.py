"""The inbox: webhook messages wait here, one row per item, until they are applied."""

import random as random_module
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta

from sqlalchemy import Connection, Executable, delete, select, update

from sync_defs.errors import CODE_CHARS, REASON_CHARS, storable
from sync_defs.inbox import ledger
from sync_defs.inbox.accept import Acceptance
from sync_defs.inbox.claims import LEASE_S, MAX_ATTEMPTS, Claims
from sync_defs.inbox.due import DueJobs
from sync_defs.inbox.message import (
    Claimed,
    Counts,
    EnqueueResult,
    Message,
    MessageState,
    QueuedMessage,
    item_key,
)
from sync_defs.store.database import Database
from sync_defs.store.renewal import renewing
from sync_defs.store.schema import inbox, queue

KEEP_IDS = timedelta(days=14)


class Inbox:
    """Messages of all jobs in one database; safe to share between threads, and between processes by the database.

    Methods that take a connection write in the caller's transaction; the others open and commit their own.

    Example:
        ```python
        inbox = Inbox(database)
        inbox.enqueue(read_message(job, message_id="msg_1", body=body, now=database.now()))
        for claimed in inbox.claim(job.name, limit=100):
            record = read_item(job, claimed.payload)
            with database.write() as connection:
                write_somewhere(connection, record)
                inbox.acknowledge(connection, claimed)
        ```
    """

    def __init__(self, database: Database, *, random: Callable[[], float] = random_module.random) -> None:
        """Take the database whose tables hold the messages, and the chance that spreads retries."""
        self.database = database
        self._random = random
        self._due_jobs = DueJobs(database.dialect)

    def enqueue(self, message: Message) -> EnqueueResult:
        """Store a message for good; when this returns it is committed, when it raises nothing is stored.

        May be repeated: the same message id has one effect as long as ids are remembered.
        """
        [result] = self.enqueue_all([message])
        return result

    def enqueue_all(self, messages: Sequence[Message]) -> list[EnqueueResult]:
        """Store messages in one commit, an earlier one before a later one; all of them or, when it raises, none."""
        with self.database.write() as connection:
            return Acceptance(dialect=self.database.dialect, now=self.database.now()).accept(connection, messages)

    def accept(self, connection: Connection, message: Message) -> EnqueueResult:
        """Store a message in the caller's transaction."""
        acceptance = Acceptance(dialect=self.database.dialect, now=self.database.now())
        [result] = acceptance.accept(connection, [message])
        return result

    def claim(self, job: str, limit: int, *, lease_s: float = LEASE_S) -> list[Claimed]:
        """Lease the longest due rows of a job, at most 1,000; no two callers get the same row.

        A row whose lease ran out counts a death; the fifth makes it dead (`worker_died`). Rows over which a worker has
        died are claimed apart from others, 20 at a time, and alone where more have died; so there may be more that are
        due than are returned.
        """
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, not {limit}")
        with self.database.write() as connection:
            return self._claims.claim(connection, job, limit=limit, lease_s=lease_s)

    def renew(self, claims: Sequence[Claimed], *, lease_s: float = LEASE_S) -> list[Claimed]:
        """Prolong leases from now; return the claims that are still held, the others were taken over."""
        with self.database.write() as connection:
            return self._claims.renew(connection, claims, lease_s=lease_s)

    def holding(self, claims: Sequence[Claimed], *, every_s: float = LEASE_S / 3) -> AbstractContextManager[None]:
        """Renew the leases every so many seconds from a thread until the block ends, such as while a source answers.

        Killed in the block, a worker leaves leases that end within 60 s; what is lost meanwhile `lock` tells.
        """
        return renewing(lambda: self.renew(claims), every_s=every_s, name="claims")

    def release(self, claims: Sequence[Claimed]) -> None:
        """Give rows back, due at once and without counting an attempt; leases lost before are left alone."""
        with self.database.write() as connection:
            self._claims.release(connection, claims)

    def lock(self, connection: Connection, claims: Sequence[Claimed]) -> set[int]:
        """Lock claimed rows at the start of the transaction that applies them; return the positions that still hold.

        The others lost their lease, or their item got a newer message, which is due again once this commits. While
        the locks are held, no newer message can come in between.
        """
        return self._claims.lock(connection, claims)

    def acknowledge(self, connection: Connection, claimed: Claimed) -> bool:
        """Delete an applied row, in the transaction of the data.

        Returns False if the lease is lost or a newer message came in. The newer message is then due at once. Where
        the effect must be undone (a lost lease: G8), roll back; `lock` beforehand rules both out.
        """
        return self._claims.acknowledge(connection, claimed)

    def retry_later(
        self, connection: Connection, claimed: Claimed, *, code: str, error: str, wait_s: float = 0.0
    ) -> bool:
        """Count a failed attempt: due again after a growing wait, at least `wait_s` seconds, dead after the 25th.

        Returns False, and counts nothing, if the lease is lost or a newer message came in.
        """
        claims = self._claims
        values = claims.retry_values(claimed, random=self._random, wait_s=wait_s) | _reason(code, error)
        return claims.settle(connection, claimed, values)

    def postpone(self, job: str, wait_s: float) -> None:
        """Make what is due of a job, and claimed by nobody, due after so many seconds, 1 s to 6 h; counts no attempt.

        Writes in transactions of up to 1,000 rows. A newer message for an item ends its wait.
        """
        claims, goes_on = self._claims, True
        while goes_on:
            with self.database.write() as connection:
                goes_on = claims.postpone(connection, job, wait_s=wait_s)

    def is_last_attempt(self, claimed: Claimed) -> bool:
        """Tell whether one more failure of a claimed row makes it dead."""
        return claimed.attempts + 1 >= MAX_ATTEMPTS

    def dead_letter(self, connection: Connection, claimed: Claimed, *, code: str, error: str) -> bool:
        """Give a row up until a person retries or discards it; its payload is kept.

        Returns False, and buries nothing, if the lease is lost or a newer message came in.
        """
        values = {"due_at": None, "attempts": claimed.attempts + 1, **_reason(code, error)}
        return self._claims.settle(connection, claimed, values)

    def has_due(self, job: str) -> bool:
        """Tell whether a job has rows to claim."""
        statement = select(queue.c.job).where(queue.c.job == job, queue.c.due_at <= self.database.now()).limit(1)
        with self.database.read() as connection:
            return connection.execute(statement).first() is not None

    def due_jobs(self) -> list[str]:
        """Return the names of all jobs with rows to claim, sorted; names without a job may be among them."""
        with self.database.read() as connection:
            return self._due_jobs.due(connection, now=self.database.now())

    def unattended_jobs(self, *, waiting_s: float = 0.0) -> list[str]:
        """Return those of which a row has been due for so long, and to which no drain attends."""
        now = self.database.now()
        with self.database.read() as connection:
            return self._due_jobs.unattended(connection, now=now, due_before=now - timedelta(seconds=waiting_s))

    def counts(self, job: str) -> Counts:
        """Return how many rows of a job stand where."""
        with self.database.read() as connection:
            return ledger.counts(connection, job=job, now=self.database.now()).get(job, Counts())

    def depth(self) -> dict[str, Counts]:
        """Return the counts of every job that has rows."""
        with self.database.read() as connection:
            return ledger.counts(connection, job=None, now=self.database.now())

    def state(self, job: str, external_id: str) -> MessageState:
        """Return where an item's message stands; `done` where nothing waits for it."""
        statement = select(queue.c.due_at, queue.c.token).where(
            queue.c.job == job, queue.c.item_key == item_key(external_id)
        )
        with self.database.read() as connection:
            row = connection.execute(statement).first()
        if row is None:
            return MessageState.DONE
        return ledger.state_of(row.due_at, row.token, now=self.database.now())

    def list_messages(
        self,
        job: str | None = None,
        *,
        external_id: str | None = None,
        message_id: str | None = None,
        dead_only: bool = False,
        limit: int = 100,
    ) -> list[QueuedMessage]:
        """Return queue rows, the latest received first: of a job, of one item, of one message, or all."""
        chosen = ledger.rows_of(job, external_id=external_id, message_id=message_id, dead_only=dead_only)
        with self.database.read() as connection:
            return ledger.list_messages(connection, chosen, limit=limit, now=self.database.now())

    def retry(self, job: str, external_id: str | None = None, *, message_id: str | None = None) -> int:
        """Make dead rows due with all their attempts: of one item, of one message, or all; return how many."""
        statement = (
            update(queue)
            .where(ledger.rows_of(job, external_id=external_id, message_id=message_id, dead_only=True))
            .values(due_at=self.database.now(), token=None, attempts=0, deaths=0, code=None, error=None)
        )
        return self._write(statement)

    def discard(self, job: str, external_id: str | None = None, *, message_id: str | None = None) -> int:
        """Delete dead rows, of one item, of one message, or all; return how many."""
        chosen = ledger.rows_of(job, external_id=external_id, message_id=message_id, dead_only=True)
        return self._write(delete(queue).where(chosen))

    def bury_unknown_jobs(self, known: Iterable[str], *, due_for: timedelta | None = None) -> int:
        """Make rows dead (`unknown_job`) whose job is none of the known ones; return how many.

        With `due_for`, only rows that have been due for so long without anybody claiming them.
        """
        return self._write(ledger.bury_unknown_jobs(known, now=self.database.now(), due_for=due_for))

    def prune(self, older_than: timedelta = KEEP_IDS, *, batch: int = 1_000) -> int:
        """Forget message ids received longer ago; return how many. Queue rows stay, whatever their age.

        Writes in transactions of about `batch` ids, the oldest first, and may be repeated and killed.
        """
        is_old = inbox.c.received_at < self.database.now() - older_than
        last_of_batch = select(inbox.c.received_at).where(is_old).order_by(inbox.c.received_at).offset(batch - 1)
        forgotten = 0
        while True:
            with self.database.write() as connection:
                last = connection.execute(last_of_batch.limit(1)).scalar()
                of_batch = is_old if last is None else inbox.c.received_at <= last
                forgotten += self.database.dialect.count_written(connection, delete(inbox).where(of_batch))
            if last is None:
                return forgotten

    @property
    def _claims(self) -> Claims:
        return Claims(dialect=self.database.dialect, now=self.database.now())

    def _write(self, statement: Executable) -> int:
        with self.database.write() as connection:
            return self.database.dialect.count_written(connection, statement)


def _reason(code: str, error: str) -> dict[str, str]:
    return {"code": storable(code, limit=CODE_CHARS), "error": storable(error, limit=REASON_CHARS)}
