"""Draining: claim what is due for one job, apply it, and settle it in the transaction of the data.

Each accepted change is applied once or not at all: the rows, their history and the end of the queue rows commit
together, under locks taken at the start of that transaction. A drain that is killed anywhere leaves leases that run
out; nothing is applied twice, because what was applied is no longer in the queue. A heartbeat holds the leases from the
claim on, while the source is asked and the job's write lock is waited for; a locked row cannot be taken over.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sync_defs.engine.items import sync_items
from sync_defs.engine.ports import Store
from sync_defs.engine.refetch import Refetched, refetch
from sync_defs.errors import ConfigurationError, LeaseLostError, MessageError
from sync_defs.inbox.claims import TOGETHER
from sync_defs.inbox.envelope import read_item
from sync_defs.inbox.inbox import Inbox
from sync_defs.inbox.message import Claimed
from sync_defs.job import Job
from sync_defs.results import Action, ItemError, ItemResult, Trigger
from sync_defs.store.trouble import passes

logger = logging.getLogger("sync_defs.inbox")

MAX_ERRORS: Final = 1_000
# What no later attempt can change; anything else may be cured by another row, a person or a deployment.
_HOPELESS = frozenset(
    {
        "bad_external_id",
        "bad_external_id_type",
        "external_id_missing",
        "external_id_too_long",
        "nul_character",
        "number_too_long",
        "version_in_future",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainOptions:
    """How a drain paces itself."""

    batch: int = 500
    """Items of one transaction, at most 1,000."""
    linger_s: float = 30.0
    """How long it waits for more once nothing is due; 0 returns at once."""
    poll_s: float = 0.05
    """How often it looks while it waits, by one look-up in an index."""
    max_s: float = 900.0
    """When it returns though more is due, so that a run under constant load ends some time."""
    sleep: Callable[[float], None] = time.sleep
    should_stop: Callable[[], bool] = lambda: False
    """Asked between transactions; True ends the drain."""
    report_after_s: float = 0.0
    """How long the caller has for telling an orchestrator himself; from then on the inbox sensor does."""
    watch: Callable[[bool], None] = lambda _: None
    """Told True when the job's own code is about to be called, False when a lock is waited for, or all is done."""


@dataclass(slots=True, kw_only=True)
class DrainResults:
    """The account of one drain, in queue rows."""

    name: str
    """The job."""
    run_id: str
    """Prefix of the ids in `sync_runs`: one for each transaction, `<run_id>.1` and so on."""
    actions: dict[Action, int] = field(default_factory=dict[Action, int])
    """What was done to the items that were still held, `rejected` included."""
    retried: int = 0
    """Rejected, and due again later."""
    dead: int = 0
    """Rejected or unreadable for good, kept as dead letters."""
    handed_on: int = 0
    """Left out: a newer message had come in, or the lease was lost."""
    transactions: int = 0
    errors: list[ItemError] = field(default_factory=list[ItemError])
    """The first 1,000."""
    items: list[ItemResult] = field(default_factory=list[ItemResult])
    """What was done to the first 1,000 items that were still held."""
    trigger: Trigger = Trigger.WEBHOOK
    started_at: datetime
    completed_at: datetime

    @property
    def run_ids(self) -> list[str]:
        """Return the ids in `sync_runs`."""
        return [f"{self.run_id}.{number}" for number in range(1, self.transactions + 1)]

    @property
    def applied(self) -> int:
        """Return how many items were acknowledged."""
        return sum(count for action, count in self.actions.items() if action is not Action.REJECTED)

    @property
    def rejected(self) -> int:
        """Return how many were not, those included that could not even be read."""
        return max(self.actions.get(Action.REJECTED, 0), self.retried + self.dead)


def drain(
    job: Job,
    store: Store,
    inbox: Inbox,
    *,
    run_id: str,
    options: DrainOptions | None = None,
    resources: Mapping[str, object] | None = None,
) -> DrainResults:
    """Apply what is due for a job until nothing has been due for a while, and return the account.

    Several drains of a job may run at once; they share the work. What fails is retried later with backoff or ends as
    a dead letter; one bad item holds back no other. Of a job with `refetch`, the source is asked for the items of each
    batch, by what `resources` holds; if it is away, all that is due waits for a while.

    Raises:
        ConfigurationError: the job or its target is wrong; the claimed items are given back.
        DBAPIError: the database went away. What passes by itself, such as a deadlock, has a batch tried once more;
            any other trouble of the database counts as an attempt of the one item that it comes with.
    """
    options = options or DrainOptions()
    now = inbox.database.now
    started_at = idle_since = now()
    worker = _begin(job, store, inbox, run_id=run_id, options=options, resources=resources)
    while not options.should_stop() and (now() - started_at).total_seconds() < options.max_s:
        if inbox.has_due(job.name) and worker.drain_batch():
            idle_since = now()
        elif (now() - idle_since).total_seconds() >= options.linger_s:
            break
        else:
            options.sleep(options.poll_s)
    return worker.end()


