"""The set-based statements between a stage and its target, built once for a run, or for all single items of a job."""

import copy
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Self

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    true,
    type_coerce,
    update,
)
from sqlalchemy.sql.sqltypes import NullType

from sync_defs.engine.ports import Run
from sync_defs.policies import MissingAction
from sync_defs.results import Action
from sync_defs.store import schema
from sync_defs.store.database import Database
from sync_defs.store.dialects.ranges import in_range
from sync_defs.store.mapping import TableMapping
from sync_defs.store.staging import MISSING, is_candidate

MASK = "***"
_RUN_ID, _CHANGED_AT = "sync_defs_run_id", "sync_defs_changed_at"


class TableStatements:
    """Statements of one table job's run, or of its single items. Each is one round trip."""

    def __init__(self, mapping: TableMapping, stage: Table, database: Database, run: Run) -> None:
        """Bind the columns of both sides."""
        self.mapping = mapping
        self.stage = stage
        self.target = mapping.target
        self.dialect = database.dialect
        self.run = run
        self.policy = mapping.job.missing_policy
        self.key = mapping.columns[0]
        self._values = [stage.columns[f"v{number}"] for number in range(len(mapping.names))]
        self.version = self._values[mapping.version_index] if mapping.version_index is not None else None
        self._is_item = run.is_item
        self.is_sifted = False
        """The fetch left out known records, so that the missing rows are listed in the stage."""
        self.touched_up_to: int | None = None
        """Once no message can come in between: the last number of a change by one, 0 if there is none."""
        self.now = database.now()
        self._clock = database.now
        self._built: dict[Hashable, Any] = {}

    def for_items(self, run: Run) -> Self:
        """Return the same for another sync of single items, which takes longer to build its statements than to run.

        Theirs depend on nothing but the job: what a run has of its own comes as `values`.
        """
        again = copy.copy(self)
        again.run, again.now = run, self._clock()
        return again

    @property
    def values(self) -> dict[str, Any]:
        """Return what the statements of `writing` want bound, beside the range."""
        return {_RUN_ID: self.run.run_id, _CHANGED_AT: self.now}

    @property
    def history_facts(self) -> dict[str, Any]:
        """Return what all history entries of the run have in common."""
        return {
            "job": self.mapping.job.name,
            "run_id": self.run.run_id,
            "is_item": self._is_item,
            "changed_at": self.now,
        }

    def skip_duplicates(self) -> Any:
        """Mark all but the newest (then last) candidate of each key as skipped."""
        s = self.stage.alias("s")
        order: list[Any] = [s.c.seq.desc()]
        if self.mapping.version_index is not None:
            order[:0] = self.dialect.newest_first(s.c[f"v{self.mapping.version_index}"])
        key = self.dialect.exact(s.c.v0)
        ranked = (
            select(s.c.seq, func.row_number().over(partition_by=key, order_by=order).label("place"))
            .where(is_candidate(s), s.c.v0.is_not(None))
            .subquery("ranked")
        )
        is_other = and_(self.stage.c.seq == ranked.c.seq, ranked.c.place > 1)
        return self.dialect.update_from(self.stage, {self.stage.c.action: literal(Action.SKIPPED.value)}, is_other)

    def has_duplicates(self) -> Select[Any]:
        """Ask for one key that is staged several times, or one that the target's collation takes for the same.

        All that is staged counts, so that an index of the keys alone has the answer: MariaDB takes forty times as long
        to look each row up.
        """
        s = self.stage
        return select(s.c.v0).where(s.c.v0.is_not(None)).group_by(s.c.v0).having(func.count() > 1).limit(1)

    def classify(self) -> Any:
        """Write into the stage what is to be done with each candidate, where it says otherwise; NULL is unchanged."""

        def build() -> Any:
            return self.dialect.classify(self.stage, self.target, self._joins, self._judgement, is_candidate)

        return self._once("classify", build)

    def count_rows(self) -> Select[Any]:
        """Count the target's rows, those of the run's partition if it has one."""
        return select(func.count()).select_from(self.target).where(*self._in_partition())

    def has_rows(self) -> Select[Any]:
        """Ask for one row of the target."""
        return select(literal(1)).select_from(self.target).limit(1)

    def count_rows_and_keys(self) -> Select[Any, Any]:
        """Count the target's rows, and those of them that have a key."""
        return select(func.count(), func.count(self.key)).select_from(self.target)

    def is_staged(self) -> ColumnElement[bool]:
        """Tell whether something may be done to a row of the target: all but unchanged ones that the stage has."""
        return self.key.in_(select(self.stage.c.v0).where(self.stage.c.action.is_not(None)))

    def present_keys(self, *, is_unmarked: bool = False) -> Select[Any]:
        """Return the target's keys; only of rows not yet marked."""
        keys = select(self.key).where(self.key.is_not(None))
        marks = is_unmarked and self.policy.action is MissingAction.MARK
        return keys.where(self._is_unmarked()) if marks else keys

    def count_missing(self) -> Select[Any]:
        """Count the rows that a complete fetch did not have."""
        if self.is_sifted:
            return select(func.count()).select_from(self._still_missing().subquery("missing"))
        return select(func.count()).select_from(self.target).where(self._is_missing())

    def stage_missing(self) -> Any:
        """Have the missing rows in the stage, with negative numbers, to be deleted or marked."""
        action = Action.MARKED if self.policy.action is MissingAction.MARK else Action.DELETED
        if self.is_sifted:
            return update(self.stage).where(self.stage.c.seq.in_(self._still_missing())).values(action=action.value)
        rows = select(
            -func.row_number().over(order_by=self.key),
            self.dialect.key_text(self.key),
            literal(action.value),
            true(),
            self.key,
        ).where(self._is_missing())
        return insert(self.stage).from_select(["seq", "external_id", "action", "is_deletion", "v0"], rows)

    def writing(self, action: Action, *, with_history: bool) -> Sequence[Any]:
        """Return what takes an action on the rows of a range of the stage (see `in_range`); history comes first."""
        writes = {
            Action.CREATED: self._insert,
            Action.UPDATED: self._update,
            Action.DELETED: self._delete,
            Action.MARKED: self._mark,
        }

        def build() -> Sequence[Any]:
            where = in_range(self.stage)
            history = [self._history(action, where)] if with_history else []
            return self.dialect.together([*history, writes[action](where)])

        return self._once((action, with_history), build)

    def _history(self, action: Action, where: ColumnElement[bool]) -> Any:
        """Write old and new values of the rows about to change into `sync_changes`."""
        s, is_listed = self._listed(action, where)
        old = self.dialect.json_object(self._pairs(list(self.mapping.columns)))
        new = self.dialect.json_object(self._pairs([s.c[column.key] for column in self._values]))
        rows = (
            select(
                literal(self.mapping.job.name),
                s.c.external_id,
                bindparam(_RUN_ID, type_=String()),
                literal(self._is_item),
                s.c.action,
                bindparam(_CHANGED_AT, type_=schema.UtcDateTime()),
                null() if action is Action.CREATED else old,
                new if action in (Action.CREATED, Action.UPDATED) else null(),
            )
            .select_from(s.outerjoin(self.target, self._joins(s)))
            .where(is_listed, self._wants_write(s))
        )
        names = ["job", "external_id", "run_id", "is_item", "action", "changed_at", "old_values", "new_values"]
        return insert(schema.changes).from_select(names, rows)

    def history_rows(self, actions: Sequence[Action], where: ColumnElement[bool], limit: int) -> Select[Any]:
        """Return number, id, action, old values, then new values of the first rows about to change."""
        s = self.stage
        columns = [*self.mapping.columns, *self._values]
        return (
            select(s.c.seq, s.c.external_id, s.c.action, *[c.label(f"c{number}") for number, c in enumerate(columns)])
            .select_from(s.outerjoin(self.target, self._joins(s)))
            .where(s.c.action.in_([action.value for action in actions]), self._wants_write(s), where)
            .order_by(s.c.seq)
            .limit(limit)
        )

    def _delete(self, where: ColumnElement[bool]) -> Any:
        """Delete the rows that the stage lists for it."""
        return self.dialect.delete_keys(self.target, self.key, self._keys(Action.DELETED, where))

    def _mark(self, where: ColumnElement[bool]) -> Any:
        """Mark the rows that the stage lists for it."""
        s, column = self.stage, self.target.columns[str(self.policy.column)]
        is_marked = and_(self._joins(s), s.c.action == Action.MARKED.value, where)
        return self.dialect.update_from(self.target, {column: literal(self.policy.value, column.type)}, is_marked)

    def _update(self, where: ColumnElement[bool]) -> Any:
        """Update rows that differ and hold no newer version: both are decided here, not before."""
        s, is_listed = self._listed(Action.UPDATED, where)
        pairs = {column: s.c[f"v{number}"] for number, column in enumerate(self.mapping.columns) if number}
        differing = and_(self._joins(s), is_listed, self._wants_update(s))
        return self.dialect.update_from(self.target, pairs, differing)

    def _insert(self, where: ColumnElement[bool]) -> Any:
        """Insert the rows that are not there."""
        s = self.stage
        rows = self._new_rows(where).where(~exists().where(self._joins(s))).order_by(s.c.seq)
        return self.dialect.insert_missing(self.target, self.key.key, self.mapping.names, rows)

    def insert_nothing(self) -> Any:
        """Insert no row, but fail as an INSERT would for which the target lacks an index."""
        return self._insert(false())

    def filling(self) -> Any:
        """Insert the rows of a range into a target that has none, and look for nothing; fails where there is one.

        In random order of keys, an index of the target would be read and written again and again.
        """
        rows = self.dialect.sorted_rows(self._new_rows(in_range(self.stage)), self.stage.c.v0)
        return insert(self.target).from_select(self.mapping.names, rows)

    def _once(self, name: Hashable, build: Callable[[], Any]) -> Any:
        """Build a statement of single items but once; those of a run are made for what the run knows by then."""
        if not self._is_item:
            return build()
        if name not in self._built:
            self._built[name] = build()
        return self._built[name]

    def _new_rows(self, where: ColumnElement[bool]) -> Select[Any]:
        s = self.stage
        return select(*self._values).where(s.c.action == Action.CREATED.value, ~self._is_outranked(s), where)

    def samples(self, limit: int, actions: Sequence[Action]) -> Select[Any]:
        """Return id, action, old values, then new values of the first rows to write."""
        s = self.stage
        columns = [*self.mapping.columns[1:], *self._values[1:]]
        raw = [type_coerce(column, NullType()).label(f"c{number}") for number, column in enumerate(columns)]
        return (
            select(s.c.external_id, s.c.action, *raw)
            .join_from(s, self.target, self._joins(s), isouter=True)
            .where(s.c.action.in_([action.value for action in actions]))
            .order_by(s.c.seq)
            .limit(limit)
        )

    def _pairs(self, columns: Sequence[ColumnElement[Any]]) -> list[tuple[str, ColumnElement[Any]]]:
        masked = self.mapping.masked
        return [
            (name, literal(MASK) if name in masked else column)
            for name, column in zip(self.mapping.names, columns, strict=True)
        ]

    def _joins(self, s: Any) -> ColumnElement[bool]:
        return self.dialect.same_key(self.key, s.c.v0)

    def _listed(self, action: Action, where: ColumnElement[bool]) -> tuple[Any, ColumnElement[bool]]:
        """Return the stage, and which of its rows are listed for an action; in the order of keys where that helps."""
        is_listed = and_(self.stage.c.action == action.value, where)
        return self.dialect.in_order(self.stage, is_listed, self.stage.c.v0)

    def _keys(self, action: Action, where: ColumnElement[bool]) -> Select[Any]:
        return select(self.stage.c.v0).where(self.stage.c.action == action.value, where)

    def _wants_write(self, s: Any) -> ColumnElement[bool]:
        """Repeat what the write statements decide, so that the history has what they write and nothing else."""
        return case(
            (s.c.action == Action.UPDATED.value, self._wants_update(s)),
            (s.c.action == Action.CREATED.value, and_(self.key.is_(None), ~self._is_outranked(s))),
            else_=true(),
        )

    def _wants_update(self, s: Any) -> ColumnElement[bool]:
        return and_(self._differs(s), ~self._is_older(s), ~self._is_outranked(s))

    def _is_outranked(self, s: Any) -> ColumnElement[bool]:
        """Tell whether a message, which saw a newer state than this fetch, has changed the row."""
        return literal(value=False) if self._is_item else self._is_touched(s.c.external_id)

    def _judgement(self, s: Any) -> ColumnElement[Any]:
        absent = self.key.is_(None)
        whens: list[tuple[ColumnElement[bool], Any]] = []
        if not self._is_item:
            whens.append((self._is_touched(s.c.external_id), literal(Action.STALE.value)))
        whens += [
            (and_(s.c.is_deletion, absent), null()),
            (absent, literal(Action.CREATED.value)),
            (self._is_older(s), literal(Action.STALE.value)),
            (s.c.is_deletion, self._deletion()),
            (self._differs(s), literal(Action.UPDATED.value)),
        ]
        return case(*whens, else_=null())

    def _deletion(self) -> ColumnElement[Any]:
        if self.policy.action is MissingAction.KEEP:
            return literal(Action.SKIPPED.value)
        if self.policy.action is MissingAction.DELETE:
            return literal(Action.DELETED.value)
        return case((self._is_unmarked(), literal(Action.MARKED.value)), else_=null())

    def _differs(self, s: Any) -> ColumnElement[bool]:
        return or_(
            false(),
            *[
                self.dialect.differs(s.c[f"v{number}"], column)
                for number, column in enumerate(self.mapping.columns)
                if number
            ],
        )

    def _is_older(self, s: Any) -> ColumnElement[bool]:
        number = self.mapping.version_index
        if number is None:
            return literal(value=False)
        held, given = self.mapping.columns[number], self.dialect.exact(s.c[f"v{number}"])
        unknown = and_(given.is_(None), ~s.c.is_deletion)
        return and_(held.is_not(None), or_(unknown, and_(given.is_not(None), given < held)))

    def _is_missing(self) -> ColumnElement[bool]:
        s = self.stage.alias("seen")
        seen = exists().where(self._joins(s), s.c.seq > 0)
        touched = self._is_touched(self.dialect.key_text(self.key))
        missing = and_(self.key.is_not(None), ~seen, ~touched, *self._in_partition())
        return and_(missing, self._is_unmarked()) if self.policy.action is MissingAction.MARK else missing

    def _in_partition(self) -> list[ColumnElement[bool]]:
        """Return the condition for rows of the run's partition; nothing where they are all its own."""
        of_partition, partition = self.mapping.job.in_partition, self.run.partition
        return [of_partition(self.target, partition)] if of_partition is not None and partition is not None else []

    def _still_missing(self) -> Select[Any]:
        """Return the numbers of the rows listed as missing that are so still.

        Each is looked up by its key, in a subquery: as a join, PostgreSQL would read the whole target.
        """
        s, seen = self.stage.alias("s"), self.stage.alias("seen")
        held = select(self.key).where(self._joins(s))
        if self.policy.action is MissingAction.MARK:
            held = held.where(self._is_unmarked())
        key = held.limit(1).correlate(s).scalar_subquery().label("held")
        listed = select(s.c.seq, s.c.external_id, key).where(s.c.action == MISSING).subquery("listed")
        # A record whose id differs, but not for the target, is the row's all the same.
        is_seen = exists().where(self.dialect.same_key(listed.c.held, seen.c.v0), seen.c.seq > 0)
        is_there = listed.c.held.is_not(None)
        return select(listed.c.seq).where(is_there, ~is_seen, ~self._is_touched(listed.c.external_id))

    def _is_unmarked(self) -> ColumnElement[bool]:
        column = self.target.columns[str(self.policy.column)]
        return self.dialect.differs(literal(self.policy.value, column.type), column)

    def last_touched(self) -> Select[Any]:
        """Ask for the number of the last change that a single-item sync made after the fetch began."""
        return select(func.max(schema.changes.c.id)).where(*self._of_messages())

    def _of_messages(self) -> tuple[ColumnElement[bool], ...]:
        c = schema.changes
        return (c.c.job == self.mapping.job.name, c.c.is_item, c.c.id > self.run.watermark)

    def _is_touched(self, external_id: ColumnElement[Any]) -> ColumnElement[bool]:
        """Tell whether a single-item sync changed the row after the fetch began.

        Asked as a set, not row by row: a history that fills while it is asked has no statistics to plan by.
        """
        c = schema.changes
        if self.touched_up_to is None:
            return external_id.in_(select(c.c.external_id).where(*self._of_messages()))
        if self.touched_up_to == 0:
            return literal(value=False)
        known = (*self._of_messages(), c.c.id <= self.touched_up_to)
        return external_id.in_(select(c.c.external_id).where(*known))
