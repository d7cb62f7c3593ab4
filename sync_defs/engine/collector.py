"""The cyclic garbage collector, held back while a page is worked on.

A page makes some ten objects for each record, of which none is part of a cycle and all are gone with the page. To look
through them again and again took 30 % of a first load's time.
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def held_back() -> Generator[None]:
    """Collect no cycles during the block, in this whole process; leave it alone where somebody has switched it off."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
