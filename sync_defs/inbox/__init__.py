"""The inbox of webhook messages: accept, claim, acknowledge, retry, dead letters.

May import `store`, `engine` and the nouns; never the receiver or Dagster.

In reading order: `message` (the values), `strict_json` (one meaning of a body), `version` (which state is newer),
`envelope` (body to items and back), `accept` (the transaction of a message), `claims` (leases and attempts),
`ledger` (what a person sees), `due` (which jobs have something to do), `inbox` (the class that ties them together),
`operators` (what a person does), `drain` (applies what is due), `attendance` (whether a drain is at work), `places`
(where a job stands in the code), `worker` (a process that applies at once), `inline` (who keeps that process), `guests`
(jobs that a run applies beside its own).
"""

from sync_defs.inbox.drain import DrainOptions, DrainResults, drain
from sync_defs.inbox.envelope import read_item, read_message
from sync_defs.inbox.inbox import Inbox
from sync_defs.inbox.message import (
    Claimed,
    Counts,
    EnqueueResult,
    EnqueueStatus,
    Message,
    MessageItem,
    MessageState,
    QueuedMessage,
)

__all__ = [
    "Claimed",
    "Counts",
    "DrainOptions",
    "DrainResults",
    "EnqueueResult",
    "EnqueueStatus",
    "Inbox",
    "Message",
    "MessageItem",
    "MessageState",
    "QueuedMessage",
    "drain",
    "read_item",
    "read_message",
]
