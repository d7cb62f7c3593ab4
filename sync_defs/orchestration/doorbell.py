"""The inbox sensor: it rings when messages are due and nobody drains them, and carries no message itself.

A ring may be lost (Dagster loses a run that is killed while it starts) or doubled: the messages stay in the queue until
they are applied, so the next half minute rings again, and two drains share the work.
"""

import time
from collections.abc import Callable
from typing import Final

import dagster as dg

from sync_defs.errors import DatabaseNotReadyError
from sync_defs.inbox import Inbox
from sync_defs.inbox.attendance import is_attended
from sync_defs.job import Job
from sync_defs.orchestration.names import DATABASE_KEY, TRIGGER_TAG, SyncNames
from sync_defs.results import Trigger
from sync_defs.store import Database

RING_S: Final = 30
"""The bell rings at most once in so many seconds, longer than a run takes to start."""
_LOOK_S: Final = 0.1
_LONGEST_POLL_S: Final = 4.5
"""Dagster's sensor loop takes 5 s at least: a tick that watches for most of it notices a message at once."""
_ALL_POLLS_S: Final = 20.0
"""Bounds a round of all sensors where the daemon evaluates them one after another."""


def poll_seconds(sensors: int) -> float:
    """Return how long each tick watches the queue, for a number of sensors."""
    return min(_LONGEST_POLL_S, _ALL_POLLS_S / max(sensors, 1))


def inbox_sensor(job: Job, *, poll_s: float) -> dg.SensorDefinition:
    """Return the sensor of a job's inbox, running from the start.

    Args:
        job: whose messages are watched.
        poll_s: how long a tick watches before it gives up.
    """
    names = SyncNames(job.name)

    @dg.sensor(
        name=names.inbox_sensor,
        job_name=names.inbox_job,  # by name: given the job itself, Dagster 1.13 copies the sensor and warns
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts {names.inbox_job} when webhook messages are due and no drain is at work.",
        required_resource_keys={DATABASE_KEY},
    )
    def doorbell(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        database: Database = getattr(context.resources, DATABASE_KEY)
        try:
            database.ensure_ready()
        except DatabaseNotReadyError as error:
            return dg.SkipReason(error.message)
        if not wait_for_work(Inbox(database), job.name, poll_s=poll_s):
            return dg.SkipReason("No message is due that nobody attends to.")
        now = database.now().timestamp()
        if 0 <= now - _last_ring(context.cursor) < RING_S:
            return dg.SkipReason(f"Messages are due; the bell was rung less than {RING_S} s ago.")
        if _is_queued(context.instance, names.inbox_job):
            return dg.SkipReason(f"Messages are due; a run of {names.inbox_job} waits in Dagster's queue.")
        # The key guards a tick that dies before its cursor is stored; it names a time, never a message.
        request = dg.RunRequest(run_key=f"{job.name}:{int(now) // RING_S}", tags={TRIGGER_TAG: Trigger.WEBHOOK.value})
        return dg.SensorResult(run_requests=[request], cursor=str(now))

    return doorbell


def wait_for_work(
    inbox: Inbox,
    job_name: str,
    *,
    poll_s: float,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Watch the queue until messages are due that no drain attends to; False if the time ran out before."""
    give_up = monotonic() + poll_s
    while True:
        if inbox.has_due(job_name) and not is_attended(inbox.database, job_name):
            return True
        if monotonic() >= give_up:
            return False
        sleep(_LOOK_S)


def _last_ring(cursor: str | None) -> float:
    """Return when the bell was rung last, in Unix seconds; 0 where a person has edited the cursor."""
    try:
        return float(cursor or 0)
    except ValueError:
        return 0.0


def _is_queued(instance: dg.DagsterInstance, job_name: str) -> bool:
    # Only the queue counts: a run that was killed while it started stays "starting" for ever.
    waiting = dg.RunsFilter(job_name=job_name, statuses=[dg.DagsterRunStatus.QUEUED])
    return bool(instance.get_run_ids(waiting, limit=1))
