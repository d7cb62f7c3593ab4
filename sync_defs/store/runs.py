"""`sync_runs`, `sync_leases` and `sync_cursors`: who runs a job, how runs ended, and where fetches go on."""

import hashlib
import json
import time
import uuid
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, func, insert, literal, or_, select, true, update

from sync_defs.engine.ports import Run, RunRequest
from sync_defs.errors import BusyError, ConfigurationError, LeaseLostError
from sync_defs.job import Job
from sync_defs.results import Action, ItemError, Outcome, RunStatus, SampledChange, SyncResults, Trigger
from sync_defs.store.database import Database
from sync_defs.store.renewal import renewing
from sync_defs.store.schema import UtcDateTime, changes, cursors, leases, runs

LEASE_S = 60
_RENEW_S = 15
_POLL_S = 0.25


def sync_lease(job_name: str, partition: str | None = None) -> str:
    """Return the name of the lease that keeps full syncs of a job, or of one of its partitions, apart."""
    if partition is None:
        return f"sync:{job_name}"
    return f"sync:{job_name}#{hashlib.sha256(partition.encode()).hexdigest()[:11]}"


def write_lock(job_name: str) -> str:
    """Return the name of the row that every writing transaction of a job locks."""
    return f"write:{job_name}"


def new_run(database: Database, job: Job, request: RunRequest) -> Run:
    """Return a run that is not recorded yet."""
    run_id = request.run_id or uuid.uuid4().hex
    return Run(
        run_id=run_id,
        job_name=job.name,
        trigger=request.trigger,
        dry_run=request.dry_run,
        is_full=not request.external_ids,
        stage=f"sync_stage_{uuid.uuid5(uuid.NAMESPACE_OID, f'{job.name}/{run_id}').hex}",
        watermark=0,
        cursor_before=None,
        started_at=database.now(),
        partition=request.partition,
    )


def take_lease(database: Database, job: Job, run: Run, request: RunRequest) -> None:
    """Take the job's lease, waiting for another holder for as long as the request says.

    Raises:
        BusyError: the other holder stayed.
    """
    deadline = time.monotonic() + request.wait_s
    while True:
        busy = _try_lease(database, job, run, request.holder or "another process")
        if busy is None:
            return
        if time.monotonic() >= deadline:
            raise busy
        time.sleep(_POLL_S)


def _try_lease(database: Database, job: Job, run: Run, holder: str) -> BusyError | None:
    name = sync_lease(job.name, run.partition)
    with database.write() as connection:
        ensure_lock(database, connection, name)
        row = connection.execute(
            select(leases).where(leases.c.name == name).with_for_update(skip_locked=True)
        ).one_or_none()
        now = database.now()
        if row is None:
            return BusyError(job.name, "a run that is writing", LEASE_S)
        if row.token not in (None, run.run_id) and row.expires_at > now:
            return BusyError(job.name, row.holder, (row.expires_at - now).total_seconds())
        values = {"token": run.run_id, "holder": holder[:255], "expires_at": now + timedelta(seconds=LEASE_S)}
        connection.execute(update(leases).where(leases.c.name == name).values(values))
    return None


def ensure_lock(database: Database, connection: Connection, name: str) -> None:
    """Make sure that a row to lock exists."""
    database.dialect.insert_absent(connection, leases, {"name": name})


def lock_writing(database: Database, connection: Connection, job_name: str) -> None:
    """Exclude every other writing transaction of the job until this one ends."""
    name = write_lock(job_name)
    locked = select(leases.c.name).where(leases.c.name == name).with_for_update()
    if connection.execute(locked).first() is None:
        ensure_lock(database, connection, name)
        connection.execute(locked)


def check_lease(connection: Connection, run: Run) -> None:
    """Make sure, under lock, that the run still holds its job.

    Raises:
        LeaseLostError: another run has taken the job over.
    """
    name = sync_lease(run.job_name, run.partition)
    token = connection.execute(select(leases.c.token).where(leases.c.name == name).with_for_update()).scalar()
    if token != run.run_id:
        raise LeaseLostError(f"run {run.run_id} of {run.job_name!r} lost its lease to another run; nothing was written")


def release_lease(connection: Connection, run: Run) -> None:
    """Let the job go, if the run still holds it."""
    held = (leases.c.name == sync_lease(run.job_name, run.partition), leases.c.token == run.run_id)
    connection.execute(update(leases).where(*held).values(token=None, expires_at=None, holder=None))


def renewing_lease(database: Database, run: Run) -> AbstractContextManager[None]:
    """Renew the run's lease from a thread until the block ends."""

    def renew() -> None:
        held = (leases.c.name == sync_lease(run.job_name, run.partition), leases.c.token == run.run_id)
        expires_at = database.now() + timedelta(seconds=LEASE_S)
        with database.write() as connection:
            connection.execute(update(leases).where(*held).values(expires_at=expires_at))

    return renewing(renew, every_s=_RENEW_S, name=f"lease-{run.job_name}")


def record_run(database: Database, connection: Connection, job: Job, run: Run, request: RunRequest) -> Run:
    """Write the run's row, with the cursor and the watermark as they are now; an earlier try is replaced."""
    lock_writing(database, connection, job.name)
    watermark = connection.execute(select(func.coalesce(func.max(changes.c.id), 0))).scalar_one()
    stored = connection.execute(select(cursors.c.value).where(cursors.c.job == job.name)).scalar()
    uses_cursor = job.is_incremental and not request.full and not request.external_ids
    begins_at = request.since if request.since is not None else stored
    run = replace(
        run,
        watermark=int(watermark),
        cursor_before=begins_at if uses_cursor else None,
        is_full=not request.external_ids and not (uses_cursor and begins_at is not None),
    )
    insert_run(connection, run)
    return run


