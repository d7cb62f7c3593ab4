"""The writer of table jobs: set-based, in one transaction."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select

from sync_defs.engine.ports import ChangeCounts, Run, StageHandle, Writer
from sync_defs.errors import OutcomeError
from sync_defs.policies import MissingAction
from sync_defs.results import Action, ItemError, Outcome, SampledChange, SyncResults
from sync_defs.store.database import Database
from sync_defs.store.dialects import Refused
from sync_defs.store.narrow import Narrowing, Step
from sync_defs.store.plain_history import write_history
from sync_defs.store.proof import Shift
from sync_defs.store.rejects import Versions, has_open_rejects, settle_rejects, version_of_text
from sync_defs.store.runs import finish_run
from sync_defs.store.staging import CHANGING, item_error, reject_all, shown, stage_counts, staged_errors
from sync_defs.store.state_header import forget, load_header, move_checksum
from sync_defs.store.statements import MASK, TableStatements

_PASSES = 3
_FEW = 20
"""Single items whose stage is read as a whole in less time than it takes to prepare it."""


class TableWriter(Writer):
    """Writes one staged run of a table job on one connection."""

    def __init__(
        self,
        connection: Connection,
        statements: TableStatements,
        database: Database,
        run: Run,
        handle: StageHandle,
    ) -> None:
        """Work inside the connection's transaction."""
        self._connection = connection
        self._statements = statements
        self._database = database
        self._run = run
        self._handle = handle
        self._is_complete = handle.is_complete
        self._narrowing = Narrowing(connection, database.dialect, statements.stage)
        self._written = Counter[Action]()
        self._written_before = 0
        self._withheld = 0
        self._withheld_reason: str | None = None
        self._missing = 0
        self._delete_errors: list[ItemError] = []
        self._samples: list[SampledChange] = []
        self._is_empty = self._fills = self._has_rejected = False
        self._found = Counter[str | None]()
        self._shift: Shift | None = None

    def judge_missing(self, allow: Callable[[int, int], str | None]) -> None:
        """See `Writer`."""
        # The job's write lock is held: no single-item sync of it commits from here on.
        if not self._run.is_item:
            self._statements.touched_up_to = self._connection.execute(self._statements.last_touched()).scalar() or 0
            self._is_empty = self._fills = is_empty(self._connection, self._statements)
        if not self._is_complete:
            return
        policy = self._statements.policy.action
        self._missing = count_missing(self._connection, self._statements, self._handle)
        if self._missing == 0 or policy is MissingAction.KEEP:
            return
        self._withheld_reason = allow(self._missing, count_rows(self._connection, self._statements, self._handle))
        if self._withheld_reason is None:
            self._connection.execute(self._statements.stage_missing())
        else:
            self._withheld = self._missing

    def sample(self, limit: int) -> None:
        """See `Writer`."""
        actions = (Action.CREATED, Action.UPDATED, Action.DELETED, Action.MARKED)
        self._samples = _samples(self._connection, self._statements, limit, actions)

    def write(self, progress: Callable[[int], None], judge: Callable[[], None] | None = None) -> None:
        """See `Writer`."""
        if self._moves_checksum():
            self._shift = Shift(self._connection, self._statements, is_empty=self._is_empty)
        low, high = self._range()
        removal = self._removal()
        if removal is not None and (self._missing or self._run.is_item):
            self._written[removal.action], refused = self._narrowing.run(low, high, removal)
            self._withhold(refused)
        for _ in range(_PASSES):
            self._found = Counter(stage_counts(self._connection, self._statements.stage))
            written = self._change(high)
            self._written += written
            if sum(self._found[action] for action in CHANGING) == written.total():
                progress(high)
                return
            # Somebody outside wrote the same rows between the classification and now: look again.
            self._written_before += written.total()
            self._fills = False
            self._shift = None  # it was begun with other rows
            self._connection.execute(self._statements.classify())
        raise OutcomeError(f"rows of {self._run.job_name!r} kept changing under {_PASSES} passes; run it again")

    def settle(self) -> ChangeCounts:
        """See `Writer`."""
        found, written = self._found, self._written
        counts = ChangeCounts(
            created=written[Action.CREATED],
            updated=written[Action.UPDATED],
            deleted=written[Action.DELETED],
            marked=written[Action.MARKED],
            unchanged=found[None] - self._written_before,
            skipped=found[Outcome.SKIPPED.value],
            stale=found[Outcome.STALE.value],
            rejected=found[Outcome.REJECTED.value],
            withheld=self._withheld,
            missing=self._missing,
            withheld_reason=self._withheld_reason,
            row_count=self._row_count(),
            samples=self._samples,
        )
        # Of messages, deletions may be rejected too, which are not counted with the records.
        if counts.rejected or self._run.is_item:
            counts.errors = staged_errors(self._connection, self._statements.stage, self._database)
            self._has_rejected = bool(counts.errors)
        counts.errors += self._delete_errors
        return counts

    def finish(self, results: SyncResults, cursor_after: str | None) -> None:
        """See `Writer`."""
        if self._has_rejected or has_open_rejects(self._connection, self._run.job_name):
            self._settle_rejects()
        if not self._run.dry_run:
            self._remember(self._shift.measure() if self._shift is not None else None)
        finish_run(self._connection, self._run, results, cursor_after)

    def _settle_rejects(self) -> None:
        column, mapping = self._statements.version, self._statements.mapping
        versions = None
        if column is not None:
            of_kept = partial(version_of_text, mapping)
            versions = Versions(column=column, of_landed=lambda value: value, of_kept=of_kept)
        settle_rejects(
            self._connection,
            self._statements.stage,
            self._run,
            versions,
            database=self._database,
            is_complete=self._is_complete and self._run.partition is None,
        )

    def _remember(self, shift: int | None) -> None:
        """Keep what the next run may know by; chosen ids that change nothing leave it as it was."""
        job_name = self._run.job_name
        if self._run.is_item:
            if shift:
                move_checksum(self._connection, job_name, shift)
        elif self._handle.has_prints:
            from sync_defs.store.known import remember  # numpy: not for what only takes in messages

            remember(self._connection, self._statements, self._run, self._handle, shift)
        elif self._written.total():
            forget(self._connection, job_name)

    def _row_count(self) -> int | None:
        """Return how many rows the target has now; not of single items, since a count reads the whole table."""
        if self._run.is_item:
            return None
        rows = count_rows(self._connection, self._statements, self._handle)
        if self._handle.row_count is None:
            return rows
        return rows + self._written[Action.CREATED] - self._written[Action.DELETED]

    def _moves_checksum(self) -> bool:
        if self._run.dry_run:
            return False
        if self._run.is_item:
            header = load_header(self._connection, self._run.job_name)
            return header is not None and header.checksum is not None
        return self._handle.has_prints

    def _range(self) -> tuple[int, int]:
        """Return the lowest and the highest number that the stage may have; items are numbered from 1."""
        if self._run.is_item:
            return 1, self._handle.fetched
        seq = self._statements.stage.c.seq
        low, high = self._connection.execute(select(func.min(seq), func.max(seq))).one()
        return (low, high) if low is not None else (1, 0)

    def _removal(self) -> Step | None:
        """Return what the policy has for the rows that the stage lists as missing, or to be deleted."""
        action = self._statements.policy.action
        if action is MissingAction.KEEP:
            return None
        return self._step(Action.MARKED if action is MissingAction.MARK else Action.DELETED)

    def _change(self, high: int) -> Counter[Action]:
        """Update, then insert: what a row gives up by its update, a new one may have."""
        if self._fills:
            # No row is in the way, but of a key without a unique index the next run could not say so.
            self._connection.execute(self._statements.insert_nothing())
        written = Counter[Action]()
        for action in (Action.UPDATED, Action.CREATED):
            if self._found[action.value]:
                written[action], refused = self._narrowing.run(1, high, self._step(action))
                reject_all(self._connection, self._statements.stage, refused)
                self._found[action.value] -= len(refused)
                self._found[Outcome.REJECTED.value] += len(refused)
        return written

    def _step(self, action: Action) -> Step:
        is_creation = action is Action.CREATED
        is_logged = self._statements.mapping.job.history or self._run.is_item
        if not is_logged or (is_creation and self._is_empty):
            write_all = self._statements.filling() if is_creation and self._fills else None
            statements = self._statements.writing(action, with_history=False)
            return Step(action=action, statements=statements, write_all=write_all)
        with_history = self._database.dialect.builds_json
        statements = self._statements.writing(action, with_history=with_history)
        keep = None if with_history else partial(write_history, self._connection, self._statements, [action])
        return Step(action=action, statements=statements, values=self._statements.values, keep_history=keep)

    def _withhold(self, refused: Refused) -> None:
        stage = self._statements.stage
        reject_all(self._connection, stage, [(seq, error) for seq, error in refused if seq > 0])
        for seq, error in refused:
            if seq > 0:
                continue
            statement = select(stage.c.external_id).where(stage.c.seq == seq)
            external_id = self._connection.execute(statement).scalar_one()
            self._withheld += 1
            self._withheld_reason = "the database refuses some deletes"
            reason = f"cannot delete the row: {error.reason}"
            self._delete_errors.append(item_error(self._database, external_id, reason, error.code, error.field))


