"""The writer of table jobs: set-based, in one transaction."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from sync_defs.engine.ports import ChangeCounts, Run, Writer
from sync_defs.errors import OutcomeError, RecordError
from sync_defs.policies import MissingAction
from sync_defs.results import Action, ItemError, Outcome, SampledChange, SyncResults
from sync_defs.store.database import Database
from sync_defs.store.narrow import Narrowing
from sync_defs.store.rejects import settle_rejects
from sync_defs.store.runs import finish_run
from sync_defs.store.staging import item_error, reject, shown, stage_counts, staged_errors
from sync_defs.store.statements import MASK, TableStatements

_PASSES = 3


class TableWriter(Writer):
    """Writes one staged run of a table job on one connection."""

    def __init__(
        self,
        connection: Connection,
        statements: TableStatements,
        database: Database,
        run: Run,
        *,
        is_complete: bool,
    ) -> None:
        """Work inside the connection's transaction."""
        self._connection = connection
        self._statements = statements
        self._database = database
        self._run = run
        self._is_complete = is_complete
        self._narrowing = Narrowing(connection, database.dialect)
        self._written = Counter[Action]()
        self._written_before = 0
        self._withheld = 0
        self._withheld_reason: str | None = None
        self._missing = 0
        self._delete_errors: list[ItemError] = []
        self._logs_creations = True
        self._samples: list[SampledChange] = []

    def judge_missing(self, allow: Callable[[int, int], str | None]) -> None:
        """See `Writer`."""
        rows = self._count(self._statements.count_rows())
        self._logs_creations = rows > 0 or self._run.is_item
        if not self._is_complete:
            return
        self._missing = self._count(self._statements.count_missing())
        policy = self._statements.policy.action
        if self._missing == 0 or policy is MissingAction.KEEP:
            return
        self._withheld_reason = allow(self._missing, rows)
        if self._withheld_reason is None:
            self._connection.execute(self._statements.stage_missing())
        else:
            self._withheld = self._missing

    def sample(self, limit: int) -> None:
        """See `Writer`."""
        actions = (Action.CREATED, Action.UPDATED, Action.DELETED, Action.MARKED)
        self._samples = _samples(self._connection, self._statements, limit, actions)

    def write(self, progress: Callable[[int], None]) -> None:
        """See `Writer`."""
        low, high = self._range()
        self._written += self._narrowing.run(low, high, self._remove, self._withhold)
        for _ in range(_PASSES):
            written = self._narrowing.run(1, high, self._change, self._reject)
            self._written += written
            found = stage_counts(self._connection, self._statements.stage)
            if found.get(Outcome.CREATED, 0) + found.get(Outcome.UPDATED, 0) == written.total():
                progress(high)
                return
            # Somebody outside wrote the same rows between the classification and now: look again.
            self._written_before += written.total()
            self._connection.execute(self._statements.forget())
            self._connection.execute(self._statements.classify())
        raise OutcomeError(f"rows of {self._run.job_name!r} kept changing under {_PASSES} passes; run it again")

    def settle(self) -> ChangeCounts:
        """See `Writer`."""
        found = stage_counts(self._connection, self._statements.stage)
        written = self._written
        counts = ChangeCounts(
            created=written[Action.CREATED],
            updated=written[Action.UPDATED],
            deleted=written[Action.DELETED],
            marked=written[Action.MARKED],
            unchanged=found.get(None, 0) - self._written_before,
            skipped=found.get(Outcome.SKIPPED, 0),
            stale=found.get(Outcome.STALE, 0),
            rejected=found.get(Outcome.REJECTED, 0),
            withheld=self._withheld,
            missing=self._missing,
            withheld_reason=self._withheld_reason,
            row_count=self._count(self._statements.count_rows()),
            samples=self._samples,
        )
        counts.errors = [*staged_errors(self._connection, self._statements.stage, self._database), *self._delete_errors]
        return counts

    def finish(self, results: SyncResults, cursor_after: str | None) -> None:
        """See `Writer`."""
        settle_rejects(
            self._connection,
            self._statements.stage,
            job=self._run.job_name,
            run_id=self._run.run_id,
            now=self._database.now(),
            is_complete=self._is_complete,
        )
        finish_run(self._connection, results, cursor_after)

    def _count(self, statement: Any) -> int:
        return int(self._connection.execute(statement).scalar_one())

    def _range(self) -> tuple[int, int]:
        seq = self._statements.stage.c.seq
        low, high = self._connection.execute(select(func.min(seq), func.max(seq))).one()
        return (low, high) if low is not None else (1, 0)

    def _remove(self, low: int, high: int) -> Counter[Action]:
        where = self._statements.between(low, high)
        self._history([Action.DELETED, Action.MARKED], where)
        written = Counter({Action.DELETED: self._execute(self._statements.delete(where))})
        if self._statements.policy.action is MissingAction.MARK:
            written[Action.MARKED] = self._execute(self._statements.mark(where))
        return written

    def _change(self, low: int, high: int) -> Counter[Action]:
        where = self._statements.between(low, high)
        logged = [Action.UPDATED, Action.CREATED] if self._logs_creations else [Action.UPDATED]
        self._history(logged, where)
        updated = self._execute(self._statements.update(where))
        return Counter({Action.UPDATED: updated, Action.CREATED: self._execute(self._statements.insert(where))})

    def _execute(self, statement: Any) -> int:
        return self._database.dialect.count_written(self._connection, statement)

    def _history(self, actions: list[Action], where: Any) -> None:
        if self._statements.mapping.job.history or self._run.is_item:
            self._connection.execute(self._statements.history(actions, where))

    def _reject(self, seq: int, error: RecordError) -> None:
        reject(self._connection, self._statements.stage, seq, error)

    def _withhold(self, seq: int, error: RecordError) -> None:
        stage = self._statements.stage
        statement = select(stage.c.external_id).where(stage.c.seq == seq)
        external_id = self._connection.execute(statement).scalar_one()
        if seq > 0:
            self._reject(seq, error)
            return
        self._withheld += 1
        self._withheld_reason = "the database refuses some deletes"
        reason = f"cannot delete the row: {error.reason}"
        self._delete_errors.append(item_error(self._database, external_id, reason, error.code, error.field))


