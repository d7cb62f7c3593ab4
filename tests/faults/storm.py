"""A storm: messages pour in while receivers, drains and full syncs are killed at random.

Everything that is chosen follows from the seed: the messages and their order, who is killed, and at which point. The
threads of the machine are not: a replay meets the same plan, not the same instant.
"""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

from sqlalchemy.exc import DBAPIError

from sync_defs.inbox import Inbox
from sync_defs.store.database import Database
from sync_defs.store.store import SqlStore
from tests.faults import roles
from tests.faults.judge import Ledger, faults_found, lasting_leases
from tests.faults.messages import Message, Post, free_port, planned
from tests.faults.points import Points, unarmed
from tests.faults.shop import JOBS, FastClock, Source
from tests.faults.zygote import Child, Zygote

SENDERS: Final = 4
FACTOR: Final = 30.0
"""The clock of a storm runs so much faster than the world: a lease lasts for two seconds."""
POINTS: Final = {
    "receive": ("accept.statement", "accept.commit", "accept.committed", "answer", "answered"),
    "drain": (
        *("claim.statement", "claim.commit", "claim.committed", "apply.statement", "lock.statement", "release.commit"),
        *("acknowledge.statement", "apply.commit", "apply.committed", "drain.statement", "renew.commit"),
    ),
    "inline": ("claim.commit", "claim.committed", "apply.statement", "apply.commit", "apply.committed"),
    "sync": (
        *("lease.commit", "lease.committed", "begin.statement", "begin.committed", "stage.commit", "diff.statement"),
        *("renew.commit", "write.statement", "write.commit", "write.committed", "end.statement", "end.committed"),
    ),
}
CAST: Final = ("receive", "receive", "drain", "inline", "sync")
WEIGHTS: Final = {"receive": 1, "drain": 3, "inline": 3, "sync": 2}
"""How often each is chosen to be killed from outside; receivers come to their points more often."""
LIVES: Final = {"receive": 100, "drain": 12, "inline": 8, "sync": 12}
"""How often a point may be reached before it kills."""
_LOOK_S: Final = 0.01
_CHECK_S: Final = 0.5


@dataclass(slots=True)
class Part:
    """A part in the cast: played by one process after the other."""

    role: str
    arguments: dict[str, Any]
    child: Child | None = None


