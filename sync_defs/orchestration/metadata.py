"""The results of a run as Dagster metadata: numbers that are plotted over time, and bounded tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import dagster as dg

from sync_defs.inbox import Counts, QueuedMessage
from sync_defs.inbox.drain import DrainResults
from sync_defs.orchestration.names import CHECK_NAME
from sync_defs.results import Action, ItemResult, SyncResults

PREFIX: Final = "sync_defs/"
TABLE_ROWS: Final = 100
"""Most rows of a table: metadata is one JSON text in the event's row."""
COUNTS: Final = (
    "fetched",
    "created",
    "updated",
    "unchanged",
    "skipped",
    "stale",
    "rejected",
    "deleted",
    "marked",
    "withheld",
    "missing",
)

Metadata = dict[str, Any]


def results_metadata(results: SyncResults, asset: dg.AssetKey) -> Metadata:
    """Return everything there is to say of a run; counts of 0 are said too, so that plots have no gaps."""
    return {
        f"{PREFIX}summary": results.summary(),
        **({"dagster/row_count": results.row_count} if results.row_count is not None else {}),
        **_rejects(results, asset),
        **_named(results, COUNTS),
        f"{PREFIX}duration_ms": results.duration_ms,
        f"{PREFIX}rows_per_second": results.rows_per_second,
        **_optional(results, ("withheld_reason", "cursor_before", "cursor_after")),
        **({f"{PREFIX}not_in_source": absent_table(results)} if results.not_in_source else {}),
        f"{PREFIX}fetch": _extent(results),
        **_optional(results, ("partition",)),
        f"{PREFIX}trigger": results.trigger.value,
        f"{PREFIX}run_id": results.run_id,
        **({f"{PREFIX}changes": changes_table(results)} if results.samples else {}),
    }


def drain_summary(results: DrainResults) -> str:
    """Return the one line that closes a drain; counts of 0 are left out."""
    parts = [f"{count} {action}" for action, count in results.actions.items() if action is not Action.REJECTED]
    messages = "message" if results.applied == 1 else "messages"
    line = f"{results.name}: {results.applied} {messages} applied"
    notes = [f"{line} = {' + '.join(parts)}" if parts else line]
    notes += [f"{results.retried} failed attempts, to be repeated"] if results.retried else []
    notes += [f"{results.dead} given up as dead letters"] if results.dead else []
    other = results.rejected - results.retried - results.dead
    notes += [f"{other} rejected"] if other else []
    return "; ".join(notes)


def drain_metadata(results: DrainResults) -> Metadata:
    """Return what a drain did, under the keys that a run of the asset uses."""
    duration = results.completed_at - results.started_at
    is_sorted = results.rejected == results.retried + results.dead
    return {
        f"{PREFIX}summary": drain_summary(results),
        **{PREFIX + action.value: results.actions.get(action, 0) for action in Action},
        **({f"{PREFIX}retried": results.retried, f"{PREFIX}dead": results.dead} if is_sorted else {}),
        f"{PREFIX}transactions": results.transactions,
        f"{PREFIX}duration_ms": int(duration.total_seconds() * 1000),
        f"{PREFIX}trigger": results.trigger.value,
        f"{PREFIX}run_id": results.run_id,
        f"{PREFIX}items": items_table(results.items),
    }


def inbox_metadata(counts: Counts, dead: Sequence[QueuedMessage]) -> Metadata:
    """Return what the check of an inbox says: how many messages are dead and how many wait, and which are dead."""
    waiting = counts.ready + counts.leased + counts.later
    return {
        f"{PREFIX}dead": dg.MetadataValue.int(counts.dead),
        f"{PREFIX}waiting": dg.MetadataValue.int(waiting),
        f"{PREFIX}oldest_due_age_s": dg.MetadataValue.float(counts.oldest_due_age_s),
        **({f"{PREFIX}dead_messages": messages_table(dead)} if dead else {}),
    }


def messages_table(messages: Sequence[QueuedMessage]) -> dg.TableMetadataValue:
    """Return queue rows without their payloads; one without an external id is named by its message's."""
    rows = [
        [
            message.job,
            message.external_id or "",
            message.message_id or "",
            message.state.value,
            message.code or "",
            message.error or "",
            str(message.attempts),
            message.received_at.isoformat(timespec="seconds"),
        ]
        for message in messages
    ]
    return text_table(("job", "external_id", "message_id", "state", "code", "reason", "attempts", "received"), rows)


def depth_table(depth: Mapping[str, Counts]) -> dg.TableMetadataValue:
    """Return how many messages stand where, a row for each job."""
    rows = [
        [job, *map(str, (found.ready, found.leased, found.later, found.dead)), f"{found.oldest_due_age_s:.0f}"]
        for job, found in depth.items()
    ]
    return text_table(("job", "ready", "claimed", "later", "dead", "oldest_ready_age_s"), rows)


def rejects_table(results: SyncResults) -> dg.TableMetadataValue:
    """Return the first rejected records with the reason, never with the value."""
    rows = [
        [e.external_id or "", e.field or "", e.code, e.message.removeprefix(f"{e.field}: ")] for e in results.errors
    ]
    return text_table(("external_id", "field", "code", "reason"), rows)


def changes_table(results: SyncResults) -> dg.TableMetadataValue:
    """Return the sampled changes, one row for each changed column."""
    rows = [
        [sample.external_id, column, _shown(old), _shown(new)]
        for sample in results.samples
        for column, (old, new) in sample.changes.items()
    ]
    return text_table(("external_id", "column", "old", "new"), rows)


def absent_table(results: SyncResults) -> dg.TableMetadataValue:
    """Return the first chosen ids that the source does not have."""
    return text_table(("external_id",), [[external_id] for external_id in results.ids_not_in_source])


def items_table(items: Iterable[ItemResult]) -> dg.TableMetadataValue:
    """Return what became of single items, each once, by its last attempt."""
    last = {item.external_id or number: item for number, item in enumerate(items)}
    rows = [[item.external_id or "", item.action.value, item.message or ""] for item in last.values()]
    return text_table(("external_id", "action", "reason"), rows)


def _rejects(results: SyncResults, asset: dg.AssetKey) -> Metadata:
    if not results.errors:
        return {}
    page = f"/assets/{'/'.join(asset.path)}?view=checks&checkDetail={CHECK_NAME}"
    return {f"{PREFIX}rejected_records": rejects_table(results), f"{PREFIX}rejects": dg.MetadataValue.url(page)}


def _named(results: SyncResults, names: Sequence[str]) -> Metadata:
    return {PREFIX + name: getattr(results, name) for name in names}


def _optional(results: SyncResults, names: Sequence[str]) -> Mapping[str, str]:
    return {name: value for name, value in _named(results, names).items() if value is not None}


def _extent(results: SyncResults) -> str:
    if results.full:
        return "everything" if results.partition is None else f"everything of partition {results.partition}"
    return "chosen external ids" if results.cursor_before is None else "what changed since the cursor"


def _shown(value: str | None) -> str:
    return "NULL" if value is None else value


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> dg.TableMetadataValue:
    """Return the first rows of a table of texts."""
    return dg.TableMetadataValue(
        records=[dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows[:TABLE_ROWS]],
        schema=dg.TableSchema(columns=[dg.TableColumn(name, type="string") for name in columns]),
    )
