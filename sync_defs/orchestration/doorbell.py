"""The inbox sensor: it rings when messages are due and nobody drains them, and carries no message itself.

A ring may be lost (Dagster loses a run that is killed while it starts) or doubled: the messages stay in the queue until
they are applied, so the next half minute rings again, and two drains share the work. Of jobs with `delivery="inline"`
the sensor has the messages applied at once, and rings only where that takes too long.

A tick also tells of applied messages that nobody has told of, and reports runs as failed whose process is gone.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import dagster as dg
from dagster._core.definitions.target import AutomationTarget
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from sync_defs.errors import DatabaseNotReadyError
from sync_defs.inbox import Inbox
from sync_defs.inbox.inline import InlineWorker
from sync_defs.job import Job
from sync_defs.orchestration.bell_cursor import BellCursor
from sync_defs.orchestration.ghosts import Ghosts
from sync_defs.orchestration.names import DATABASE_KEY, DEFAULT_NAMES, TRIGGER_TAG, Names
from sync_defs.orchestration.telling import AssetEvents, tidings
from sync_defs.policies import Delivery
from sync_defs.results import Trigger
from sync_defs.store import Database, SqlStore
from sync_defs.store.reports import confirm_reports

RING_S: Final = 30
"""The bell rings at most once in so many seconds for a job, longer than a run takes to start."""
MOST_RUNG: Final = 20
"""Jobs for which a tick rings: to make a run takes Dagster some 0.2 s, and those for which there is no place are many.

The next tick rings for others, unless a run that stays has taken them in meanwhile: for 200 jobs within a minute.
"""
_REMEMBERED_S: Final = 900.0
"""For how long the cursor knows when it rang: those for whom it rang the longest ago are next."""
QUEUED_S: Final = 3.0
"""A run that has been queued for so long finds no place: each one is, until Dagster looks at its queue."""
_MOST_QUEUED: Final = 100
INLINE_PATIENCE_S: Final = 20.0
"""A message that should be applied at once and has waited for so long gets a run."""
SHARED: Final = "inbox_sensor"
"""The sensor of all jobs; every job's own one has the job's name before it."""
_LOOK_S: Final = 0.05
_ORDER_EVERY_S: Final = 1.0
_ORDER_S: Final = 8.0
"""The process that applies at once goes on for so long after a tick, until the next one has begun.

Dagster's loop passes a sensor over whose last tick took a moment too long: the next one begins 6 s after its end.
"""
_LONGEST_POLL_S: Final = 4.5
"""Dagster's sensor loop takes 5 s at least: a tick that watches for most of it notices a message at once."""
_ALL_POLLS_S: Final = 20.0
"""Bounds a round of all sensors where the daemon evaluates them one after another."""