@dataclass(slots=True)
class Storm:
    """One storm over an open shop."""

    url: str
    folder: Path
    zygote: Zygote
    seed: int
    kills: int
    """How many processes are to be killed, and have been once it is over."""
    messages: int
    """How many messages are sent; all of them are acknowledged in the end."""
    blows: Iterator[Callable[[], None]] = field(default_factory=lambda: iter(()))
    """What befalls all at once, spread over the storm: the next one whenever a tenth of the messages is through."""
    killed: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    dead: int = 0
    """Items over which five processes were killed, which a person then retried."""
    found: list[str] = field(default_factory=list)
    """What was wrong."""
    ledger: Ledger = field(default_factory=Ledger)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _acknowledged: set[str] = field(default_factory=set)
    _made: int = 0
    _is_over: bool = False

    def rage(self) -> None:
        """Send all messages and kill as many processes; then look at what is left, a minute later."""
        random = Random(self.seed)
        clock = FastClock(time.time(), FACTOR)
        plan = list(planned(self.seed, self.messages, items=max(self.messages // 8, 20)))
        made = list(dict.fromkeys(message for _, message in plan))
        deliveries = iter([message for _, message in sorted(plan, key=lambda placed: placed[0])])
        source = Source(self.folder / "source.json")
        source.write(self.ledger.newest)
        self.zygote.warm_up(self.url, str(source.path))
        ports = [free_port() for part in CAST if part == "receive"]
        given = {"url": self.url, "source": str(source.path), "clock": asdict(clock)}
        parts = [Part(role, given) for role in CAST if role != "receive"]
        parts += [Part("receive", given | {"port": port}) for port in ports]
        senders = [
            threading.Thread(target=self._send_all, args=(deliveries, made, source, ports, random.random()))
            for _ in range(SENDERS)
        ]
        try:
            with Database(self.url, clock=clock) as database:
                for sender in senders:
                    sender.start()
                self._direct(parts, senders, random, database)
        finally:
            self._is_over = True
            for part in parts:
                if part.child is not None:
                    part.child.signal(signal.SIGKILL)
                    part.child.wait()
            for sender in senders:
                sender.join()
        source.write(self.ledger.newest)
        ahead_s = (clock() - datetime.now(UTC)).total_seconds() + 60.0
        ahead = FastClock(time.time(), 1.0, ahead_s)
        with Database(self.url, clock=ahead) as database:
            self._settle(database, source)

    def _direct(self, parts: list[Part], senders: list[threading.Thread], random: Random, database: Database) -> None:
        """Have each part played, and kill who plays it, until all is sent and enough are killed."""
        checked_at, tenths = time.monotonic(), 0
        while any(sender.is_alive() for sender in senders) or self.killed.total() < self.kills:
            for part in parts:
                if part.child is not None and not part.child.is_alive:
                    self._has_ended(part.role, part.child.wait())
                    part.child = None
                if part.child is None:
                    part.child = self._start(part, random)
            if self.killed.total() < self._due_kills:
                victim = random.choices(parts, [WEIGHTS[part.role] for part in parts])[0]
                assert victim.child is not None
                victim.child.signal(signal.SIGKILL)
                self._has_ended(victim.role, victim.child.wait())
                victim.child = None
            if len(self._acknowledged) * 10 // self.messages > tenths:
                tenths += 1
                next(self.blows, lambda: None)()
            if time.monotonic() - checked_at > _CHECK_S:
                checked_at = time.monotonic()
                with suppress(DBAPIError), database.read() as connection:  # its server may be among the killed
                    self.found += lasting_leases(database, connection)
            time.sleep(_LOOK_S)

    def _start(self, part: Part, random: Random) -> Child:
        kill = None
        if self.killed.total() < self.kills and random.random() < 0.6:
            kill = (random.choice(POINTS[part.role]), random.randint(1, LIVES[part.role]))
        return self.zygote.start(part.role, self.folder / "processes.log", kill=kill, **part.arguments)

    def _has_ended(self, role: str, status: int) -> None:
        self.killed[role] += 1
        if status != -signal.SIGKILL:
            self.found.append(f"{role} ended by itself with {status}; see {self.folder / 'processes.log'}")

    @property
    def _due_kills(self) -> float:
        """Return how many should have been killed by now: as large a part of them as of the messages."""
        return self.kills * (len(self._acknowledged) + 1) / self.messages

    def _send_all(self, deliveries: Any, made: list[Message], source: Source, ports: list[int], seed: float) -> None:
        """Send one message after the other, each until it is answered 202."""
        random = Random(seed)
        posts = [Post(port) for port in ports]
        while not self._is_over:
            with self._lock:
                message = next(deliveries, None)
                if message is not None:
                    self._make(message, made, source)
            if message is None:
                break
            while not self._is_over:
                if self._due_kills > self.killed.total() + 10:
                    time.sleep(_LOOK_S)  # the storm has to keep up
                    continue
                status = random.choice(posts).send(message)
                self.answers[str(status)] += 1
                if status == 202:
                    break
                time.sleep(_LOOK_S)
            else:
                break
            with self._lock:
                self._acknowledged.add(message.message_id)
                message.is_acknowledged(self.ledger)
        for post in posts:
            post.close()

    def _make(self, message: Message, made: list[Message], source: Source) -> None:
        """See to it that the source has what a message tells of; it is some messages ahead."""
        number = int(message.message_id.rpartition("-")[2])
        if number >= self._made:
            for other in made[self._made : number + 20]:
                other.is_made(self.ledger)
            self._made = min(number + 20, len(made))
            source.write(self.ledger.newest)

    def _settle(self, database: Database, source: Source) -> None:
        """Drain and sync a minute after the last kill; a person retries what five processes were killed over."""
        inbox = Inbox(database)
        stage = roles.Stage(database=database, store=SqlStore(database), source=source, points=Points(unarmed))
        roles.drain_due(stage, run_id="settle-1")
        for job in JOBS:
            buried = {dead.code for dead in inbox.list_messages(job, dead_only=True, limit=10_000)}
            if buried - {"worker_died"}:
                self.found.append(f"dead messages of {job}: {buried}")
            self.dead += inbox.retry(job)
        roles.drain_due(stage, run_id="settle-2")
        for job in JOBS.values():
            roles.sync(job, stage)
        self.found += faults_found(database, self.ledger)
        missing = self.messages - len(self._acknowledged)
        if missing:
            self.found.append(f"{missing} messages were never acknowledged")
