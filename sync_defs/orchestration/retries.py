"""Which failures of an op are tried again, and after what wait.

A broken system is: a source that is away or asks to be left alone, a database with a deadlock or a lost connection, a
job that another run holds. An error of the data has rejected its record long before; an error of the configuration is
told at once.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import DBAPIError

from sync_defs.connectors.http_answer import retry_after_s
from sync_defs.errors import BusyError, DatabaseTroubleError, FetchError, SyncError
from sync_defs.policies import Retries
from sync_defs.store.trouble import trouble

MOST_PATIENCE_S: Final = 3600.0
"""A source that asks for more than an hour is left to the next run."""
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of HTTP that another attempt may cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """Where an op stands with its attempts."""

    policy: Retries
    failed: int
    """Attempts that failed before this one."""
    spread: Callable[[], float] = random.random
    """Returns 0 to 1: what was broken by many at once should not be by all of them again."""

    def wait_s(self, error: BaseException) -> float | None:
        """Return how long to wait before the next attempt, in seconds; None: there is none."""
        error = told(error)
        if self.failed >= self.policy.times or not is_passing(error):
            return None
        asked_s = asked_wait_s(error)
        if asked_s is not None:
            return asked_s if asked_s <= MOST_PATIENCE_S else None
        wait_s = min(self.policy.longest_wait_s, self.policy.first_wait_s * 2**self.failed)
        return wait_s * (1 + self.spread()) / 2

    def will_follow(self, error: BaseException) -> bool:
        """Tell whether there is another attempt."""
        return self.wait_s(error) is not None


def told(error: BaseException) -> BaseException:
    """Return the error that says what a driver's own one means; any other one as it is."""
    return (trouble(error) or error) if isinstance(error, DBAPIError) else error


def is_passing(error: BaseException) -> bool:
    """Tell whether what failed may be well again by itself."""
    if isinstance(error, FetchError):
        return error.is_passing
    if isinstance(error, SyncError):
        return isinstance(error, BusyError | DatabaseTroubleError) or getattr(error, "is_passing", False)
    status = _status(error)
    if status is not None:
        return status in _PASSING
    return isinstance(error, ConnectionError | TimeoutError) or _is_of_the_network(error)


def asked_wait_s(error: BaseException) -> float | None:
    """Return how long the source has asked to be left alone, in seconds; None: it has not."""
    if isinstance(error, FetchError):
        return error.retry_after_s
    headers: Any = getattr(getattr(error, "response", None), "headers", None)
    return retry_after_s(headers.get("retry-after")) if hasattr(headers, "get") else None


def _status(error: BaseException) -> int | None:
    """Return the status of the answer that httpx, requests and their kind have with an error."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_of_the_network(error: BaseException) -> bool:
    """Tell it by names: a fetch may use any HTTP library, and none of them has to be there."""
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return not names.isdisjoint(_NETWORK)


_NETWORK: Final = frozenset(
    {
        "aiohttp.ClientConnectionError",
        "httpx.TransportError",
        "requests.ConnectionError",
        "requests.Timeout",
        "socket.gaierror",
        "urllib3.HTTPError",
    }
)
