"""`run` and `item`: syncing from the command line."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sync_defs.cli.deployment import Deployment, deployment_of
from sync_defs.cli.failures import ExitCode
from sync_defs.cli.output import plural, say, say_json, tell
from sync_defs.cli.progress import Watch, watch_for
from sync_defs.errors import MessageError
from sync_defs.job import Job
from sync_defs.results import Action, ItemError, ItemResult, Outcome, SyncResults, Trigger

if TYPE_CHECKING:
    from sync_defs.engine.ports import RunRequest

_SHOWN = 10

JobName = Annotated[str, typer.Argument(metavar="JOB", help="Name of the job; `sync-defs jobs` lists them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]


DryRun = Annotated[bool, typer.Option("--dry-run", help="Do all of it, then roll back.")]
Full = Annotated[bool, typer.Option("--full", help="Fetch everything, not only what is new.")]
Ids = Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Sync only this id; may be repeated.")]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="CURSOR", help="Fetch from here on, in place of the stored cursor, which stays."),
]
Partition = Annotated[
    str | None, typer.Option("--partition", metavar="KEY", help="The partition to sync, of a job that has some.")
]
AllowDeletes = Annotated[
    int | None,
    typer.Option("--allow-deletes", min=0, metavar="N", help="Delete or mark up to N missing rows."),
]
Wait = Annotated[
    float,
    typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for another run to end."),
]
FailOnReject = Annotated[bool, typer.Option("--fail-on-reject", help="Exit with 3 if a record was rejected.")]


def run(
    ctx: typer.Context,
    job: JobName,
    *,
    dry_run: DryRun = False,
    full: Full = False,
    external_ids: Ids = None,
    since: Since = None,
    partition: Partition = None,
    allow_deletes: AllowDeletes = None,
    wait_s: Wait = 0.0,
    fail_on_reject: FailOnReject = False,
    as_json: AsJson = False,
) -> None:
    """Sync a job once.

    Prints the summary on stdout and the first rejected records on stderr.
    """
    from sync_defs.engine.ports import RunRequest

    deployment = deployment_of(ctx)
    if full and external_ids:
        raise typer.BadParameter("--full and --id exclude each other.", ctx=ctx)
    request = RunRequest(
        trigger=Trigger.CLI,
        dry_run=dry_run,
        full=full,
        external_ids=tuple(external_ids or ()),
        since=since,
        partition=partition,
        allow_deletes=allow_deletes,
        wait_s=wait_s,
    )
    with watch_for(job) as watch:
        try:
            results = _run(deployment, deployment.job(job), request, watch)
        except BaseException:
            if as_json and watch.results is not None:
                say_json(watch.results.to_dict())
            raise
    _show(results, as_json=as_json)
    if fail_on_reject and results.rejected:
        raise typer.Exit(ExitCode.REJECTED)


def item(
    ctx: typer.Context,
    job: JobName,
    external_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="External id to ask the source for.")
    ] = None,
    payload: Annotated[
        Path | None,
        typer.Option("--payload", metavar="FILE", help="Apply this webhook payload instead; - is stdin."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sync one item.

    Asks the source for the ID, or applies a payload, and prints what became of it.
    """
    deployment = deployment_of(ctx)
    if (external_id is None) == (payload is None):
        raise typer.BadParameter("give either an ID or --payload FILE.", ctx=ctx)
    chosen = deployment.job(job)
    if payload is not None:
        found = _apply(deployment, chosen, payload)
    else:
        found = [_ask(deployment, chosen, external_id or "")]
    if as_json:
        say_json([_item_dict(result) for result in found] if len(found) > 1 else _item_dict(found[0]))
    else:
        for result in found:
            reason = f": {result.message} [{result.code}]" if result.message else ""
            say(f"{result.action} {result.external_id or '(no id)'}{reason}")
    if any(result.action is Action.REJECTED for result in found):
        raise typer.Exit(ExitCode.REJECTED)


def _run(deployment: Deployment, job: Job, request: "RunRequest", watch: Watch) -> SyncResults:
    from sync_defs.runner import run_sync

    with deployment.resources(job) as resources:
        return run_sync(
            job,
            database=deployment.database,
            resources=resources,
            dry_run=request.dry_run,
            full=request.full,
            external_ids=request.external_ids,
            since=request.since,
            partition=request.partition,
            allow_deletes=request.allow_deletes,
            wait_s=request.wait_s,
            trigger=request.trigger,
            observer=watch,
        )


def _ask(deployment: Deployment, job: Job, external_id: str) -> ItemResult:
    from sync_defs.engine.ports import RunRequest

    request = RunRequest(trigger=Trigger.CLI, external_ids=(external_id,))
    results = _run(deployment, job, request, Watch())
    # An id that came twice is `skipped` once; what counts is what became of the other record.
    seen = [outcome for outcome, count in results.outcomes.items() if count]
    outcome = next((outcome for outcome in seen if outcome is not Outcome.SKIPPED), Outcome.SKIPPED)
    error = results.errors[0] if results.errors else None
    return ItemResult(
        action=Action(outcome.value),
        external_id=external_id,
        message=error.message if error else None,
        code=error.code if error else None,
    )


def _apply(deployment: Deployment, job: Job, payload: Path) -> list[ItemResult]:
    from sync_defs.engine.items import sync_single_item
    from sync_defs.inbox import strict_json
    from sync_defs.store.store import SqlStore

    try:
        body = sys.stdin.buffer.read() if str(payload) == "-" else payload.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"--payload: {error.strerror}: {payload}.") from None
    document = strict_json.decode(body)
    if not document:
        raise MessageError("the payload is empty", code="no_items")
    store = SqlStore(deployment.database)
    if not job.refetch:
        return sync_single_item(job, store, document, trigger=Trigger.CLI)
    with deployment.resources(job) as resources:
        return sync_single_item(job, store, document, resources=resources, trigger=Trigger.CLI)


def _show(results: SyncResults, *, as_json: bool) -> None:
    if as_json:
        say_json(results.to_dict())
        return
    say(results.summary())
    if results.not_in_source:
        shown = ", ".join(results.ids_not_in_source[:_SHOWN])
        rest = results.not_in_source - _SHOWN
        tell(f"  not in the source: {shown}" + (f" and {rest:,} more" if rest > 0 else ""))
    for error in results.errors[:_SHOWN]:
        tell(_error_line(error))
    rest = len(results.errors) - _SHOWN
    if rest > 0:
        more = "" if results.dry_run else f"; see: sync-defs rejects {results.name}"
        tell(f"  and {plural(max(rest, results.rejected - _SHOWN), 'more record')}{more}")


def _error_line(error: ItemError) -> str:
    return f"  {error.external_id or '(no id)'}: {error.message} [{error.code}]"


def _item_dict(result: ItemResult) -> dict[str, str | None]:
    return {
        "action": result.action.value,
        "external_id": result.external_id,
        "message": result.message,
        "code": result.code,
    }
