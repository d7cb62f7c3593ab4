"""The Dagster jobs with which a person sees, retries and discards webhook messages, as `sync-defs inbox` does."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import dagster as dg

from sync_defs.errors import ConfigurationError, UnknownJobError
from sync_defs.inbox import Inbox
from sync_defs.inbox.operators import Decision, require_messages, settle_dead
from sync_defs.orchestration.failures import told_plainly
from sync_defs.orchestration.metadata import PREFIX, TABLE_ROWS, Metadata, depth_table, messages_table
from sync_defs.orchestration.names import DATABASE_KEY, HANDOFF_KEY, INBOX_SHOW_JOB, MAX_RUNTIME_TAG, settle_job
from sync_defs.store import Database

MAX_RUNTIME_S: Final = 3600
_EXTERNAL_ID: Final = dg.Field(
    dg.Noneable(str), default_value=None, description="External id of one item; null: of all items."
)
_MESSAGE_ID: Final = dg.Field(
    dg.Noneable(str),
    default_value=None,
    description="The sender's id of one message, for items without a usable id; null: of all messages.",
)
_SHOW: Final[Mapping[str, dg.Field]] = {
    "job": dg.Field(dg.Noneable(str), default_value=None, description="Only messages of this sync job; null: of all."),
    "external_id": _EXTERNAL_ID,
    "message_id": _MESSAGE_ID,
    "dead": dg.Field(bool, default_value=False, description="Only dead messages."),
}
_SETTLE: Final[Mapping[str, dg.Field]] = {
    "job": dg.Field(str, description="The sync job whose dead messages are meant."),
    "external_id": _EXTERNAL_ID,
    "message_id": _MESSAGE_ID,
    "all": dg.Field(
        bool, default_value=False, description="All dead messages of the job, in place of external_id or message_id."
    ),
}
_DONE: Final[Mapping[Decision, tuple[str, str]]] = {
    Decision.RETRY: ("Makes dead webhook messages due again, with all their attempts.", "due again"),
    Decision.DISCARD: ("Deletes dead webhook messages for good.", "discarded"),
}


def operator_jobs(jobs: Collection[str]) -> list[dg.JobDefinition]:
    """Return the jobs that show, retry and discard messages of all sync jobs; `jobs` are the names of these."""
    known = sorted(jobs)

    def require_job(name: str) -> None:
        if name not in known:
            raise UnknownJobError(name, known)

    def show(inbox: Inbox, config: Mapping[str, Any]) -> tuple[str, Metadata]:
        name = config["job"]
        if name is not None:
            require_messages(inbox, name, require_job)
        chosen = {"external_id": config["external_id"], "message_id": config["message_id"]}
        found = inbox.list_messages(name, **chosen, dead_only=config["dead"], limit=TABLE_ROWS)
        depth = {job: counts for job, counts in sorted(inbox.depth().items()) if name in (None, job)}
        metadata = {f"{PREFIX}inbox": depth_table(depth), f"{PREFIX}messages": messages_table(found)}
        return f"{len(found)} messages shown, at most {TABLE_ROWS}", metadata

    title = "Shows how many webhook messages wait in each job's inbox, and the newest of them, without their payloads."
    return [_operator_job(INBOX_SHOW_JOB, title, _SHOW, show), *(_settle_job(d, require_job) for d in Decision)]


def _settle_job(decision: Decision, require_job: Callable[[str], object]) -> dg.JobDefinition:
    title, done = _DONE[decision]

    def settle(inbox: Inbox, config: Mapping[str, Any]) -> tuple[str, Metadata]:
        external_id, message_id = config["external_id"], config["message_id"]
        if [external_id is not None, message_id is not None, config["all"]].count(True) != 1:
            raise ConfigurationError("give one of external_id, message_id and all: true")
        settled = settle_dead(
            inbox,
            decision,
            config["job"],
            external_id=external_id,
            message_id=message_id,
            require_job=require_job,
        )
        summary = f"{config['job']}: {settled.count} messages {done}"
        metadata = {f"{PREFIX}count": settled.count, f"{PREFIX}messages": messages_table(settled.messages)}
        return summary, metadata

    return _operator_job(settle_job(decision), title, _SETTLE, settle)


def _operator_job(
    name: str,
    title: str,
    fields: Mapping[str, dg.Field],
    act: Callable[[Inbox, Mapping[str, Any]], tuple[str, Metadata]],
) -> dg.JobDefinition:
    # No sync job begins with an underscore, so that no graph of one has the op's name.
    @dg.op(
        name=f"_{name}",
        description=title,
        config_schema=dict(fields),
        required_resource_keys={DATABASE_KEY},
        out=dg.Out(dg.Nothing, io_manager_key=HANDOFF_KEY),
    )
    def operate(context: dg.OpExecutionContext) -> None:
        database: Database = getattr(context.resources, DATABASE_KEY)
        with told_plainly(name):
            database.ensure_ready()
            summary, metadata = act(Inbox(database), context.op_config)
        context.log.info(summary)
        context.add_output_metadata({f"{PREFIX}summary": summary, **metadata})

    @dg.config_mapping(config_schema=dict(fields))
    def launchpad(config: Mapping) -> dict:
        return {"ops": {name: {"config": config}}}

    @dg.job(name=name, description=title, config=launchpad, tags={MAX_RUNTIME_TAG: str(MAX_RUNTIME_S)})
    def run() -> None:
        operate.alias(name)()

    return run
