"""How the receiver is: alive, ready, and its metrics."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from sync_defs.inbox import Inbox
from sync_defs.receiver.deliveries import refusal
from sync_defs.receiver.intake import Refused
from sync_defs.receiver.metrics import CONTENT_TYPE, Metrics
from sync_defs.store.database import REVISION

logger = logging.getLogger("sync_defs.receiver")
_Value = TypeVar("_Value")
_READY_FOR_S: Final = 1.0
_DEPTH_FOR_S: Final = 5.0


class Health:
    """The endpoints for whoever watches the receiver; a flood of them asks the database once in a while only."""

    def __init__(self, inbox: Inbox, metrics: Metrics, *, under_way: Callable[[], int]) -> None:
        """Take what is watched."""
        self._metrics = metrics
        self._under_way = under_way
        self._revision = _Remembered(inbox.database.revision, for_s=_READY_FOR_S)
        self._depth = _Remembered(inbox.depth, for_s=_DEPTH_FOR_S)

    async def alive(self, request: Request) -> Response:
        """Answer as long as the process does."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Tell whether messages can be stored."""
        try:
            revision = await run_in_threadpool(self._revision)
        except Exception as error:  # noqa: BLE001 - not reachable, whatever the driver calls it
            return self._unreachable(error)
        if revision != REVISION:
            return refusal(Refused(503, "database_not_ready", "the database needs a migration"))
        return JSONResponse({"status": "ready"})

    async def measure(self, request: Request) -> Response:
        """Return the metrics; without the database none, so that its absence is an alarm of its own."""
        try:
            depth = await run_in_threadpool(self._depth)
        except Exception as error:  # noqa: BLE001 - as above
            return self._unreachable(error)
        text = self._metrics.text(under_way=self._under_way(), depth=depth)
        return PlainTextResponse(text, headers={"Content-Type": CONTENT_TYPE})

    def _unreachable(self, error: Exception) -> Response:
        logger.warning("not ready: %s", type(error).__name__)
        return refusal(Refused(503, "database_unreachable", "the database cannot be used"))


class _Remembered(Generic[_Value]):
    """Calls a function at most once at a time, and remembers what it returned for a while."""

    def __init__(self, read: Callable[[], _Value], *, for_s: float) -> None:
        self._read = read
        self._for_s = for_s
        self._lock = threading.Lock()
        self._found: tuple[float, _Value] | None = None

    def __call__(self) -> _Value:
        with self._lock:
            if self._found is None or time.monotonic() - self._found[0] >= self._for_s:
                value = self._read()
                self._found = (time.monotonic(), value)
            return self._found[1]
