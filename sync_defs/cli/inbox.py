"""`inbox`: the messages that wait, and what a person does with dead ones."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from sync_defs.cli.deployment import deployment_of
from sync_defs.cli.output import ago, plural, say, say_json, say_table
from sync_defs.cli.running import AsJson, JobName
from sync_defs.errors import SyncError

if TYPE_CHECKING:
    from sync_defs.inbox import Counts, Inbox, QueuedMessage

_KEEP_DAYS = 14

app = typer.Typer(help="See, retry and discard messages.", invoke_without_command=True)

Dead = Annotated[bool, typer.Option("--dead", help="Only dead messages.")]
Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show the newest N messages.")]
OneId = Annotated[str | None, typer.Argument(metavar="[ID]", help="External id of the item.")]
MessageId = Annotated[
    str | None, typer.Option("--message", metavar="ID", help="Id of the message, if the item's is unknown.")
]
All = Annotated[bool, typer.Option("--all", help="All dead messages of the job.")]


@app.callback()
def overview(ctx: typer.Context, dead: Dead = False, limit: Limit = 20, as_json: AsJson = False) -> None:
    """See the webhook messages that wait, and retry or discard dead ones."""
    if ctx.invoked_subcommand is None:
        _show(ctx, None, dead=dead, limit=limit, as_json=as_json)
    elif dead or as_json:
        raise typer.BadParameter("options go behind the subcommand: sync-defs inbox list --dead.", ctx=ctx)


@app.command("list")
def list_(
    ctx: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Only those of this job.")] = None,
    dead: Dead = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Count messages and show the newest."""
    _show(ctx, job, dead=dead, limit=limit, as_json=as_json)


@app.command()
def retry(
    ctx: typer.Context, job: JobName, external_id: OneId = None, message: MessageId = None, every: All = False
) -> None:
    """Make dead messages due again, with all their attempts."""
    inbox = _open(ctx)
    _settle(ctx, inbox, inbox.retry, job, external_id, message, every=every, done="due again")


@app.command()
def discard(
    ctx: typer.Context, job: JobName, external_id: OneId = None, message: MessageId = None, every: All = False
) -> None:
    """Delete dead messages for good."""
    inbox = _open(ctx)
    _settle(ctx, inbox, inbox.discard, job, external_id, message, every=every, done="discarded")


@app.command()
def prune(
    ctx: typer.Context,
    days: Annotated[
        int, typer.Option("--days", min=_KEEP_DAYS, help="Forget ids of messages received so many days ago.")
    ] = _KEEP_DAYS,
) -> None:
    """Forget the ids of old messages; waiting and dead messages stay."""
    say(f"{plural(_open(ctx).prune(timedelta(days=days)), 'message id')} forgotten")


def _open(ctx: typer.Context) -> "Inbox":
    from sync_defs.inbox import Inbox

    database = deployment_of(ctx).database
    database.ensure_ready()
    return Inbox(database)


def _show(ctx: typer.Context, job: str | None, *, dead: bool, limit: int, as_json: bool) -> None:
    inbox = _open(ctx)
    depth: Mapping[str, Counts] = {
        name: counts for name, counts in sorted(inbox.depth().items()) if job in (None, name)
    }
    if job is not None and not depth:
        deployment_of(ctx).job(job)
    messages = inbox.list_messages(job, dead_only=dead, limit=limit)
    if as_json:
        counts = {name: _counts_dict(found) for name, found in depth.items()}
        say_json({"counts": counts, "messages": [_message_dict(message) for message in messages]})
        return
    if not depth:
        say("no messages")
        return
    columns = ("JOB", "READY", "CLAIMED", "LATER", "DEAD", "OLDEST READY")
    say_table(columns, [_row(*pair) for pair in depth.items()])
    if messages:
        say("")
        columns = ("JOB", "ID", "STATE", "TRIES", "DUE", "RECEIVED", "MESSAGE", "REASON")
        say_table(columns, [_message_row(message) for message in messages])
    elif dead:
        say("no dead messages")


def _settle(
    ctx: typer.Context,
    inbox: "Inbox",
    settle: Callable[..., int],
    job: str,
    external_id: str | None,
    message: str | None,
    *,
    every: bool,
    done: str,
) -> None:
    if [external_id is not None, message is not None, every].count(True) != 1:
        raise typer.BadParameter("give one of ID, --message ID and --all.", ctx=ctx)
    count = settle(job, external_id, message_id=message)
    if count:
        say(f"{plural(count, 'message')} {done}")
        return
    if job not in inbox.depth():
        deployment_of(ctx).job(job)
    see = f"sync-defs inbox list {job} --dead"
    raise SyncError(f"{job} has no such dead message; see: {see}", code="no_dead_message")


def _row(job: str, counts: "Counts") -> list[str]:
    oldest = f"{counts.oldest_due_age_s:.0f} s" if counts.ready else "-"
    return [job, *(str(n) for n in (counts.ready, counts.leased, counts.later, counts.dead)), oldest]


def _message_row(message: "QueuedMessage") -> list[str]:
    reason = f"{message.error} [{message.code}]" if message.code else "-"
    return [
        message.job,
        message.external_id or "(no id)",
        message.state,
        str(message.attempts),
        _due(message.due_at),
        ago(message.received_at),
        message.message_id or "-",
        reason,
    ]


def _due(due_at: datetime | None) -> str:
    if due_at is None:
        return "-"
    seconds = (due_at - datetime.now(UTC)).total_seconds()
    return f"in {seconds:.0f} s" if seconds >= 1 else "now"


def _counts_dict(counts: "Counts") -> dict[str, object]:
    return {
        "ready": counts.ready,
        "claimed": counts.leased,
        "later": counts.later,
        "dead": counts.dead,
        "oldest_ready_age_s": counts.oldest_due_age_s,
    }


def _message_dict(message: "QueuedMessage") -> dict[str, object]:
    return {
        "job": message.job,
        "external_id": message.external_id,
        "message_id": message.message_id,
        "state": message.state.value,
        "attempts": message.attempts,
        "deaths": message.deaths,
        "code": message.code,
        "error": message.error,
        "due_at": message.due_at.isoformat() if message.due_at else None,
        "received_at": message.received_at.isoformat(),
    }
