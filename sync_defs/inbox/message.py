"""What goes into the inbox, what is claimed from it and what it tells: values only, no database."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class MessageState(StrEnum):
    """Where an item's message stands."""

    PENDING = "pending"
    """Due now or later."""
    CLAIMED = "claimed"
    """A worker holds it under a lease."""
    DONE = "done"
    """Applied: the queue holds nothing for the item."""
    DEAD = "dead"
    """Kept until a person retries or discards it."""


class EnqueueStatus(StrEnum):
    """What became of a message on arrival; stored in every case."""

    QUEUED = "queued"
    """At least one of its items waits to be applied, or a newer state of it does already."""
    DUPLICATE = "duplicate"
    """Its id was received before, within the time that ids are remembered; nothing changed."""
    QUARANTINED = "quarantined"
    """It is of no use as it is, and kept as a dead letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageItem:
    """One item of a message; one with a `code` is unusable and becomes a dead letter."""

    external_id: str | None
    payload: bytes = field(repr=False)
    """What `read_item` makes one record or `Deletion` of."""
    version: str | None = None
    """The source's order of the item's states, as `version_text` writes it."""
    code: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One webhook message, verified and taken apart; make one with `read_message`."""

    job: str
    message_id: str
    items: tuple[MessageItem, ...]
    source: str | None = None
    """Whose message ids these are; default: the job's."""

    def item_key(self, index: int) -> bytes:
        """Return the key of an item's queue row."""
        external_id = self.items[index].external_id
        if external_id is not None:
            return item_key(external_id)
        # The NUL keeps these apart from every external id, which cannot hold one.
        suffix = f"\0{index}" if len(self.items) > 1 else ""
        return hashlib.sha256(f"message:\0{self.message_id}{suffix}".encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueResult:
    """The account of one accepted message."""

    status: EnqueueStatus
    queued: int = 0
    """Items that now wait to be applied."""
    superseded: int = 0
    """Items left out because the queue holds a newer version."""
    dead: int = 0
    """Items kept as dead letters."""
    code: str | None = None
    """Why the first dead item is unusable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A queue row under a lease: what `acknowledge` and its siblings are given."""

    job: str
    item_key: bytes
    external_id: str | None
    generation: int
    """Which message of the item this is; a newer one has a higher number."""
    payload: bytes = field(repr=False)
    version: str | None
    token: str = field(repr=False)
    """Proof of the lease, shared by the rows of one claim."""
    attempts: int
    """Attempts that failed before."""
    deaths: int
    """Workers that died over it."""
    message_id: str | None
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedMessage:
    """A queue row as a person sees it."""

    job: str
    external_id: str | None
    """None for a dead letter without a usable id; name it by `message_id`."""
    message_id: str | None
    state: MessageState
    due_at: datetime | None
    """When it is tried next, or its lease ends; None when dead."""
    attempts: int
    deaths: int
    code: str | None
    error: str | None
    received_at: datetime
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many queue rows stand where."""

    ready: int = 0
    """Due now, those of a run-out lease included."""
    leased: int = 0
    later: int = 0
    """Waiting for their next attempt."""
    dead: int = 0
    oldest_due_age_s: float = 0.0
    """How long the oldest ready row has been due, in seconds."""


def item_key(external_id: str) -> bytes:
    """Return the key of an item's queue row: collations of some databases merge ids that differ, bytes stay apart."""
    return hashlib.sha256(external_id.encode()).digest()


def message_key(message_id: str) -> bytes:
    """Return the key under which a message id is remembered."""
    return hashlib.sha256(message_id.encode()).digest()