def poll_seconds(sensors: int, *, use_threads: bool) -> float:
    """Return how long each tick watches the queue, for a number of sensors."""
    if sensors == 1 and not use_threads:
        return _ALL_POLLS_S  # a tick that takes longer than the loop is followed by the next one at once
    return min(_LONGEST_POLL_S, _ALL_POLLS_S / max(sensors, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How a tick watches, and the clock it lives by."""

    poll_s: float | None = None
    """How long it watches before it gives up; None: as long as the daemon's settings allow."""
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def inbox_sensors(
    jobs: Sequence[Job],
    *,
    is_shared: bool,
    names: Names = DEFAULT_NAMES,
    ghosts: Ghosts | None = None,
    worker: InlineWorker | None = None,
    pulse: Pulse | None = None,
) -> list[dg.SensorDefinition]:
    """Return the sensors of the jobs' inboxes, running from the start: one for all, or one for each.

    Args:
        jobs: whose messages are watched.
        is_shared: whether one sensor watches all.
        names: what the definitions of the jobs are called.
        ghosts: looks after runs; default: those of the same jobs.
        worker: applies messages of the jobs with `delivery="inline"`.
        pulse: how long a tick watches.
    """
    ghosts = ghosts or Ghosts(jobs, names)
    pulse = pulse or Pulse()
    groups = [list(jobs)] if is_shared else [[job] for job in jobs]
    bells = [
        _Bell(jobs=group, names=names, worker=worker, ghosts=ghosts, pulse=pulse, sensors=len(groups))
        for group in groups
    ]
    if is_shared:
        return [_SharedSensor(bell, SHARED) for bell in bells]
    return [
        dg.SensorDefinition(
            name=names.of(job.name).inbox_sensor, job_name=names.of(job.name).inbox_job, **_common(bell)
        )
        for job, bell in zip(jobs, bells, strict=True)
    ]


def _common(bell: "_Bell") -> dict[str, Any]:
    def doorbell(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        database: Database = getattr(context.resources, DATABASE_KEY)
        try:
            database.ensure_ready()
        except DatabaseNotReadyError as error:
            return dg.SkipReason(error.message)
        return bell.tick(context, database)

    return {
        "evaluation_fn": doorbell,
        "minimum_interval_seconds": 1,
        "default_status": dg.DefaultSensorStatus.RUNNING,
        "description": bell.description,
        "required_resource_keys": {DATABASE_KEY},
    }


class _SharedSensor(dg.SensorDefinition):
    """A sensor of several jobs by name, which no public parameter takes.

    Given the jobs themselves, Dagster 1.13 copies the sensor when it resolves them, and warns of its own copy.
    """

    def __init__(self, bell: "_Bell", name: str) -> None:
        super().__init__(name=name, **_common(bell))
        self._targets = [AutomationTarget(bell.names.of(job.name).inbox_job) for job in bell.jobs]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bell:
    jobs: Sequence[Job]
    names: Names
    worker: InlineWorker | None
    ghosts: Ghosts
    pulse: Pulse
    sensors: int

    @property
    def description(self) -> str:
        """Return what the sensor's page says."""
        if len(self.jobs) > 1:
            return "Has the due webhook messages of all jobs applied: at once, or by a run where no drain is at work."
        [job] = self.jobs
        if job.delivery == Delivery.INLINE:
            return f"Has webhook messages for {job.name} applied at once."
        return f"Starts {self.names.of(job.name).inbox_job} when webhook messages are due and no drain is at work."

    def tick(self, context: dg.SensorEvaluationContext, database: Database) -> dg.SensorResult:
        """Watch for a while, and return whom to ring for and what has been applied."""
        names = [job.name for job in self.jobs]
        cursor = BellCursor.read(context.cursor)
        if cursor.told is not None:  # it was stored after all that it speaks of was
            confirm_reports(database, names, until=datetime.fromisoformat(cursor.told))
        self.ghosts.report(context, database)
        silent = cursor.rung_within(RING_S, now=database.now().timestamp())
        ring = self._watch(context, Inbox(database), silent, cursor.rung)
        passed = partial(_passed_last, context.instance)
        news = tidings(SqlStore(database), self.jobs, self.names, unwell=cursor.unwell, passed=passed)
        now = database.now().timestamp()
        # The keys guard a tick that dies before its cursor is stored; they name a time, never a message.
        requests = [
            dg.RunRequest(
                job_name=self.names.of(name).inbox_job,
                run_key=f"{name}:{int(now) // RING_S}",
                tags={TRIGGER_TAG: Trigger.WEBHOOK.value},
            )
            for name in ring
        ]
        reason = None if requests else _reason(news.events, silent)
        after = cursor.after(ring, told=news.receipt, unwell=news.unwell, now=now, keep_s=_REMEMBERED_S)
        return dg.SensorResult(run_requests=requests, skip_reason=reason, asset_events=news.events, cursor=after.text())

    def _watch(
        self,
        context: dg.SensorEvaluationContext,
        inbox: Inbox,
        silent: Iterable[str],
        rung_at: Mapping[str, float],
    ) -> list[str]:
        """Return the jobs to ring for, as soon as there is one; none, if the time ran out before."""
        waiting = {job.name for job in self.jobs} - set(silent)
        inline = {job.name for job in self.jobs if job.delivery == Delivery.INLINE}
        monotonic = self.pulse.monotonic
        give_up = monotonic() + self._poll_s(context.instance)
        order_at = monotonic()
        while True:
            if self.worker is not None and inline and monotonic() >= order_at:
                self.worker.order(sorted(inline), _ORDER_S)
                order_at = monotonic() + _ORDER_EVERY_S
            due = waiting.intersection(inbox.unattended_jobs())
            if due & inline:
                due -= inline - set(inbox.unattended_jobs(waiting_s=INLINE_PATIENCE_S))
            ring: list[str] = []
            for name in sorted(due, key=lambda name: (rung_at.get(name, 0.0), name)):
                if is_queued(context.instance, self.names.of(name).inbox_job):
                    waiting.discard(name)
                else:
                    ring.append(name)
                if len(ring) == MOST_RUNG:
                    break
            if ring:
                return ring
            if monotonic() >= give_up:
                return []
            self.pulse.sleep(_LOOK_S)

    def _poll_s(self, instance: dg.DagsterInstance) -> float:
        if self.pulse.poll_s is not None:
            return self.pulse.poll_s
        settings = instance.get_sensor_settings() or {}
        return poll_seconds(self.sensors, use_threads=bool(settings.get("use_threads")))


def _reason(events: AssetEvents, silent: Iterable[str]) -> str:
    if events:
        assets = {event.asset_key.to_user_string() for event in events}
        return f"No run is needed; told of messages that were applied for {', '.join(sorted(assets))}."
    if silent:
        return f"No other message is due; the bell was rung less than {RING_S} s ago for {', '.join(sorted(silent))}."
    return "No message is due that nobody attends to."


def _passed_last(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> bool:
    """Tell whether Dagster was told last that a check passes; the watch is the first to tell it of one."""
    record = instance.get_latest_asset_check_evaluation_record(check)
    return record is None or record.status == AssetCheckExecutionRecordStatus.SUCCEEDED


def is_queued(instance: dg.DagsterInstance, job_name: str) -> bool:
    """Tell whether a run of a job waits for a place.

    Only the queue counts: a run that was killed while it started stays "starting" for ever.
    """
    waiting = dg.RunsFilter(job_name=job_name, statuses=[dg.DagsterRunStatus.QUEUED])
    return bool(instance.get_run_ids(waiting, limit=1))


def queued_jobs(
    instance: dg.DagsterInstance, inbox_jobs: Mapping[str, Job], *, now: Callable[[], datetime]
) -> list[str]:
    """Return the names of the jobs whose runs for messages find no place; `inbox_jobs` are by the inbox jobs' names."""
    waiting = dg.RunsFilter(
        tags={TRIGGER_TAG: Trigger.WEBHOOK.value},
        statuses=[dg.DagsterRunStatus.QUEUED],
        created_before=now() - timedelta(seconds=QUEUED_S),
    )
    found = instance.get_runs(waiting, limit=_MOST_QUEUED)
    return [inbox_jobs[run.job_name].name for run in found if run.job_name in inbox_jobs]
