"""The SQL store: a database that serves the engine's ports."""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any, Final, cast

from sqlalchemy import Column, Connection, MetaData, SingletonThreadPool, Table, inspect, select, update
from sqlalchemy.exc import DBAPIError, NoSuchTableError

from sync_defs.engine.ports import (
    ChangeCounts,
    KnownRecords,
    NoneKnown,
    Run,
    RunRequest,
    Shaper,
    StagedRecord,
    StageHandle,
    Store,
    Writer,
)
from sync_defs.errors import ConfigurationError, LeaseLostError
from sync_defs.job import Job, TableSync, is_callback_job
from sync_defs.policies import MissingAction
from sync_defs.results import Action, ItemResult, Outcome, RunStatus, SampledChange, SyncResults
from sync_defs.store import runs, schema
from sync_defs.store.callback_calls import diff_callbacks
from sync_defs.store.callback_writer import callback_writing
from sync_defs.store.coerce import encode_record
from sync_defs.store.database import Database
from sync_defs.store.frames import frame_pages
from sync_defs.store.mapping import RecordShaper, TableMapping, check_key_type, item_stage_table, stage_table
from sync_defs.store.rejects import has_open_rejects, kept_records
from sync_defs.store.staging import load, load_missing
from sync_defs.store.statements import TableStatements
from sync_defs.store.table_writer import (
    TableWriter,
    count_missing,
    count_rows,
    diff_items,
    diff_table,
    expected_without_state,
)
from sync_defs.store.unchanged_writer import UnchangedWriter

ITEM_SAMPLES: Final = 100
"""Items of one transaction that its results name."""

PREPARED_S: Final = 30.0
"""For how long a target that was as it must be is taken to be so, by one store."""

_IS_MADE = "is made"
"""In the `info` of a stage that is in the database."""


