"""`jobs` and `rejects`: what there is, and what could not be kept."""

from typing import TYPE_CHECKING, Annotated

import typer

from sync_defs.cli.deployment import deployment_of
from sync_defs.cli.output import ago, plural, say, say_json, say_table
from sync_defs.cli.running import AsJson
from sync_defs.job import Job, TableSync
from sync_defs.results import SyncResults

if TYPE_CHECKING:
    from sync_defs.store.rejects import Reject


def jobs(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List jobs, schedules and last runs."""
    from sync_defs.store.runs import recent_results

    deployment = deployment_of(ctx)
    deployment.database.ensure_ready()
    last = {name: recent_results(deployment.database, name, limit=1) for name in deployment.jobs}
    found = [(job, last[name][0] if last[name] else None) for name, job in deployment.jobs.items()]
    if as_json:
        say_json([_job_dict(job, results) for job, results in found])
        return
    rows = [[job.name, _schedule(job) or "-", _target(job), *_last_run(results)] for job, results in found]
    say_table(("JOB", "SCHEDULE", "TARGET", "LAST RUN", "RESULT"), rows)


def rejects(
    ctx: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Only those of this job.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show the newest N.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List rejected records.

    Those that a later run could keep are no longer among them.
    """
    from sync_defs.store.rejects import open_rejects

    deployment = deployment_of(ctx)
    deployment.database.ensure_ready()
    found = open_rejects(deployment.database, job, limit=limit)
    if not found and job is not None:
        deployment.job(job)  # a mistyped name is not "nothing rejected"; a job that is gone may have some
    if as_json:
        say_json([_reject_dict(reject) for reject in found])
    elif not found:
        say("no rejected records")
    else:
        columns = ("JOB", "ID", "REASON", "CODE", "TRIES", "LAST")
        say_table(columns, [_reject_row(reject) for reject in found])
        if len(found) == limit:
            say(f"({plural(limit, 'record')} shown; --limit shows more)")


def _schedule(job: Job) -> str | None:
    if job.cron is not None:
        return job.cron if job.timezone == "UTC" else f"{job.cron} {job.timezone}"
    return f"every {job.every}" if job.every is not None else None


def _target(job: Job) -> str:
    return f"table {job.target.fullname}" if isinstance(job, TableSync) else "callbacks"


def _last_run(results: SyncResults | None) -> list[str]:
    if results is None:
        return ["never", "-"]
    when = f"{ago(results.completed_at)}, {results.trigger}"
    return [when, results.summary().removeprefix(f"{results.name}: ")]


def _job_dict(job: Job, results: SyncResults | None) -> dict[str, object]:
    return {
        "name": job.name,
        "description": job.description or (type(job).__doc__ or ""),
        "schedule": job.cron_schedule,
        "timezone": job.timezone,
        "target": _target(job),
        "takes_webhooks": job.webhook is not None,
        "last_run": results.to_dict() if results else None,
    }


def _reject_row(reject: "Reject") -> list[str]:
    reason = f"{reject.field}: {reject.reason}" if reject.field else reject.reason
    return [
        reject.job,
        reject.external_id or "(no id)",
        reason,
        reject.code,
        str(reject.attempts),
        ago(reject.last_at),
    ]


def _reject_dict(reject: "Reject") -> dict[str, object]:
    return {
        "job": reject.job,
        "external_id": reject.external_id,
        "code": reject.code,
        "field": reject.field,
        "reason": reject.reason,
        "attempts": reject.attempts,
        "run_id": reject.run_id,
        "opened_at": reject.opened_at.isoformat(),
        "last_at": reject.last_at.isoformat(),
    }
