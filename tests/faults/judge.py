"""What must hold after any fault, read from the tables alone."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from sync_defs.inbox import Inbox
from sync_defs.inbox.claims import LEASE_S
from sync_defs.inbox.message import item_key
from sync_defs.store.database import Database
from sync_defs.store.runs import LEASE_S as SYNC_LEASE_S
from sync_defs.store.schema import changes, leases, queue, runs
from tests.faults.shop import APPLIED, FOUNDERS, TARGETS, content_of

Item = tuple[str, str]
"""The name of a job, and the id of an item."""


@dataclass(slots=True)
class Ledger:
    """What the source made, and what its messages were answered."""

    made: dict[Item, set[int]] = field(default_factory=lambda: {item: {1} for item in FOUNDERS.items()})
    """The revisions that ever were."""
    acknowledged: dict[Item, int] = field(default_factory=dict)
    """The highest revision of a message that was answered 202."""
    messages: Counter[Item] = field(default_factory=Counter)
    """How many messages with an id of their own told of an item."""

    def make(self, job: str, sku: str, revision: int) -> None:
        """Note a revision at the source."""
        self.made.setdefault((job, sku), set()).add(revision)

    def acknowledge(self, job: str, sku: str, revision: int) -> None:
        """Note that a message of a revision was answered 202."""
        self.acknowledged[job, sku] = max(revision, self.acknowledged.get((job, sku), 0))

    @property
    def newest(self) -> dict[str, dict[str, int]]:
        """Return what the source has now."""
        items: dict[str, dict[str, int]] = {job: {} for job in TARGETS}
        for (job, sku), revisions in self.made.items():
            items[job][sku] = max(revisions)
        return items


def faults_found(database: Database, ledger: Ledger) -> list[str]:
    """Return what is wrong once all is at rest; an empty list, if nothing is."""
    with database.read() as connection:
        rows = {
            (job, row.sku): (row.revision, row.content)
            for job, target in TARGETS.items()
            for row in connection.execute(sa.select(target))
        }
        return [
            *_lost(rows, ledger),
            *_never_sent(rows, ledger),
            *_applied_twice(connection),
            *_went_back(connection),
            *_more_effects_than_messages(connection, ledger),
            *_miscounted(connection),
            *_runs_without_end(connection),
            *lasting_leases(database, connection),
            *_integrity(connection),
            *_queued(database),
        ]


def lasting_leases(database: Database, connection: sa.Connection) -> list[str]:
    """Return the leases and claims that last for longer than one may; also while there is work."""
    held = sa.select(leases.c.name, leases.c.expires_at).where(leases.c.expires_at.is_not(None))
    claimed = sa.select(queue.c.external_id, queue.c.due_at).where(queue.c.token.is_not(None))
    ends = [*connection.execute(held), *connection.execute(claimed)]
    latest = database.now() + timedelta(seconds=max(LEASE_S, SYNC_LEASE_S))  # not before they were read
    return [f"what holds {name} lasts for longer than a lease may" for name, end in ends if end > latest]


def _lost(rows: dict[Item, tuple[int, str]], ledger: Ledger) -> Iterator[str]:
    for item, revision in ledger.acknowledged.items():
        held = rows.get(item, (0, ""))[0]
        if held < revision:
            yield f"{item} is at {held}, though {revision} was acknowledged"


def _never_sent(rows: dict[Item, tuple[int, str]], ledger: Ledger) -> Iterator[str]:
    for item, (revision, content) in rows.items():
        if revision not in ledger.made.get(item, ()) or content != content_of(item[1], revision):
            yield f"{item} holds revision {revision}, which the source never had like that"


def _applied_twice(connection: sa.Connection) -> Iterator[str]:
    statement = sa.select(APPLIED.c.job, APPLIED.c.message_id, sa.func.count().label("times"))
    grouped = statement.group_by(APPLIED.c.job, APPLIED.c.item_key, APPLIED.c.message_id).having(sa.func.count() > 1)
    for row in connection.execute(grouped):
        yield f"an item of message {row.message_id} of {row.job} was applied {row.times} times"


def _went_back(connection: sa.Connection) -> Iterator[str]:
    """Yield the items whose history goes to an older revision, or does not end at the row."""
    newest: dict[Item, int] = dict.fromkeys(FOUNDERS.items(), 1)
    statement = sa.select(changes).where(changes.c.action.in_(("created", "updated"))).order_by(changes.c.id)
    for change in connection.execute(statement):
        item = (change.job, change.external_id)
        # Of a row that a callback has made, history does not tell the values.
        revision = int(json.loads(change.new_values).get("revision", 0))
        if (change.action == "created") is (item in newest) or (revision and revision <= newest.get(item, 0)):
            yield f"{item} went from {newest.get(item)} to {revision}"
        newest[item] = revision
    for job, target in TARGETS.items():
        for row in connection.execute(sa.select(target)):
            if newest.get((job, row.sku)) not in (row.revision, 0):
                yield f"{job} {row.sku} is at {row.revision}, its history ends at {newest.get((job, row.sku))}"


def _more_effects_than_messages(connection: sa.Connection, ledger: Ledger) -> Iterator[str]:
    statement = sa.select(changes.c.job, changes.c.external_id, sa.func.count().label("times"))
    by_messages = statement.where(changes.c.is_item, changes.c.action != "unchanged")
    for row in connection.execute(by_messages.group_by(changes.c.job, changes.c.external_id)):
        sent = ledger.messages[row.job, row.external_id]
        if row.times > sent:
            yield f"{row.job} {row.external_id} changed {row.times} times by {sent} messages"
    keys = {item_key(sku): sent for (_, sku), sent in ledger.messages.items()}
    applied = sa.select(APPLIED.c.item_key, sa.func.count().label("times")).group_by(APPLIED.c.item_key)
    for row in connection.execute(applied):
        if row.times > keys[row.item_key]:
            yield f"an item was acknowledged {row.times} times by {keys[row.item_key]} messages"


def _miscounted(connection: sa.Connection) -> Iterator[str]:
    """Yield the runs whose results are not what history and rows say."""
    written: Counter[tuple[str, str]] = Counter()
    for row in connection.execute(
        sa.select(changes.c.run_id, changes.c.action, sa.func.count().label("rows")).group_by(
            changes.c.run_id, changes.c.action
        )
    ):
        written[row.run_id, row.action] = row.rows
    created: Counter[str] = Counter()
    for run in connection.execute(sa.select(runs)):
        if run.results is None or (run.job == "cards" and run.status == "failed"):
            continue  # of a job with callbacks, whole chunks may stand that it did not hear of
        results: dict[str, Any] = json.loads(run.results)
        for action in ("created", "updated", "deleted"):
            if results[action] != written[run.run_id, action]:
                yield f"run {run.run_id} counts {results[action]} {action}, its history {written[run.run_id, action]}"
    for (run_id, action), count in written.items():
        if action == "created":
            created[run_id] += count
    rows = sum(connection.execute(sa.select(sa.func.count()).select_from(t)).scalar_one() for t in TARGETS.values())
    if created.total() + len(FOUNDERS) != rows:
        yield f"{created.total()} rows were created beside the founders, {rows} are there"


def _runs_without_end(connection: sa.Connection) -> Iterator[str]:
    statement = sa.select(runs.c.run_id, runs.c.stage).where(
        sa.or_(runs.c.status == "running", runs.c.stage.is_not(None))
    )
    for run in connection.execute(statement):
        yield f"run {run.run_id} never ended, or left its stage {run.stage}"
    schema = "sync_defs" if connection.dialect.name == "postgresql" else None
    for name in sa.inspect(connection).get_table_names(schema=schema):
        if name.startswith("sync_stage_"):
            yield f"the stage {name} was left"


def _integrity(connection: sa.Connection) -> Iterator[str]:
    """Yield what the database's own check finds."""
    kind = connection.dialect.name
    if kind == "sqlite":
        answers = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        broken = [*orphans, *(answer for answer in answers if answer != "ok")]
    elif kind == "postgresql":
        broken = _postgresql_integrity(connection)
    else:
        tables = ", ".join(sa.inspect(connection).get_table_names())
        found = connection.exec_driver_sql(f"CHECK TABLE {tables} EXTENDED").all()
        broken = [tuple(row) for row in found if row[2:] != ("status", "OK")]
    for trouble in broken:
        yield f"the database is damaged: {trouble}"


def _postgresql_integrity(connection: sa.Connection) -> list[Any]:
    """Have each index held against its table, where the server brings amcheck; a damaged one raises."""
    if not connection.exec_driver_sql("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'").first():
        return []
    connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA pg_catalog")
    connection.exec_driver_sql(
        "SELECT pg_catalog.bt_index_check(c.oid, true) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_am a ON a.oid = c.relam WHERE n.nspname IN ('sync_defs', 'public') AND a.amname = 'btree' "
        "AND c.relkind = 'i' AND c.relpersistence = 'p'"
    )
    return []


def _queued(database: Database) -> Iterator[str]:
    for job, counts in Inbox(database).depth().items():
        yield f"the queue of {job} is not empty: {counts}"
