"""The queue as plain dictionaries: what the documents say that becomes of a message, and nothing of how."""

import hashlib
from dataclasses import dataclass, field

LEASE_S = 60
MAX_DEATHS = 5
TOGETHER = 20
MAX_ATTEMPTS = 25
KEEP_IDS_S = 14 * 86_400


@dataclass(frozen=True, slots=True)
class Sent:
    """A message about one item; a bad one is refused whenever it is applied."""

    message_id: str
    sku: str
    revision: int
    is_bad: bool


@dataclass(slots=True)
class Waiting:
    """What waits for an item."""

    message: Sent
    due_at: int | None
    """None: it is dead."""
    holder: int | None = None
    """The number of the worker that holds it, or held it until `due_at`."""
    attempts: int = 0
    deaths: int = 0


@dataclass(slots=True)
class Sync:
    """A full sync between its fetch and its upsert."""

    number: int
    snapshot: dict[str, int]
    outranked: set[str] = field(default_factory=set)
    """Items that a message has written or confirmed since."""


@dataclass(slots=True)
class Model:
    """All that there is, and what each event makes of it."""

    now: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    queue: dict[str, Waiting] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    source: dict[str, int] = field(default_factory=dict)
    workers: dict[int, list[Sent]] = field(default_factory=dict)
    """What each worker took."""
    syncs: dict[int, Sync] = field(default_factory=dict)
    holder: int | None = None
    """The full sync that has the lease."""
    held_until: int = 0

    def deliver(self, sent: Sent) -> str:
        """Accept a message; return what it is answered."""
        if sent.message_id in self.seen:
            return "duplicate"
        self.seen[sent.message_id] = self.now
        waiting = self.queue.get(sent.sku)
        if waiting is None:
            self.queue[sent.sku] = Waiting(sent, self.now)
        elif sent.revision >= waiting.message.revision:
            waiting.message, waiting.attempts = sent, 0
            if waiting.holder is None:
                waiting.due_at = self.now if waiting.due_at is None else min(waiting.due_at, self.now)
                waiting.deaths = 0
        return "queued"

    def claim(self, worker: int, limit: int) -> list[Sent]:
        """Lease what is due to a worker, the longest due first; return it."""
        while due := self._due()[:limit]:
            alive: list[tuple[Waiting, int]] = []
            for waiting in due:
                deaths = waiting.deaths + (waiting.holder is not None)
                if deaths >= MAX_DEATHS:
                    waiting.deaths, waiting.due_at, waiting.holder = deaths, None, None
                else:
                    alive.append((waiting, deaths))
            if alive:
                level = alive[0][1]
                alike = [waiting for waiting, deaths in alive if deaths == level]
                taken = alike if level == 0 else alike[: TOGETHER if level == 1 else 1]
                for waiting in taken:
                    waiting.deaths, waiting.holder, waiting.due_at = level, worker, self.now + LEASE_S
                self.workers[worker] = [waiting.message for waiting in taken]
                return self.workers[worker]
        return []

    def _due(self) -> list[Waiting]:
        found = [
            waiting for waiting in self.queue.values() if waiting.due_at is not None and waiting.due_at <= self.now
        ]
        return sorted(found, key=lambda it: (it.due_at, hashlib.sha256(it.message.sku.encode()).digest()))

    def renew(self, worker: int) -> int:
        """Prolong a worker's leases; return how many it still has."""
        found = [held for held in self.workers[worker] if self._is_held(held, worker)]
        for held in found:
            self.queue[held.sku].due_at = self.now + LEASE_S
        return len(found)

    def apply(self, worker: int) -> tuple[int, int]:
        """Apply what a worker took and still has; return how much was acknowledged, and how much refused."""
        applied = refused = 0
        for held in self.workers.pop(worker):
            if not self._is_held(held, worker):
                continue
            waiting = self.queue[held.sku]
            if waiting.message is not held:
                waiting.holder, waiting.due_at = None, self.now
            elif held.is_bad:
                self._refuse(waiting)
                refused += 1
            else:
                self._write(held)
                del self.queue[held.sku]
                applied += 1
        return applied, refused

    def _is_held(self, held: Sent, worker: int) -> bool:
        waiting = self.queue.get(held.sku)
        return waiting is not None and waiting.holder == worker

    def _refuse(self, waiting: Waiting) -> None:
        waiting.holder = None
        waiting.attempts += 1
        half_of_it = min(6 * 3_600, 2**waiting.attempts) // 2  # the other half is up to chance, which is 0 here
        waiting.due_at = None if waiting.attempts >= MAX_ATTEMPTS else self.now + half_of_it

    def _write(self, sent: Sent) -> None:
        if sent.revision >= self.rows.get(sent.sku, 0):
            self.rows[sent.sku] = sent.revision
            for sync in self.syncs.values():
                sync.outranked.add(sent.sku)

    def retry(self) -> int:
        """Make all that is dead due again; return how much."""
        dead = [waiting for waiting in self.queue.values() if waiting.due_at is None]
        for waiting in dead:
            waiting.due_at, waiting.attempts, waiting.deaths = self.now, 0, 0
        return len(dead)

    def sweep(self) -> int:
        """Forget ids older than 14 days; return how many."""
        old = [message_id for message_id, at in self.seen.items() if at < self.now - KEEP_IDS_S]
        for message_id in old:
            del self.seen[message_id]
        return len(old)

    def begin_sync(self, number: int) -> bool:
        """Take the lease and fetch all that the source has; return False where another one has it."""
        if self.holder is not None and self.held_until > self.now:
            return False
        self.holder, self.held_until = number, self.now + LEASE_S
        self.syncs[number] = Sync(number, dict(self.source))
        return True

    def end_sync(self, number: int) -> bool:
        """Write what was fetched, unless a message has been newer; return False where the lease is lost."""
        sync = self.syncs.pop(number)
        if self.holder != number:
            return False
        for sku, revision in sync.snapshot.items():
            if sku not in sync.outranked and revision >= self.rows.get(sku, 0):
                self.rows[sku] = revision
        self.holder = None
        return True
