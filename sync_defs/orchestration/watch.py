"""The watch: a sensor that looks at all jobs once a minute, whether or not anything runs.

It reports checks that changed without a run (a sync is late, an inbox lags), and tells people of each job whose state
is another than the last one they were told of. States follow from the database and from how runs have ended; nothing
waits for the watch, and no sync fails because of it.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import dagster as dg

from sync_defs.alerts import Notice, Notifier, Problem, State
from sync_defs.errors import AlertError, DatabaseNotReadyError
from sync_defs.job import Job
from sync_defs.orchestration.job_checks import run_verdicts, standing_verdicts
from sync_defs.orchestration.names import DATABASE_KEY, DEFAULT_NAMES, Names
from sync_defs.orchestration.pools import register_pools
from sync_defs.orchestration.run_ends import RunEnds
from sync_defs.orchestration.verdicts import Verdict
from sync_defs.orchestration.watch_cursor import WatchCursor
from sync_defs.store import Database
from sync_defs.store.run_history import last_syncs

WATCH: Final = "sync_watch"
EVERY_S: Final = 60
MOST_CHANGES: Final = 60
"""Checks that one look reports, those that fail first: each takes Dagster 12 to 16 ms, and at first all are news."""
SEND_S: Final = 25.0
"""What is not sent within it is sent by the next tick: Dagster gives a tick 60 s in all."""
_ORDER: Final = (State.OK, State.WARN, State.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """Whom to tell of changes."""

    notifiers: Sequence[Notifier] = ()
    dagster_url: str | None = None
    """Address of Dagster's pages, for links."""
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False)

    def page_of(self, asset: dg.AssetKey) -> str | None:
        """Return the address of an asset's page, where that of Dagster is known."""
        return None if self.dagster_url is None else f"{self.dagster_url.rstrip('/')}/assets/{'/'.join(asset.path)}"


def watch_sensor(jobs: Sequence[Job], alerting: Alerting, names: Names = DEFAULT_NAMES) -> dg.SensorDefinition:
    """Return the sensor, running from the start."""
    watch = _Watch(jobs=jobs, names=names, runs=RunEnds(jobs, names), alerting=alerting)
    pools = [names.of(job.name).pool for job in jobs]

    @dg.sensor(
        name=WATCH,
        minimum_interval_seconds=EVERY_S - 1,  # the daemon compares with a little less than what has passed
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports syncs that are late and inboxes that lag, and tells of jobs whose state has changed.",
        required_resource_keys={DATABASE_KEY},
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        database: Database = getattr(context.resources, DATABASE_KEY)
        try:
            database.ensure_ready()
        except DatabaseNotReadyError as error:
            return dg.SkipReason(error.message)
        register_pools(context.instance, pools)
        return watch.look(context, database)

    return sensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    jobs: Sequence[Job]
    names: Names
    runs: RunEnds
    alerting: Alerting

    def look(self, context: dg.SensorEvaluationContext, database: Database) -> dg.SensorResult:
        """Look at all jobs once, report what has changed and tell of it."""
        before = WatchCursor.read(context.cursor)
        seen_until, failed = self.runs.after(context, before.seen_until, before.failed)
        changed: list[tuple[str, Verdict, dg.AssetKey]] = []
        said: dict[str, str] = {}
        problems: dict[str, list[Problem]] = {}
        for job in self.jobs:
            standing = [verdict for verdict in standing_verdicts(job, database) if verdict.is_evaluated]
            for verdict in standing:
                key = f"{job.name}:{verdict.check}"
                said[key] = _state(verdict)
                if said[key] != before.said.get(key):
                    changed.append((key, verdict, self.names.of(job.name).asset))
            problems[job.name] = _problems([*standing, *_run_verdicts(job, database)], failed.get(job.name, {}))
        changed.sort(key=lambda change: change[1].passed)
        for key, _, _ in changed[MOST_CHANGES:]:
            said[key] = before.said.get(key, "")  # it comes with the next look
        events = [verdict.evaluation(asset) for _, verdict, asset in changed[:MOST_CHANGES]]
        told = self._tell(context, problems, before)
        cursor = WatchCursor(seen_until=seen_until, failed=failed, said=said, told=told)
        bad = sum(1 for found in problems.values() if found)
        reason = f"{len(problems) - bad} jobs are OK, {bad} are not; {len(events)} checks have changed without a run."
        return dg.SensorResult(skip_reason=reason, asset_events=events, cursor=cursor.text())

    def _tell(
        self, context: dg.SensorEvaluationContext, problems: Mapping[str, Sequence[Problem]], before: WatchCursor
    ) -> dict[str, dict[str, str]]:
        """Tell each notifier what it does not know yet, and return what each knows then.

        A notice that was not delivered comes again with the next look, if the state is still another one.
        """
        give_up = self.alerting.monotonic() + SEND_S
        told: dict[str, dict[str, str]] = {}
        for number, notifier in enumerate(self.alerting.notifiers):
            channel = f"{type(notifier).__name__} {number}"
            knows = told[channel] = {job: str(before.state_of(channel, job)) for job in problems}
            for job, found in problems.items():
                now = found[0].state if found else State.OK
                if now == knows[job]:
                    continue
                url = self.alerting.page_of(self.names.of(job).asset)
                notice = Notice(job=job, before=State(knows[job]), now=now, problems=tuple(found), url=url)
                if self.alerting.monotonic() >= give_up:
                    context.log.warning("there was no time to tell of %s", notice.title)
                elif _is_delivered(context, notifier, notice):
                    knows[job] = now
        return told


def _run_verdicts(job: Job, database: Database) -> Iterator[Verdict]:
    newest = last_syncs(database, job.name, limit=1)
    if newest:
        yield from (verdict for verdict in run_verdicts(job, database, newest[0]) if verdict.is_evaluated)


def _problems(verdicts: Iterable[Verdict], failed: Mapping[str, str]) -> list[Problem]:
    """Return what is wrong with a job, the worst first."""
    found = [Problem(source=run, state=State.ERROR, sentence=sentence) for run, sentence in failed.items()]
    found += [
        Problem(source=verdict.check, state=_state(verdict), sentence=verdict.description)
        for verdict in verdicts
        if not verdict.passed
    ]
    return sorted(found, key=lambda problem: -_ORDER.index(problem.state))


def _state(verdict: Verdict) -> State:
    return State.OK if verdict.passed else State(verdict.severity.value)


def _is_delivered(context: dg.SensorEvaluationContext, notifier: Notifier, notice: Notice) -> bool:
    try:
        notifier.notify(notice)
    except AlertError as error:
        context.log.warning("%s was not told: %s", notice.title, error.message)
        return False
    except Exception as error:  # noqa: BLE001 - a notifier of the user's own; its text may hold secrets
        context.log.warning("%s was not told: %s in %s", notice.title, type(error).__name__, type(notifier).__name__)
        return False
    return True
