"""Signals: the word to stop, and who gets it."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether somebody said stop, and whether twice."""

    def __init__(self) -> None:
        """Begin with nobody having said so."""
        self._event = threading.Event()
        self.is_urgent = False

    def ask(self) -> None:
        """Say stop; the second time means at once."""
        self.is_urgent = self._event.is_set()
        self._event.set()

    @property
    def is_asked(self) -> bool:
        """Tell whether somebody said stop."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most, and return whether somebody said stop."""
        return self._event.wait(seconds)


@contextmanager
def stopping_by_signal() -> Generator[Stop]:
    """Give a `Stop` that SIGINT, SIGTERM and SIGHUP set during the block."""
    stop = Stop()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.ask()

    before = {number: signal.signal(number, ask) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def terminating_like_ctrl_c() -> Generator[None]:
    """Let SIGTERM raise KeyboardInterrupt during the block, so that a run ends the same way by both."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