def drain_batch(job: Job, store: Store, inbox: Inbox, *, run_id: str, options: DrainOptions) -> DrainResults:
    """Apply one batch of what is due for a job, which needs no resources, and return the account.

    For who has just seen that something is due: it looks no further. Errors are those of `drain`.
    """
    worker = _begin(job, store, inbox, run_id=run_id, options=options)
    worker.drain_batch()
    return worker.end()


def _begin(
    job: Job,
    store: Store,
    inbox: Inbox,
    *,
    run_id: str,
    options: DrainOptions,
    resources: Mapping[str, object] | None = None,
) -> "_Drain":
    now = inbox.database.now()
    results = DrainResults(name=job.name, run_id=run_id, started_at=now, completed_at=now)
    return _Drain(job=job, store=store, inbox=inbox, results=results, options=options, resources=resources or {})


@dataclass(slots=True, kw_only=True)
class _Drain:
    job: Job
    store: Store
    inbox: Inbox
    results: DrainResults
    resources: Mapping[str, object]
    options: DrainOptions
    is_wary: bool = False
    """The last claim held items over which a worker has died: of those no more are claimed at once than `TOGETHER`."""

    def end(self) -> DrainResults:
        """Return the account."""
        self.results.completed_at = self.inbox.database.now()
        return self.results

    def drain_batch(self) -> bool:
        """Claim and settle one batch; return False if there was nothing to claim."""
        batch = self.options.batch
        claims = self.inbox.claim(self.job.name, min(batch, TOGETHER) if self.is_wary else batch)
        self.is_wary = any(claimed.deaths for claimed in claims)
        try:
            with self.inbox.holding(claims):
                self._settle_all(claims)
        except Exception:
            with suppress(DBAPIError):  # what is settled, or given back already, stays so
                self.inbox.release(claims)
            raise
        finally:
            self.options.watch(False)
        return bool(claims)

    def _settle_all(self, claims: Sequence[Claimed]) -> None:
        self.options.watch(True)
        readable = [(claimed, item) for claimed in claims for item in self._read(claimed)]
        if readable and self.job.refetch:
            readable = self._refetch(readable)
        if readable:
            self._apply(readable)

    def _read(self, claimed: Claimed) -> list[object]:
        try:
            return [read_item(self.job, claimed.payload)]
        except MessageError as error:
            # One that had an id was readable on arrival: its bytes, or the job, have changed since.
            code = "bad_payload" if claimed.external_id is not None else error.code
            self.options.watch(False)
            with self.inbox.database.write() as connection:
                is_held = self.inbox.dead_letter(connection, claimed, code=code, error=error.message)
            self.options.watch(True)
            self._count_failure(claimed, code, error.message, is_held=is_held, is_dead=True)
            return []

    def _refetch(self, hinted: Sequence[tuple[Claimed, object]]) -> list[tuple[Claimed, object]]:
        """Return what the source has now of the claimed items; settle those that there is nothing to apply of."""
        claims = [claimed for claimed, _ in hinted]
        found = refetch(self.job, self.store, [hint for _, hint in hinted], resources=self.resources)
        if found.refused:
            self._settle_refused(claims, found)
        if found.rest_s is not None:
            self.inbox.postpone(self.job.name, found.rest_s)
        return [(claims[place], item) for place, item in found.items.items()]

    def _settle_refused(self, claims: Sequence[Claimed], found: Refetched) -> None:
        refused = [claims[place] for place in found.refused]
        results = list(found.refused.values())
        with self.inbox.database.write() as connection:
            held = self.inbox.lock(connection, refused)
            for index in sorted(held):
                self._settle(connection, refused[index], results[index], wait_s=found.rest_s or 0.0)
        self._count(refused, results, held)

    def _apply(self, readable: Sequence[tuple[Claimed, object]], *, is_repeated: bool = False) -> None:
        claims = [claimed for claimed, _ in readable]
        try:
            self._sync(readable)
        except ConfigurationError:
            raise
        except LeaseLostError:
            self.inbox.release(claims)
        except Exception as error:
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise
            if passes(error) and not is_repeated:
                self._log_failure(error, len(readable), "all of them are tried again")
                self._apply(readable, is_repeated=True)
            elif len(readable) > 1:
                # One item that breaks the engine must not hold back the others.
                self._log_failure(error, len(readable), "each is tried by itself")
                self._apply_one_by_one(readable)
            else:
                self._give_up(claims[0], f"the apply failed with {type(error).__name__}")

    def _log_failure(self, error: Exception, count: int, then: str) -> None:
        cause = error.orig if isinstance(error, DBAPIError) else error
        kind = type(cause).__name__  # its text may hold values
        logger.warning("job %r: applying %d items failed with %s; %s", self.job.name, count, kind, then)

    def _apply_one_by_one(self, readable: Sequence[tuple[Claimed, object]]) -> None:
        for claimed, item in readable:
            if self.inbox.renew([claimed]):
                self._apply([(claimed, item)], is_repeated=True)
            else:
                self.results.handed_on += 1

    def _give_up(self, claimed: Claimed, reason: str) -> None:
        self.options.watch(False)
        with self.inbox.database.write() as connection:
            is_held = self.inbox.retry_later(connection, claimed, code="apply_failed", error=reason)
        self._count_failure(claimed, "apply_failed", reason, is_held=is_held, is_dead=False)

    def _sync(self, readable: Sequence[tuple[Claimed, object]]) -> None:
        self.options.watch(True)
        claims = [claimed for claimed, _ in readable]
        held: set[int] = set()

        def keep(connection: Connection) -> set[int]:
            held.update(self.inbox.lock(connection, claims))
            self.options.watch(True)
            return held

        def settle(connection: Connection, results: Sequence[ItemResult]) -> None:
            for index in sorted(held):
                self._settle(connection, claims[index], results[index])

        results = sync_items(
            self.job,
            self.store,
            [item for _, item in readable],
            trigger=Trigger.WEBHOOK,
            run_id=f"{self.results.run_id}.{self.results.transactions + 1}",
            report_after_s=self.options.report_after_s,
            on_staged=lambda: self.options.watch(False),
            keep=keep,
            settle=settle,
        )
        self.results.transactions += 1
        self._count(claims, results, held)

    def _settle(self, connection: Connection, claimed: Claimed, result: ItemResult, *, wait_s: float = 0.0) -> None:
        if result.action is not Action.REJECTED:
            is_held = self.inbox.acknowledge(connection, claimed)
        elif result.code in _HOPELESS:
            is_held = self.inbox.dead_letter(connection, claimed, **_reason(result))
        else:
            is_held = self.inbox.retry_later(connection, claimed, **_reason(result), wait_s=wait_s)
        if not is_held:
            raise LeaseLostError(f"job {claimed.job!r}: a queue row changed under its lock")

    def _count(self, claims: Sequence[Claimed], results: Sequence[ItemResult], held: set[int]) -> None:
        self.results.handed_on += len(claims) - len(held)
        for index in sorted(held):
            result = results[index]
            if len(self.results.items) < MAX_ERRORS:
                self.results.items.append(result)
            self.results.actions[result.action] = self.results.actions.get(result.action, 0) + 1
            if result.action is Action.REJECTED:
                reason = _reason(result)
                is_dead = reason["code"] in _HOPELESS
                self._count_failure(claims[index], reason["code"], reason["error"], is_held=True, is_dead=is_dead)

    def _count_failure(self, claimed: Claimed, code: str, reason: str, *, is_held: bool, is_dead: bool) -> None:
        if not is_held:
            self.results.handed_on += 1
            return
        if is_dead or self.inbox.is_last_attempt(claimed):
            self.results.dead += 1
        else:
            self.results.retried += 1
        if len(self.results.errors) < MAX_ERRORS:
            now = self.inbox.database.now()
            error = ItemError(external_id=claimed.external_id, message=reason, timestamp=now, code=code)
            self.results.errors.append(error)


def _reason(result: ItemResult) -> dict[str, Any]:
    return {"code": result.code or "bad_item", "error": result.message or "rejected"}