def diff_table(connection: Connection, statements: TableStatements, *, sample_size: int) -> ChangeCounts:
    """Classify a stage and return what an upsert would do; writes to the stage only."""
    statements.dialect.prepare_stage(connection, statements.stage, ["v0", "external_id"])
    if connection.execute(statements.has_duplicates()).first() is not None:
        connection.execute(statements.skip_duplicates())
    connection.execute(statements.classify())
    found = stage_counts(connection, statements.stage)
    counts = ChangeCounts(unchanged=found.get(None, 0))
    for outcome in set(Outcome) - {Outcome.UNCHANGED}:
        setattr(counts, outcome.value, found.get(outcome.value, 0))
    counts.samples = _samples(connection, statements, sample_size)
    return counts


def _samples(
    connection: Connection, statements: TableStatements, limit: int, actions: Sequence[Action] = (Action.UPDATED,)
) -> list[SampledChange]:
    if limit <= 0:
        return []
    names = statements.mapping.names[1:]
    samples: list[SampledChange] = []
    rows: Any = connection.execute(statements.samples(limit, actions))
    for external_id, action, *values in rows:
        olds, news = values[: len(names)], values[len(names) :]
        changes = {
            name: (MASK, MASK) if name in statements.mapping.masked else (shown(old), shown(new))
            for name, old, new in zip(names, olds, news, strict=True)
            if old != new
        }
        samples.append(SampledChange(external_id=external_id, action=Action(action), changes=changes))
    return samples
