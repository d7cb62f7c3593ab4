"""Who keeps the shop: sends messages as its source does, and looks after it once a fault is over."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sync_defs.inbox import Inbox, read_message
from sync_defs.store.database import Database
from sync_defs.store.store import SqlStore
from tests.faults import roles
from tests.faults.judge import Ledger, faults_found
from tests.faults.messages import Message
from tests.faults.points import Points, unarmed
from tests.faults.shop import JOBS, FastClock, Source

A_MINUTE_S = 61
"""Longer than any lease."""


@dataclass(slots=True)
class Keeper:
    """Looks after one open shop; each look is a minute after the one before."""

    database: Database
    folder: Path
    store: SqlStore = field(init=False)
    source: Source = field(init=False)
    ledger: Ledger = field(default_factory=Ledger)
    minutes: int = 0
    unsettled: list[Message] = field(default_factory=list)
    """What was made since the last settlement, answered or not."""
    answered: set[str] = field(default_factory=set)
    """The ids of messages that were answered 202."""

    def __post_init__(self) -> None:
        self.store = SqlStore(self.database)
        self.source = Source(self.folder / "source.json")
        self.source.write(self.ledger.newest)
        self.database.clock = self.now

    @property
    def url(self) -> str:
        """Return where the shop is."""
        return self.database.engine.url.render_as_string(hide_password=False)

    @property
    def clock(self) -> FastClock:
        """Return the clock of this minute, for another process too."""
        return FastClock(time.time(), 1.0, self.minutes * A_MINUTE_S)

    def now(self) -> Any:
        """Return the time."""
        return self.clock()

    @property
    def given(self) -> dict[str, Any]:
        """Return what a role is given to play here and now."""
        return {"url": self.url, "source": str(self.source.path), "clock": asdict(self.clock)}

    def make(self, job: str, message_id: str, *items: tuple[str, int]) -> Message:
        """Make a message of revisions that the source has from now on."""
        message = Message(job, message_id, items)
        message.is_made(self.ledger)
        self.unsettled.append(message)
        self.source.write(self.ledger.newest)
        return message

    def accept(self, message: Message, database: Database | None = None) -> None:
        """Accept a message through a database, by default the keeper's own."""
        accept(message, database or self.database)
        self.note_answer(message)

    def note_answer(self, message: Message) -> None:
        """Note that a message was answered 202."""
        message.is_acknowledged(self.ledger)
        self.answered.add(message.message_id)

    def stage(self, database: Database | None = None) -> roles.Stage:
        """Return what a role plays on in this process."""
        store = self.store if database is None else SqlStore(database)
        points = Points(unarmed)
        return roles.Stage(database=database or self.database, store=store, source=self.source, points=points)

    def settle(self) -> list[str]:
        """A minute later: send again what had no answer, drain, sync; return what is wrong.

        What had one is sent again too, at the end: were it not a duplicate then, it would have been lost before.
        """
        self.minutes += 1
        self.source.write(self.ledger.newest)
        answered = [message for message in self.unsettled if message.message_id in self.answered]
        for message in self.unsettled:
            if message not in answered:
                self.accept(message)
        roles.drain_due(self.stage(), run_id=f"settlement-{self.minutes}")
        for name in sorted({message.job for message in self.unsettled}):
            roles.sync(JOBS[name], self.stage())
        self.unsettled.clear()
        found = faults_found(self.database, self.ledger)
        statuses = {message.message_id: accept(message, self.database) for message in answered}
        return found + [f"{name} was forgotten" for name, status in statuses.items() if status != "duplicate"]


def accept(message: Message, database: Database) -> str:
    """Accept a message as the receiver does, without a request; return what it would be answered."""
    job = JOBS[message.job]
    read = read_message(job, message_id=message.message_id, body=message.body, now=database.now())
    return Inbox(database).enqueue(read).status


@contextmanager
def keeping(url: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """Keep a shop during the block, and note in it what this process applies."""
    acknowledge: Callable[..., bool] = Inbox.acknowledge
    patch.setattr(Inbox, "acknowledge", acknowledge)  # put back, what is bound next
    roles.note_what_is_applied()
    with Database(url) as database:
        yield Keeper(database, folder)
