"""Named points: where a process of ours may be killed, and what happens when one is reached.

A point is a step and a moment of it. Steps are the methods that open a transaction or settle a message; moments are
before each `statement`, before the `commit` is sent, and `committed`, once it is known to be. `answer` and `answered`
are around what the receiver sends. They are set from outside, in a process of the test's own: the code that they are
in carries nothing for it, and a step that is renamed fails here, where the names are bound.
"""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

from sqlalchemy import event

import sync_defs.inbox.inbox as inbox_module
from sync_defs.inbox import Inbox
from sync_defs.store import runs
from sync_defs.store.database import Database
from sync_defs.store.store import SqlStore

Reach = Callable[[str], object]
STEPS: Final[dict[str, tuple[Any, str]]] = {
    "accept": (Inbox, "enqueue_all"),
    "claim": (Inbox, "claim"),
    "lock": (Inbox, "lock"),
    "apply": (SqlStore, "apply_items"),
    "acknowledge": (Inbox, "acknowledge"),
    "release": (Inbox, "release"),
    "retry": (Inbox, "retry_later"),
    "lease": (runs, "take_lease"),
    "begin": (SqlStore, "begin_run"),
    "stage": (SqlStore, "stage"),
    "fetched": (SqlStore, "end_fetch"),
    "diff": (SqlStore, "diff"),
    "end": (SqlStore, "end_run"),
}


class Points:
    """Binds the points of this process to what happens when one is reached; for ever."""

    def __init__(self, reach: Reach) -> None:
        """Take what is called with the name of each point that is reached."""
        self._reach = reach
        self._steps = threading.local()

    def bind(self, database: Database) -> None:
        """Bind all points of a database that this process works on."""
        for step, (owner, name) in STEPS.items():
            setattr(owner, name, self._around(step, getattr(owner, name)))
        writing: Any = SqlStore.writing
        setattr(SqlStore, "writing", self._within("write", writing))  # noqa: B010 - another type
        for module in (runs, inbox_module):
            vars(module)["renewing"] = self._renewing(vars(module)["renewing"])
        event.listen(database.engine, "before_cursor_execute", lambda *_: self.reach("statement"))
        commit = database.engine.dialect.do_commit

        def do_commit(dbapi_connection: Any) -> None:
            self.reach("commit")
            commit(dbapi_connection)
            self.reach("committed")

        database.engine.dialect.do_commit = do_commit

    def reach(self, moment: str) -> None:
        """Reach a moment of the step that this thread is in."""
        self._reach(f"{self._stack[-1] if self._stack else 'other'}.{moment}")

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """Be in a step during the block."""
        self._stack.append(name)
        try:
            yield
        finally:
            self._stack.pop()

    def answering(self, app: Any) -> Any:
        """Return an ASGI app with points around its answers."""

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            async def sending(message: Any) -> None:
                if message["type"] == "http.response.start":
                    self._reach("answer")
                await send(message)
                if message["type"] == "http.response.body":
                    self._reach("answered")

            await app(scope, receive, sending if scope["type"] == "http" else send)

        return answer

    @property
    def _stack(self) -> list[str]:
        stack: list[str] = self._steps.__dict__.setdefault("stack", [])
        return stack

    def _around(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*given: Any, **options: Any) -> Any:
            with self.step(step):
                return function(*given, **options)

        return call

    def _within(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def block(*given: Any, **options: Any) -> Generator[Any]:
            with self.step(step), function(*given, **options) as value:
                yield value

        return block

    def _renewing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Renew a lease once as the work under it begins: nobody waits for seconds to see it."""

        @contextmanager
        def renewing(renew: Callable[[], object], **options: Any) -> Generator[None]:
            with function(renew, **options):
                self._around("renew", renew)()
                yield

        return renewing


def kill_at(name: str, nth: int = 1, number: int = signal.SIGKILL) -> Reach:
    """Return what sends this process a signal when a point is reached for the n-th time: SIGKILL, or SIGSTOP."""
    left = [nth]

    def reach(reached: str) -> None:
        if reached == name:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), number)

    return reach


def unarmed(_: str) -> None:
    """Do nothing when a point is reached."""
