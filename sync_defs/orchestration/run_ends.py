"""How the Dagster runs of sync jobs have ended, as far as nobody has looked yet."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from sync_defs.job import Job
from sync_defs.orchestration.names import DEFAULT_NAMES, Names

MOST_RUNS: Final = 500
"""Looked at by one tick; the next one goes on."""
_OVERLAP: Final = timedelta(seconds=5)
"""A run's end is stored a little after its time: what was seen before is looked at again, which changes nothing."""
_LONG_AGO: Final = timedelta(days=1)
_ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
Failed = Mapping[str, Mapping[str, str]]
"""Sync job to Dagster jobs whose last run has failed, each with the reason."""


class RunEnds:
    """Reads the ends of runs of some jobs: of their Dagster jobs, and of a click on Materialize."""

    def __init__(self, jobs: Sequence[Job], names: Names = DEFAULT_NAMES) -> None:
        """Look at the runs of these jobs."""
        self._names = [names.of(job.name) for job in jobs]

    def after(
        self, context: dg.SensorEvaluationContext, seen_until: float | None, failed: Failed
    ) -> tuple[float, Failed]:
        """Return until when was looked, and what `failed` is by then."""
        now = datetime.now(UTC)
        since = datetime.fromtimestamp(seen_until, UTC) - _OVERLAP if seen_until is not None else now - _LONG_AGO
        records = context.instance.get_run_records(
            dg.RunsFilter(statuses=_ENDED, updated_after=since),
            limit=MOST_RUNS,
            order_by="update_timestamp",
            ascending=True,
        )
        found = {job: dict(runs) for job, runs in failed.items()}
        for record in records:
            run = record.dagster_run
            for name, job_name in self._of(run):
                found.setdefault(name, {}).pop(job_name, None)
                if run.status is dg.DagsterRunStatus.FAILURE and run.tags.get("dagster/will_retry") != "true":
                    found[name][job_name] = _reason(context.instance, run.run_id)
        last = records[-1].update_timestamp.timestamp() if len(records) == MOST_RUNS else now.timestamp()
        return last, {job: runs for job, runs in found.items() if runs}

    def _of(self, run: dg.DagsterRun) -> Iterator[tuple[str, str]]:
        """Yield the sync jobs that a run is of, and the Dagster job that it counts as."""
        selection = run.asset_selection or frozenset()
        for names in self._names:
            if run.job_name in (names.job, names.inbox_job):
                yield names.sync_job, run.job_name
            elif names.asset in selection:
                yield names.sync_job, names.job


def _reason(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return the sentence with which a run's op failed: ours hold no values, and any other text is left out."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records
    for record in records:
        event = record.event_log_entry.dagster_event
        told = event.step_failure_data.user_failure_data if event is not None else None
        if told is not None and told.description:
            return str(told.description)
    return f"run {run_id[:8]} has failed"
