"""A clock that stands still until a test moves it."""

from datetime import UTC, datetime

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)


class Clock:
    """Returns `now`, as often as it is asked."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now
