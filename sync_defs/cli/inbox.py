"""`inbox`: the messages that wait, and what a person does with dead ones."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from sync_defs.cli.deployment import deployment_of
from sync_defs.cli.output import ago, plural, say, say_json, say_table
from sync_defs.cli.running import AsJson, JobName

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
Payload = Annotated[bool, typer.Option("--payload", help="Show the payload too; it may hold anything that was sent.")]
Raw = Annotated[bool, typer.Option("--raw", help="Write the payload's bytes to stdout, and nothing else.")]
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
def show(
    ctx: typer.Context,
    job: JobName,
    external_id: OneId = None,
    message: MessageId = None,
    *,
    payload: Payload = False,
    raw: Raw = False,
    as_json: AsJson = False,
) -> None:
    """Show all there is to know of an item's message, waiting or dead."""
    from sync_defs.inbox.operators import find_messages

    if [external_id is not None, message is not None].count(True) != 1:
        raise typer.BadParameter("give either ID or --message ID.", ctx=ctx)
    if raw and (payload or as_json):
        raise typer.BadParameter("--raw excludes --payload and --json.", ctx=ctx)
    require_job = deployment_of(ctx).job
    found = find_messages(_open(ctx), job, external_id=external_id, message_id=message, require_job=require_job)
    if raw:
        if len(found) > 1:
            raise typer.BadParameter(f"the message has {len(found)} items; give the ID of one.", ctx=ctx)
        sys.stdout.buffer.write(found[0].payload)
        sys.stdout.flush()
    elif as_json:
        shown = [_whole_dict(entry, with_payload=payload) for entry in found]
        say_json(shown if len(shown) > 1 else shown[0])
    else:
        for number, entry in enumerate(found):
            if number:
                say("")
            _show_whole(entry, with_payload=payload)


@app.command()
def retry(
    ctx: typer.Context, job: JobName, external_id: OneId = None, message: MessageId = None, every: All = False
) -> None:
    """Make dead messages due again, with all their attempts."""
    _settle(ctx, "retry", job, external_id, message, every=every, done="due again")


@app.command()
def discard(
    ctx: typer.Context, job: JobName, external_id: OneId = None, message: MessageId = None, every: All = False
) -> None:
    """Delete dead messages for good."""
    _settle(ctx, "discard", job, external_id, message, every=every, done="discarded")


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
    decision: str,
    job: str,
    external_id: str | None,
    message: str | None,
    *,
    every: bool,
    done: str,
) -> None:
    from sync_defs.inbox.operators import Decision, settle_dead

    if [external_id is not None, message is not None, every].count(True) != 1:
        raise typer.BadParameter("give one of ID, --message ID and --all.", ctx=ctx)
    settled = settle_dead(
        _open(ctx),
        Decision(decision),
        job,
        external_id=external_id,
        message_id=message,
        require_job=deployment_of(ctx).job,
    )
    say(f"{plural(settled.count, 'message')} {done}")


def _show_whole(message: "QueuedMessage", *, with_payload: bool) -> None:
    facts = _whole_dict(message, with_payload=with_payload)
    text = facts.pop("payload", None)
    for name, value in facts.items():
        say(f"{name.replace('_', ' ')}: {'-' if value is None else value}")
    if isinstance(text, str):
        say("payload:")
        for line in text.splitlines() or [""]:
            say(f"  {line}")
    elif with_payload:
        say("payload: not UTF-8; --raw writes its bytes")


def _whole_dict(message: "QueuedMessage", *, with_payload: bool) -> dict[str, object]:
    facts: dict[str, object] = {**_message_dict(message), "payload_bytes": len(message.payload)}
    if with_payload:
        try:
            facts["payload"] = message.payload.decode()
        except UnicodeDecodeError:
            facts["payload"] = None
    return facts


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
