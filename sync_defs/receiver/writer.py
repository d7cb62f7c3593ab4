"""Group commit: messages that come in while a commit is under way share the next one.

A few threads make messages of bodies, since that runs the code of jobs; one thread writes. A promise is kept only
after the commit that holds its message. Nothing here belongs to an event loop, so the receiver may be mounted in any
app: threads start with the first message, and whoever waited may have gone away.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import DBAPIError, StatementError

from sync_defs.inbox import EnqueueResult, Inbox, Message
from sync_defs.receiver.intake import Refused

logger = logging.getLogger("sync_defs.receiver")

_READERS: Final = 4
_GROUP_ITEMS: Final = 500
"""Items after which a group takes no further message: it should not keep other writers waiting for long."""


@dataclass(frozen=True, slots=True)
class _Entry:
    message: Message
    promise: Future[EnqueueResult]


@dataclass(slots=True)
class _Threads:
    readers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_READERS, "sync-receiver-read"))
    writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "sync-receiver-write"))


class Writer:
    """Reads and stores messages in threads of its own; safe to use from many threads."""

    def __init__(self, inbox: Inbox) -> None:
        """Take the inbox; its database is checked with the first message."""
        self._inbox = inbox
        self._lock = threading.Lock()
        self._threads: _Threads | None = None
        self._waiting: deque[_Entry] = deque()
        self._is_writing = False
        self._is_ready = False

    def submit(self, read: Callable[[], Message]) -> Future[EnqueueResult]:
        """Have a message read and stored.

        Returns a promise that is kept after the commit, whether or not anybody waits; it raises `Refused`: what `read`
        raised, or 503 where there was no commit. How many may be under way is the caller's to bound.
        """
        promise: Future[EnqueueResult] = Future()
        promise.set_running_or_notify_cancel()
        with self._lock:
            threads = self._threads = self._threads or _Threads()
            threads.readers.submit(self._read, threads, read, promise)
        return promise

    def close(self) -> None:
        """Wait until all that was submitted is stored or has failed; a later message starts anew."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.readers.shutdown()
            threads.writer.shutdown()

    def _read(self, threads: _Threads, read: Callable[[], Message], promise: Future[EnqueueResult]) -> None:
        try:
            message = read()
        except Refused as refused:
            promise.set_exception(refused)
            return
        except Exception as error:  # noqa: BLE001 - somebody else's data, and the code of jobs
            logger.warning("a message could not be read: %s", type(error).__name__)
            promise.set_exception(not_stored())
            return
        with self._lock:
            self._waiting.append(_Entry(message, promise))
            if not self._is_writing:
                self._is_writing = True
                threads.writer.submit(self._write_all)

    def _write_all(self) -> None:
        while group := self._next_group():
            self._write(group)

    def _next_group(self) -> list[_Entry]:
        group: list[_Entry] = []
        items = 0
        with self._lock:
            while self._waiting and items < _GROUP_ITEMS:
                group.append(self._waiting.popleft())
                items += len(group[-1].message.items)
            self._is_writing = bool(group)
        return group

    def _write(self, group: list[_Entry]) -> None:
        try:
            results = self._store([entry.message for entry in group])
        except Exception as error:  # noqa: BLE001 - whatever kept it from being stored, the senders must hear so
            self._fail(group, error)
            return
        for entry, result in zip(group, results, strict=True):
            entry.promise.set_result(result)

    def _store(self, messages: list[Message]) -> list[EnqueueResult]:
        if not self._is_ready:
            self._inbox.database.ensure_ready()
            self._is_ready = True
        return self._inbox.enqueue_all(messages)

    def _fail(self, group: list[_Entry], error: Exception) -> None:
        """Break the promises of a group; where one message is to blame, the others get transactions of their own."""
        if len(group) > 1 and self._is_about_a_message(error):
            for entry in group:
                self._write([entry])
            return
        # Not its text nor its traceback, which may hold values.
        logger.warning("%d messages were not stored: %s", len(group), type(error).__name__)
        for entry in group:
            entry.promise.set_exception(not_stored())

    def _is_about_a_message(self, error: Exception) -> bool:
        if isinstance(error, DBAPIError):
            return self._inbox.database.dialect.record_error(error) is not None
        return isinstance(error, StatementError | ValueError | TypeError | ArithmeticError)


def not_stored() -> Refused:
    """Return the answer where a message was not stored, as far as is known; it never says why."""
    return Refused(503, "unavailable", "the message was not stored; send it again later")