def insert_run(connection: Connection, run: Run, **more: Any) -> None:
    """Insert the run's row, with more of its columns, in place of an earlier one of the same id."""
    connection.execute(delete(runs).where(runs.c.run_id == run.run_id))
    values = {
        "run_id": run.run_id,
        "job": run.job_name,
        "trigger": run.trigger.value,
        "status": run.status.value,
        "dry_run": run.dry_run,
        "is_full": run.is_full,
        "stage": None if run.is_item else run.stage,
        "watermark": run.watermark,
        "cursor_before": run.cursor_before,
        "started_at": run.started_at,
    }
    connection.execute(insert(runs).values(values | more))


def abandoned_runs(connection: Connection, run: Run, now: datetime) -> list[Any]:
    """Return runs of the job that never ended, or died between their commit and the end of their stage.

    Those of other partitions that still hold their leases are at work.
    """
    at_work = select(leases.c.token).where(leases.c.token.is_not(None), leases.c.expires_at > now)
    unfinished = or_(runs.c.status == RunStatus.RUNNING.value, runs.c.stage.is_not(None))
    of_others = and_(runs.c.job == run.job_name, runs.c.run_id != run.run_id, runs.c.run_id.not_in(at_work))
    return list(connection.execute(select(runs.c.run_id, runs.c.stage, runs.c.status).where(of_others, unfinished)))


def note_confirmed(connection: Connection, stage: Table, run: Run, now: datetime) -> None:
    """Write a history entry for items that found their row equal: they too outrank a fetch that began before."""
    is_unchanged = or_(stage.c.action.is_(None), stage.c.action == Outcome.UNCHANGED.value)
    confirmed = select(
        literal(run.job_name),
        stage.c.external_id,
        literal(run.run_id),
        true(),
        literal(Outcome.UNCHANGED.value),
        literal(now, UtcDateTime()),
    ).where(is_unchanged)
    names = ["job", "external_id", "run_id", "is_item", "action", "changed_at"]
    connection.execute(insert(changes).from_select(names, confirmed))


def load_run(database: Database, run_id: str) -> Run:
    """Return a run by id.

    Raises:
        ConfigurationError: there is no such run.
    """
    with database.read() as connection:
        row = connection.execute(select(runs).where(runs.c.run_id == run_id)).one_or_none()
    if row is None:
        raise ConfigurationError(f"there is no run {run_id!r} in sync_runs", code="unknown_run")
    return Run(
        run_id=row.run_id,
        job_name=row.job,
        trigger=Trigger(row.trigger),
        dry_run=row.dry_run,
        is_full=row.is_full,
        stage=row.stage or "",
        watermark=row.watermark,
        cursor_before=row.cursor_before,
        started_at=row.started_at,
        status=RunStatus(row.status),
        results=results_from_json(row.results) if row.results else None,
    )


def recent_results(database: Database, job_name: str | None = None, *, limit: int = 20) -> list[SyncResults]:
    """Return the results of ended runs, the newest first."""
    statement = select(runs.c.results).where(runs.c.results.is_not(None))
    if job_name is not None:
        statement = statement.where(runs.c.job == job_name)
    with database.read() as connection:
        texts = connection.execute(statement.order_by(runs.c.started_at.desc()).limit(limit)).scalars()
        return [results_from_json(text) for text in texts]


def finish_run(connection: Connection, run: Run, results: SyncResults, cursor_after: str | None) -> None:
    """Write a run's results and, if it moved, the job's cursor; a failure leaves results that were committed.

    These stand where the connection broke between a commit and its reply, so that the run took it for a failure. A
    single-item sync gets its row only now: nobody sees it before the commit.
    """
    text = json.dumps(results.to_dict())
    values = {"status": results.status.value, "completed_at": results.completed_at, "results": text}
    if run.is_item:
        report_due_at = results.completed_at + timedelta(seconds=run.report_after_s)
        insert_run(connection, run, **values, report_due_at=report_due_at)
        return
    statement = update(runs).where(runs.c.run_id == results.run_id).values(values)
    if results.status is RunStatus.FAILED:
        statement = statement.where(runs.c.status != RunStatus.SUCCEEDED.value)
    connection.execute(statement)
    if cursor_after is not None:
        _store_cursor(connection, results, cursor_after)


def _store_cursor(connection: Connection, results: SyncResults, value: str) -> None:
    values = {"value": value, "run_id": results.run_id, "updated_at": results.completed_at}
    connection.execute(delete(cursors).where(cursors.c.job == results.name))
    connection.execute(insert(cursors).values(job=results.name, **values))


def results_from_json(text: str) -> SyncResults:
    """Read what `SyncResults.to_dict` wrote."""
    plain: dict[str, Any] = json.loads(text)
    for name in ("started_at", "completed_at"):
        plain[name] = datetime.fromisoformat(plain[name])
    plain["status"], plain["trigger"] = RunStatus(plain["status"]), Trigger(plain["trigger"])
    for error in plain["errors"]:
        error["timestamp"] = datetime.fromisoformat(error["timestamp"])
    plain["errors"] = [ItemError(**error) for error in plain["errors"]]
    plain["samples"] = [
        SampledChange(
            external_id=sample["external_id"],
            action=Action(sample.get("action", "updated")),
            changes={column: (old, new) for column, (old, new) in sample["changes"].items()},
        )
        for sample in plain["samples"]
    ]
    return SyncResults(**plain)
