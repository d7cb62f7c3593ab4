"""Overlap: one page is worked on while the source fetches the next, where the source waits for something.

Two threads of which one computes without a pause fight for the interpreter: the other one waits some 5 ms for it
behind every answer that it gets. So a page whose fetch did not wait is followed by one in the same thread, even where
the work does: it waits for a database, for a moment and often.
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
"""Share of the time of a page, with nothing beside it, that the source has to wait."""
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
                was_alone, fetching, working = pending is None, _Stopwatch(), _Stopwatch()
                with fetching:
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
                    with working:
                        result = work(page)
                    if was_alone and fetching.waited > _WORTHWHILE * (fetching.wall + working.wall):
                        together = _ASK_AGAIN
                    yield result
        except BaseException:
            if pending is not None:
                wait([pending])
            raise


class _Stopwatch(AbstractContextManager[None]):
    """Takes the time of a block, in seconds, and in how much of it the thread did not compute."""

    def __init__(self) -> None:
        self.wall = self.waited = 0.0

    def __enter__(self) -> None:
        self._began = perf_counter(), thread_time()

    def __exit__(self, *exc: object) -> None:
        began, busy = self._began
        self.wall = perf_counter() - began
        self.waited = self.wall - (thread_time() - busy)
