"""How much a receiver takes on at once: deliveries under way, their bytes, and messages a minute."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sync_defs.receiver.intake import Refused

RETRY_AFTER_S: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one receiver process."""

    max_deliveries: int = 1_000
    """Deliveries that are under way at once; more are answered 503."""
    max_bytes: int = 64 * 1024 * 1024
    """Bytes of their bodies together; more are answered 503."""
    timeout_s: float = 10.0
    """Time for a body to come in, and then for its message to be stored."""


class Admission:
    """Counts what is under way; safe to use from many threads."""

    def __init__(self, limits: Limits) -> None:
        """Take the bounds."""
        self._limits = limits
        self._lock = threading.Lock()
        self._deliveries = 0
        self._bytes = 0

    @property
    def deliveries(self) -> int:
        """Return how many deliveries are under way."""
        return self._deliveries

    def enter(self) -> "Place":
        """Return a place for one delivery, which is taken until it is left.

        Raises:
            Refused: 503, as many deliveries as may be are under way.
        """
        self.take(deliveries=1)
        return Place(self)

    def take(self, *, deliveries: int = 0, size: int = 0) -> None:
        """Count more deliveries or bytes.

        Raises:
            Refused: 503, they would be more than there may be.
        """
        with self._lock:
            deliveries, size = self._deliveries + deliveries, self._bytes + size
            if deliveries > self._limits.max_deliveries or size > self._limits.max_bytes:
                raise _full()
            self._deliveries, self._bytes = deliveries, size

    def give_back(self, *, deliveries: int, size: int) -> None:
        """Count fewer of them."""
        with self._lock:
            self._deliveries -= deliveries
            self._bytes -= size


class Place:
    """The place of one delivery."""

    def __init__(self, admission: Admission) -> None:
        """Take the admission that counts it."""
        self._admission = admission
        self._bytes = 0

    def reserve(self, size: int) -> None:
        """Count bytes of the delivery's body.

        Raises:
            Refused: 503, there is no room for them.
        """
        self._admission.take(size=size)
        self._bytes += size

    def leave(self) -> None:
        """Give the place up; once."""
        self._admission.give_back(deliveries=1, size=self._bytes)


class Rate:
    """A bucket that holds a minute's worth and is refilled evenly; for the event loop's thread alone."""

    def __init__(self, per_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Take how many there may be, and the clock."""
        self._per_minute = per_minute
        self._monotonic = monotonic
        self._left = float(per_minute)
        self._at = monotonic()

    def take(self) -> None:
        """Take one.

        Raises:
            Refused: 429, there is none left; says when there will be.
        """
        now = self._monotonic()
        self._left = min(self._per_minute, self._left + (now - self._at) * self._per_minute / 60)
        self._at = now
        if self._left < 1:
            wait_s = int((1 - self._left) * 60 / self._per_minute) + 1
            raise Refused(
                429, "too_many_messages", "the job takes no more for now", headers={"Retry-After": str(wait_s)}
            )
        self._left -= 1


def _full() -> Refused:
    return Refused(503, "receiver_full", "too much is under way; send it again later", headers={"Connection": "close"})
