"""The Dagster job that applies waiting webhook messages until none is due, and tells the asset about it."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final, cast

import dagster as dg

from sync_defs.inbox import Inbox
from sync_defs.inbox.drain import DrainOptions, DrainResults, drain
from sync_defs.inbox.guests import Guests
from sync_defs.job import Job
from sync_defs.orchestration.doorbell import queued_jobs
from sync_defs.orchestration.failures import told_plainly
from sync_defs.orchestration.ghosts import sign_of_life
from sync_defs.orchestration.metadata import drain_summary
from sync_defs.orchestration.names import DATABASE_KEY, HANDOFF_KEY, MAX_RUNTIME_TAG, SyncNames
from sync_defs.orchestration.telling import TELL_S, AssetEvent, AssetEvents, drain_events, inbox_events
from sync_defs.store import Database, SqlStore
from sync_defs.store.reports import confirm_told

MAX_RUNTIME_S: Final = 3600
"""A drain ends after 15 minutes by itself; one that does not is gone."""
NO_OTHERS: Final[Mapping[str, Job]] = MappingProxyType({})
_BURST = DrainOptions(linger_s=1.0, max_s=15.0, report_after_s=TELL_S)
"""What one report covers: messages that come within a second of each other, and at most 15 seconds of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a run of the inbox job stays, and the clock it lives by."""

    linger_s: float = 30.0
    """How long it waits for more once nothing is due: a process that waits is quicker than one that starts."""
    stay_s: float = 900.0
    """When it ends though more is due; the sensor starts the next one."""
    burst: DrainOptions = _BURST
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def inbox_job(
    job: Job,
    *,
    names: SyncNames | None = None,
    others: Mapping[str, Job] = NO_OTHERS,
    is_shared: bool = False,
    pace: Pace | None = None,
) -> dg.JobDefinition:
    """Return the job of one op that drains a sync job's inbox.

    What it applies is a materialization of the sync job's asset, so that what depends on the asset is told.

    Args:
        job: whose messages are applied.
        names: what its definitions are called; default: what follows from its name.
        others: jobs whose messages are applied in runs too, by the name of the inbox job that does it; this one
            applies theirs while they find no place.
        is_shared: one sensor starts the runs of all of them, some at a tick, so that one that finds no place stands
            for all.
        pace: how long a run stays.
    """
    names = names or SyncNames.of(job.name)
    asset = names.asset
    asked = job.items_resource_names if job.refetch else frozenset[str]()

    @dg.op(
        name=f"{job.name}_drain",
        description="Claim due messages and apply them, row, history and acknowledgement in one transaction.",
        required_resource_keys={DATABASE_KEY, *asked},
        out=dg.Out(dg.Nothing, io_manager_key=HANDOFF_KEY),
    )
    def drain_inbox(context: dg.OpExecutionContext) -> None:
        database: Database = getattr(context.resources, DATABASE_KEY)
        store = SqlStore(database)
        resources = {name: getattr(context.resources, name) for name in asked}
        with told_plainly(job.name):
            database.ensure_ready()
            stay = pace or Pace()
            with sign_of_life(database, context.run_id):
                guests = Guests(
                    job,
                    others=list(others.values()),
                    database=database,
                    run_id=context.run_id,
                    queued=partial(queued_jobs, context.instance, others, now=database.now),
                    is_one_for_all=is_shared,
                    monotonic=stay.monotonic,
                )
                for results in bursts(job, store, guests, run_id=context.run_id, pace=stay, resources=resources):
                    _report(context, store, drain_events(job, asset, store, results), results)
            for event in inbox_events(job, asset, store):
                _log(context, event)

    @dg.job(
        name=names.inbox_job,
        description=f"Applies webhook messages for {job.name} until none is due; its sensor starts it.",
        # Ahead of full syncs in the queue: a message is one row that somebody waits for.
        # A run that is killed is not started again: the sensor rings while messages are due.
        # Its one op may stay for a quarter of an hour: on Celery it would keep a place from the ops of full syncs.
        executor_def=dg.in_process_executor,
        tags={MAX_RUNTIME_TAG: str(MAX_RUNTIME_S), "dagster/priority": "10", "dagster/max_retries": "0"},
    )
    def run_inbox() -> None:
        drain_inbox.alias("drain")()

    return run_inbox


def bursts(
    job: Job,
    store: SqlStore,
    guests: Guests,
    *,
    run_id: str,
    pace: Pace,
    resources: Mapping[str, object] | None = None,
) -> Iterator[DrainResults]:
    """Drain whatever is due, and yield the account of each burst of messages.

    Where messages of others wait that find no place, a run that stays takes it from them: it applies theirs too, or it
    ends. Else it ends once none has come for a while, its own or theirs.
    """
    inbox = Inbox(store.database)
    started = idle_since = pace.monotonic()
    number = 0
    with guests:

        def sleep(seconds: float) -> None:
            if not guests.serve():
                pace.burst.sleep(seconds)

        burst = replace(pace.burst, sleep=sleep, should_stop=guests.are_waiting)
        while pace.monotonic() - started < pace.stay_s and not guests.must_leave:
            was_busy = guests.serve_all()
            if inbox.has_due(job.name):
                number += 1
                yield drain(job, store, inbox, run_id=f"{run_id}.{number}", options=burst, resources=resources)
                was_busy = True
            if was_busy:
                idle_since = pace.monotonic()
            elif pace.monotonic() - idle_since >= pace.linger_s:
                break
            else:
                pace.sleep(pace.burst.poll_s)


def _report(context: dg.OpExecutionContext, store: SqlStore, events: AssetEvents, results: DrainResults) -> None:
    context.log.info(drain_summary(results))
    for event in events:
        _log(context, event)
    confirm_told(store.database, results.run_ids)


def _log(context: dg.OpExecutionContext, event: AssetEvent) -> None:
    context.log_event(cast("dg.AssetMaterialization", event))  # a check is accepted too, though not in the type
