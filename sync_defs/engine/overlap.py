"""Overlap: one page is worked on while the source fetches the next."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

P = TypeVar("P")
R = TypeVar("R")


def overlapped(pages: Iterator[P], work: Callable[[P], R]) -> Iterator[R]:
    """Yield what `work` returns for each page, in order, while the next page is on its way.

    The source stays in the thread of the caller, who opened what it reads from; the work is done in one other thread,
    in a copy of the caller's context. A page waits until the one before it is done, so that there are two at the most.

    Raises:
        Exception: whatever the source or the work raises. The page that is worked on then is brought to its end.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="sync_defs_work") as other:
        pending: Future[R] | None = None
        try:
            for page in pages:
                if pending is not None:
                    yield pending.result()
                pending = other.submit(copy_context().run, work, page)
        except BaseException:
            if pending is not None:
                wait([pending])
            raise
        if pending is not None:
            yield pending.result()
