"""Renewing a lease from a thread, as long as the work under it goes on."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def renewing(renew: Callable[[], object], *, every_s: float, name: str) -> Generator[None]:
    """Call `renew` every so many seconds in a thread of its own until the block ends.

    A database that is away or busy is passed over: if it stays so, the lease ends, and whoever writes checks it.
    """
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(every_s):
            try:
                renew()
            except Exception:  # noqa: BLE001, S112 - of the driver, the pool or the network
                continue

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
