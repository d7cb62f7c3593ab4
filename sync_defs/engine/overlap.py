"""Overlap: one page is worked on while the source fetches the next, where one of the two waits for something.

Two threads that only compute fight for the interpreter, which costs a fifth of the time; so a page whose fetch and
work waited for nothing is followed by one in the same thread.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from contextvars import copy_context
from time import perf_counter, thread_time
from typing import Final, TypeVar

P = TypeVar("P")
R = TypeVar("R")

_WORTHWHILE: Final = 0.15
"""Share of the time of a page, with nothing beside it, that has to be waiting."""
_ASK_AGAIN: Final = 64
"""Pages that are overlapped before one is measured again."""


def overlapped(pages: Iterator[P], work: Callable[[P], R]) -> Iterator[R]:
    """Yield what `work` returns for each page, in order, while the next page is on its way if that saves time.

    The source stays in the thread of the caller, who opened what it reads from; the work is done in one other thread,
    in a copy of the caller's context. A page waits until the one before it is done, so that there are two at the most.

    Raises:
        Exception: whatever the source or the work raises. The page that is worked on then is brought to its end.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="sync_defs_work") as other:
        pending: Future[R] | None = None
        together = 0
        try:
            while True:
                was_alone, watch = pending is None, _Stopwatch()
                with watch:
                    page = next(pages, None)
                if pending is not None:
                    done, pending = pending, None
                    yield done.result()
                if page is None:
                    return
                if together:
                    together -= 1
                    pending = other.submit(copy_context().run, work, page)
                else:
                    with watch:
                        result = work(page)
                    if was_alone and watch.waited > _WORTHWHILE:
                        together = _ASK_AGAIN
                    yield result
        except BaseException:
            if pending is not None:
                wait([pending])
            raise


class _Stopwatch(AbstractContextManager[None]):
    """Adds up the time of blocks, and how much of it the thread computed."""

    def __init__(self) -> None:
        self._wall = self._busy = 0.0

    @property
    def waited(self) -> float:
        """Return the share of the time in which the thread did not compute."""
        return 1 - self._busy / self._wall if self._wall else 0.0

    def __enter__(self) -> None:
        self._wall -= perf_counter()
        self._busy -= thread_time()

    def __exit__(self, *exc: object) -> None:
        self._wall += perf_counter()
        self._busy += thread_time()