def count_missing(connection: Connection, statements: TableStatements, handle: StageHandle) -> int:
    """Return how many rows a complete fetch lacked."""
    if handle.missing is not None and statements.policy.action is MissingAction.KEEP:
        return handle.missing
    return int(connection.execute(statements.count_missing()).scalar_one())


def count_rows(connection: Connection, statements: TableStatements, handle: StageHandle) -> int:
    """Return how many rows the target had beside the fetch, or has now if they were not counted there."""
    if handle.row_count is not None:
        return handle.row_count
    return int(connection.execute(statements.count_rows()).scalar_one())


def expected_without_state(connection: Connection, statements: TableStatements) -> str | None:
    """Return what most records of a fetch will be where nothing is known of them: new, if the target is empty."""
    return Outcome.CREATED.value if is_empty(connection, statements) else None


def is_empty(connection: Connection, statements: TableStatements) -> bool:
    """Tell whether the target has no row, without counting them."""
    return connection.execute(statements.has_rows()).first() is None


def diff_table(
    connection: Connection, statements: TableStatements, *, may_repeat: bool, sample_size: int
) -> ChangeCounts:
    """Classify a stage and return what an upsert would do; writes to the stage only.

    `may_repeat` is whether a key may be in the stage more than once.
    """
    is_first_load = is_empty(connection, statements)
    statements.dialect.prepare_stage(connection, statements.stage, ["v0", "external_id"], is_first_load=is_first_load)
    classify(connection, statements, may_repeat=may_repeat)
    found = stage_counts(connection, statements.stage)
    counts = ChangeCounts(unchanged=found.get(None, 0))
    for outcome in set(Outcome) - {Outcome.UNCHANGED}:
        setattr(counts, outcome.value, found.get(outcome.value, 0))
    counts.samples = _samples(connection, statements, sample_size) if counts.updated else []
    return counts


def diff_items(connection: Connection, statements: TableStatements, items: int) -> None:
    """Classify the stage of so many single items; what becomes of them is told once they are written."""
    if items > _FEW:
        statements.dialect.prepare_stage(connection, statements.stage, ["v0", "external_id"])
    classify(connection, statements, may_repeat=items > 1)


def classify(connection: Connection, statements: TableStatements, *, may_repeat: bool) -> None:
    """Write into a stage what is to be done with each record; of a key that it has several times, with one of them."""
    if may_repeat and connection.execute(statements.has_duplicates()).first() is not None:
        connection.execute(statements.skip_duplicates())
    connection.execute(statements.classify())


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