class SqlStore(Store):
    """Stages, targets and bookkeeping of one database."""

    def __init__(self, database: Database) -> None:
        """Work on a database."""
        self.database = database
        # Made once: SQLAlchemy knows a statement that it has compiled by the very tables in it.
        self._mappings: dict[Job, TableMapping] = {}
        self._stages: dict[str, Table] = {}
        self._item_stages: dict[tuple[int, ...], Table] = {}
        self._item_statements: dict[Job, TableStatements] = {}
        self._looked_at: dict[Job | None, float] = {}

    @property
    def takes_threads(self) -> bool:
        """Tell a SQLite in memory from all others: there each thread has a database of its own."""
        return not isinstance(self.database.engine.pool, SingletonThreadPool)

    def now(self) -> datetime:
        """See `Store`."""
        return self.database.now()

    def prepare(self, job: Job) -> None:
        """See `Store`; what was right is looked at again after 30 s, since messages come many a second."""
        self._look(None, self.database.ensure_ready)
        if isinstance(job, TableSync):
            self._look(job, partial(self._check_target, job))
        elif is_callback_job(job):
            self._look(job, partial(self._make_tables, job.create_tables))

    def begin_run(self, job: Job, request: RunRequest) -> Run:
        """See `Store`."""
        run = runs.new_run(self.database, job, request)
        runs.take_lease(self.database, job, run, request)
        try:
            with self.database.write() as connection:
                self._bury_abandoned(connection, run)
                run = runs.record_run(self.database, connection, job, run, request)
                self._stages.pop(run.stage, None)
                self._stage(job, run).drop(connection, checkfirst=True)
        except BaseException:
            with suppress(DBAPIError), self.database.write() as connection:
                runs.release_lease(connection, run)
            raise
        return run

    def load_run(self, run_id: str) -> Run:
        """See `Store`."""
        return runs.load_run(self.database, run_id)

    def holding(self, job: Job, run: Run) -> AbstractContextManager[None]:
        """See `Store`."""
        return runs.renewing_lease(self.database, run)

    def shaper(self, job: Job) -> Shaper:
        """See `Store`."""
        return RecordShaper(job, self.database) if is_callback_job(job) else self._mapping(cast("TableSync", job))

    def frame_pages(self, value: Any) -> Iterator[Sequence[Any]] | None:
        """See `Store`."""
        return frame_pages(value)

    def encode(self, record: Any) -> str:
        """See `Store`."""
        return encode_record(record)

    def kept_rejects(self, job: Job) -> Iterable[Any]:
        """See `Store`."""
        return kept_records(self.database, job.name)

    def stage(
        self, job: Job, run: Run, page: Sequence[StagedRecord], expected: Sequence[str | None] | None = None
    ) -> None:
        """See `Store`."""
        with self._staging(job, run) as connection:
            load(connection, self.database, self._stage(job, run), page, expected)

    def end_fetch(self, job: Job, run: Run, *, is_sifted: bool) -> bool:
        """See `Store`; a reject that the source no longer has is closed by what the stage lacks."""
        if not self._is_made(self._stage(job, run)):
            with self.database.read() as connection:
                if is_sifted and not has_open_rejects(connection, job.name):
                    return False
            with self._staging(job, run):
                pass
        return True

    def known_records(self, job: Job, run: Run, request: RunRequest) -> KnownRecords:
        """See `Store`."""
        stage, stage_missing = self._stage(job, run), partial(self._stage_missing, job, run)
        if is_callback_job(job):
            is_part = job.is_incremental or request.external_ids or request.partition is not None
            if is_part or not job.depends_on_record_alone:
                return NoneKnown()
            from sync_defs.store.known_callbacks import KnownCallbackRows  # numpy: not for what only takes in messages

            return KnownCallbackRows(self.database, stage, job, is_full=request.full, stage_missing=stage_missing)
        statements = self._statements(job, stage, run)
        if job.is_incremental or request.external_ids or request.partition is not None:
            with self.database.read() as connection:
                return NoneKnown(expected=expected_without_state(connection, statements))
        from sync_defs.store.known import KnownRows

        return KnownRows(self.database, statements, is_full=request.full, stage_missing=stage_missing)

    def diff(self, job: Job, run: Run, handle: StageHandle, allow: Callable[[int, int], str | None]) -> ChangeCounts:
        """See `Store`."""
        if not handle.has_stage:
            return ChangeCounts(missing=handle.missing or 0)
        stage = self._stage(job, run)
        with self.database.write() as connection:
            if is_callback_job(job):
                return diff_callbacks(connection, stage, job, self.database)
            statements = self._statements(job, stage, run)
            self.database.dialect.begin_bulk(connection)
            counts = diff_table(connection, statements, may_repeat=handle.may_repeat, sample_size=job.sample_size)
            statements.is_sifted = handle.is_sifted
            if handle.is_complete:
                counts.missing = count_missing(connection, statements, handle)
                if counts.missing and job.missing_policy.action is not MissingAction.KEEP:
                    counts.withheld_reason = allow(counts.missing, count_rows(connection, statements, handle))
                    counts.withheld = counts.missing if counts.withheld_reason else 0
            return counts

    @contextmanager
    def writing(self, job: Job, run: Run, handle: StageHandle) -> Generator[Writer]:
        """See `Store`."""
        with self.database.connect(writes=True) as connection:
            connection.begin()
            try:
                self.database.dialect.begin_upsert(connection)
                self.database.dialect.begin_bulk(connection)
                runs.lock_writing(self.database, connection, job.name)
                runs.check_lease(connection, run)
                with self._writer(connection, self._stage(job, run), job, run, handle) as writer:
                    yield writer
                if run.dry_run:
                    connection.rollback()
                else:
                    connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def end_run(self, job: Job, run: Run, results: SyncResults) -> None:
        """See `Store`."""
        with self.database.write() as connection:
            runs.finish_run(connection, run, results, None)
            self._stages.pop(run.stage, None)
            self._drop_stage(connection, run.run_id, run.stage)
            runs.release_lease(connection, run)

    def apply_items(
        self,
        job: Job,
        run: Run,
        items: Sequence[StagedRecord],
        *,
        keep: Callable[[Any], set[int]] | None,
        settle: Callable[[Any, Sequence[ItemResult]], None] | None,
    ) -> list[ItemResult]:
        """See `Store`."""
        stage = self._item_stage(job)
        with self.database.write() as connection:
            self.database.dialect.begin_upsert(connection)
            runs.lock_writing(self.database, connection, job.name)
            kept = keep(connection) if keep is not None else set(range(len(items)))
            self.database.dialect.create_item_stage(connection, stage, self._held(job))
            load(connection, self.database, stage, [item for number, item in enumerate(items) if number in kept])
            if isinstance(job, TableSync):
                diff_items(connection, self._statements(job, stage, run), len(kept))
            handle = StageHandle(run_id=run.run_id, job_name=job.name, fetched=len(items))
            with self._writer(connection, stage, job, run, handle) as writer:
                writer.judge_missing(lambda _missing, _rows: None)
                writer.write(lambda _done: None)
                results = _item_results(connection, stage, items, kept)
                applied = [result for number, result in enumerate(results) if number in kept]
                self._finish_items(job, run, writer, applied)
            if any(result.action is Action.UNCHANGED for result in applied):
                runs.note_confirmed(connection, stage, run, self.now())
            if settle is not None:
                settle(connection, results)
            self.database.dialect.drop_item_stage(connection, stage)
        return results

    def recent_results(self, job_name: str | None = None, *, limit: int = 20) -> list[SyncResults]:
        """Return the results of ended runs, the newest first."""
        return runs.recent_results(self.database, job_name, limit=limit)

    def _finish_items(self, job: Job, run: Run, writer: Writer, results: list[ItemResult]) -> None:
        counts = writer.settle()
        actions = Counter(result.action.value for result in results)
        outcomes: dict[str, Any] = {outcome.value: actions[outcome.value] for outcome in Outcome}
        now = self.now()
        writer.finish(
            SyncResults(
                name=job.name,
                run_id=run.run_id,
                trigger=run.trigger,
                full=False,
                fetched=sum(outcomes.values()),
                **outcomes,
                deleted=actions[Action.DELETED.value],
                marked=actions[Action.MARKED.value],
                errors=counts.errors,
                samples=_sampled(results),
                started_at=run.started_at,
                completed_at=now,
                duration_ms=int((now - run.started_at).total_seconds() * 1000),
                row_count=counts.row_count,
            ),
            None,
        )

    @contextmanager
    def _staging(self, job: Job, run: Run) -> Generator[Connection]:
        """Open a transaction that writes to the run's stage; the first one makes it.

        Raises:
            LeaseLostError: another run has taken the job over, and nobody would drop the stage.
        """
        stage = self._stage(job, run)
        with self.database.write() as connection:
            if not self._is_made(stage):
                self._make(connection, stage, job, run)
            yield connection
        stage.info[_IS_MADE] = True

    def _make(self, connection: Connection, stage: Table, job: Job, run: Run) -> None:
        runs.check_lease(connection, run)
        self.database.dialect.create_stage(connection, stage, self._held(job))
        if not self.database.dialect.undoes_ddl:  # nor does the lock outlive it
            try:
                runs.check_lease(connection, run)
            except LeaseLostError:
                stage.drop(connection)
                raise

    @staticmethod
    def _is_made(stage: Table) -> bool:
        return _IS_MADE in stage.info

    def _stage_missing(self, job: Job, run: Run, keys: Sequence[tuple[Any, str]]) -> None:
        """Stage rows that a fetch lacked, given as key and external id."""
        if keys:
            with self._staging(job, run) as connection:
                load_missing(connection, self.database, self._stage(job, run), keys)

    def _stage(self, job: Job, run: Run) -> Table:
        if run.stage not in self._stages:
            self._stages[run.stage] = stage_table(run.stage, self.database.dialect, self._held(job))
        return self._stages[run.stage]

    def _item_stage(self, job: Job) -> Table:
        dialect = self.database.dialect
        if not dialect.has_temporary_tables:
            return stage_table(f"sync_stage_{uuid.uuid4().hex}", dialect, self._held(job))
        # Jobs that write the same columns share their statements too. The mapping keeps the columns.
        columns = self._held(job)
        same = tuple(map(id, columns))
        if same not in self._item_stages:
            self._item_stages[same] = item_stage_table(self.database, columns)
        return self._item_stages[same]

    def _mapping(self, job: TableSync) -> TableMapping:
        if job not in self._mappings:
            self._mappings[job] = TableMapping(job, self.database)
        return self._mappings[job]

    def _held(self, job: Job) -> Sequence[Column[Any]]:
        return self._mapping(job).columns if isinstance(job, TableSync) else ()

    def _statements(self, job: Job, stage: Table, run: Run) -> TableStatements:
        mapping = self._mapping(cast("TableSync", job))
        if not run.is_item or not self.database.dialect.has_temporary_tables:
            return TableStatements(mapping, stage, self.database, run)
        if job not in self._item_statements:
            self._item_statements[job] = TableStatements(mapping, stage, self.database, run)
        return self._item_statements[job].for_items(run)

    @contextmanager
    def _writer(
        self, connection: Connection, stage: Table, job: Job, run: Run, handle: StageHandle
    ) -> Generator[Writer]:
        if not handle.has_stage:
            yield UnchangedWriter(connection, run, handle, self._remembering(connection, stage, job, run, handle))
        elif is_callback_job(job):
            with callback_writing(connection, stage, job, self.database, run, handle) as writer:
                yield writer
        else:
            statements = self._statements(job, stage, run)
            statements.is_sifted = handle.is_sifted
            yield TableWriter(connection, statements, self.database, run, handle)

    def _remembering(
        self, connection: Connection, stage: Table, job: Job, run: Run, handle: StageHandle
    ) -> Callable[[], None]:
        """Return what keeps the state of a run that changed nothing."""
        from sync_defs.store import known, known_callbacks  # numpy: not for what only takes in messages

        if is_callback_job(job):
            return partial(known_callbacks.remember, connection, self.database.dialect, stage, job, run, handle)
        return partial(known.remember, connection, self._statements(job, stage, run), run, handle, 0)

    def _look(self, what: Job | None, look: Callable[[], None]) -> None:
        """Look whether a job's tables, or those of the library, are as they must be, unless that was so just now."""
        if time.monotonic() >= self._looked_at.get(what, -PREPARED_S) + PREPARED_S:
            look()
            self._looked_at[what] = time.monotonic()

    def _check_target(self, job: TableSync) -> None:
        table = job.target
        check_key_type(job)
        present = self._columns_there(table)
        if present is None:
            if not job.create_table:
                raise ConfigurationError(
                    f"job {job.name!r}: table {table.fullname!r} does not exist in {self.database.label}; "
                    "create it, or pass create_table=True",
                    code="unknown_table",
                )
            self._make_tables([table])
            return
        absent = [column.name for column in self._mapping(job).columns if column.name not in present]
        if absent:
            raise ConfigurationError(
                f"job {job.name!r}: table {table.fullname!r} in {self.database.label} has no column "
                f"{', '.join(map(repr, absent))}; migrate the table",
                code="unknown_column",
            )

    def _columns_there(self, table: Table) -> set[str] | None:
        """Return the names of the columns that a table has in the database; None: there is no such table."""
        with self.database.read() as connection:
            try:
                found = inspect(connection).get_columns(table.name, schema=table.schema)
            except NoSuchTableError:
                return None
        return {column["name"] for column in found} or None

    def _make_tables(self, tables: Sequence[Any]) -> None:
        """Create those of a job's tables, or mapped classes, that are not there."""
        found = [getattr(table, "__table__", table) for table in tables]
        with self.database.read() as connection:
            inspector = inspect(connection)
            absent = [table for table in found if not inspector.has_table(table.name, schema=table.schema)]
        if absent:
            with self.database.write() as connection:
                for table in absent:
                    table.create(connection, checkfirst=True)

    def _bury_abandoned(self, connection: Connection, run: Run) -> None:
        """End the runs that died, and drop what stages are left: whoever holds the lease knows that they are dead."""
        for dead in runs.abandoned_runs(connection, run, self.now()):
            self._drop_stage(connection, dead.run_id, dead.stage)
            if dead.status == RunStatus.RUNNING:
                ended = {"status": RunStatus.FAILED.value, "completed_at": self.now()}
                connection.execute(update(schema.runs).where(schema.runs.c.run_id == dead.run_id).values(ended))

    def _drop_stage(self, connection: Connection, run_id: str, stage: str) -> None:
        if stage:
            Table(stage, MetaData(), schema=schema.SCHEMA).drop(connection, checkfirst=True)
            connection.execute(update(schema.runs).where(schema.runs.c.run_id == run_id).values(stage=None))


def _sampled(results: Sequence[ItemResult]) -> list[SampledChange]:
    """Return what became of the first items that have an id, without their values."""
    named = [result for result in results if result.external_id is not None]
    return [
        SampledChange(external_id=result.external_id or "", action=result.action, changes={})
        for result in named[:ITEM_SAMPLES]
    ]


def _item_results(
    connection: Connection, stage: Table, items: Sequence[StagedRecord], kept: set[int]
) -> list[ItemResult]:
    rows = connection.execute(select(stage.c.seq, stage.c.action, stage.c.code, stage.c.field, stage.c.reason))
    found = {row.seq: row for row in rows}
    results: list[ItemResult] = []
    for number, item in enumerate(items):
        if number not in kept:
            results.append(ItemResult(action=Action.SKIPPED, external_id=item.external_id))
            continue
        row = found[item.seq]
        action = Action(row.action) if row.action else Action.UNCHANGED
        message = f"{row.field}: {row.reason}" if row.field and row.reason else row.reason
        rejected = action is Action.REJECTED
        results.append(
            ItemResult(
                action=action,
                external_id=item.external_id,
                message=message if rejected else None,
                code=row.code if rejected else None,
            )
        )
    return results
