"""What a person does with dead messages, from the command line and from Dagster alike."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sync_defs.errors import SyncError
from sync_defs.inbox.inbox import Inbox
from sync_defs.inbox.message import QueuedMessage

MOST_SHOWN: Final = 100


class Decision(StrEnum):
    """What becomes of dead messages."""

    RETRY = "retry"
    """Due again, with all their attempts."""
    DISCARD = "discard"
    """Deleted for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What was done to dead messages."""

    count: int
    messages: list[QueuedMessage]
    """The first 100 of them, as they were before."""


def settle_dead(
    inbox: Inbox,
    decision: Decision,
    job: str,
    *,
    external_id: str | None = None,
    message_id: str | None = None,
    require_job: Callable[[str], object],
) -> Settled:
    """Retry or discard the dead messages of one item, of one message, or, with neither, of a whole job.

    Args:
        inbox: where they are.
        decision: what becomes of them.
        job: whose they are; also the name of a job that is gone.
        external_id: the item.
        message_id: the sender's id of the message, for items without a usable id.
        require_job: raises for the name of a job that there is not; asked where a job has no messages.

    Raises:
        SyncError: there is no such dead message (`no_dead_message`).
        UnknownJobError: as `require_job` raises it.
    """
    chosen = {"external_id": external_id, "message_id": message_id}
    messages = inbox.list_messages(job, **chosen, dead_only=True, limit=MOST_SHOWN)
    settle = inbox.retry if decision is Decision.RETRY else inbox.discard
    count = settle(job, external_id, message_id=message_id)
    if not count:
        require_messages(inbox, job, require_job)
        raise SyncError(
            f"{job} has no such dead message; see: sync-defs inbox list {job} --dead", code="no_dead_message"
        )
    return Settled(count=count, messages=messages)


def find_messages(
    inbox: Inbox,
    job: str,
    *,
    external_id: str | None = None,
    message_id: str | None = None,
    require_job: Callable[[str], object],
) -> list[QueuedMessage]:
    """Return the rows of one item or of one message, dead or not, at most 100.

    Raises:
        SyncError: there is none (`no_message`).
        UnknownJobError: as `require_job` raises it.
    """
    found = inbox.list_messages(job, external_id=external_id, message_id=message_id, limit=MOST_SHOWN)
    if not found:
        require_messages(inbox, job, require_job)
        raise SyncError(f"{job} has no such message in its queue; see: sync-defs inbox list {job}", code="no_message")
    return found


def require_messages(inbox: Inbox, job: str, require_job: Callable[[str], object]) -> None:
    """Make sure that a name without messages is at least that of a job."""
    if job not in inbox.depth():
        require_job(job)
