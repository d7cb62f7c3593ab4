"""What the page of an asset says of the job itself: the target's columns, the mapping, and the policies."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import dagster as dg
from sqlalchemy import Column, Table

from sync_defs.job import Job, SyncJob, TableSync
from sync_defs.orchestration.metadata import PREFIX, Metadata, text_table
from sync_defs.policies import Delivery


def definition_metadata(job: Job, *, checks: Sequence[str]) -> Metadata:
    """Return what the asset's page says of the job itself; `checks` are the names of those that it has."""
    metadata: Metadata = {f"{PREFIX}policies": text_table(("policy", "value"), _policies(job, checks))}
    if isinstance(job, TableSync):
        metadata[f"{PREFIX}fields"] = text_table(("column", "field", "masked"), _fields(job))
    table = _target(job)
    if table is not None:
        metadata["dagster/table_name"] = table.fullname
        metadata["dagster/column_schema"] = dg.TableSchema(columns=[_column(column) for column in table.columns])
    return metadata


def _target(job: Job) -> Table | None:
    """Return the job's table; of a job of callbacks, the one that it creates, if it is one."""
    if isinstance(job, TableSync):
        return job.target
    if isinstance(job, SyncJob) and len(job.create_tables) == 1:
        return getattr(job.create_tables[0], "__table__", job.create_tables[0])
    return None


def _column(column: Column[Any]) -> dg.TableColumn:
    is_unique = column.unique or [c.name for c in column.table.primary_key] == [column.name]
    constraints = dg.TableColumnConstraints(nullable=bool(column.nullable), unique=bool(is_unique))
    return dg.TableColumn(
        column.name, type=str(column.type).lower(), description=column.comment, constraints=constraints
    )


def _policies(job: Job, checks: Sequence[str]) -> list[tuple[str, str]]:
    """Return what the job does by itself, in the words of its options."""
    policy, schedule = job.missing_policy, job.cron_schedule
    guard = f"withheld above {job.max_delete_rows} rows and {job.max_delete_fraction:.0%}"
    retries = f"{job.retries.times} times, first after {job.retries.first_wait_s:g} s, or as the source asks"
    told = {
        "schedule": f"{schedule} ({job.timezone})" if schedule else "none",
        "fetch": "what changed since the cursor" if job.is_incremental else "everything",
        **({"partitions": str(job.partitions_def)} if job.is_partitioned else {}),
        "on_missing": f"{policy.action}: {policy.column} = {policy.value}" if policy.column else str(policy.action),
        "deletes": guard,
        "rejected": f"the run stops above {job.max_rejected_fraction:.0%} of at least 20 records",
        "retries": retries if job.retries.times else "none",
        "verify": _VERIFY.get(job.verify, f"in every {job.verify}th run"),
        "history": "each change" if job.history else "changes by single items only",
        "checks": ", ".join(checks) or "none",
    }
    if job.webhook is not None:
        told["webhook"] = f"/webhooks/{job.name}, signed by {job.webhook.scheme}, applied {_APPLIED[job.delivery]}"
    return list(told.items())


_APPLIED: Final[Mapping[str, str]] = {Delivery.RUN: "in a run", Delivery.INLINE: "at once"}
_VERIFY: Final[Mapping[int | None, str]] = {
    None: "where the target may have drifted",
    0: "never",
    1: "in every run",
}


def _fields(job: TableSync) -> list[tuple[str, str, str]]:
    """Return which column follows which field of the source; the key is the first."""
    roles = {job.key_column: " (key)", job.version: " (version)"}
    return [
        (column, f"{field.source}{roles.get(column, '')}", "yes" if field.mask else "")
        for column, field in (job.key | job.fields).items()
    ]
