"""The set-based statements between one run's stage and its target, built once for a run."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    case,
    delete,
    exists,
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
from sync_defs.store.mapping import TableMapping

MASK = "***"


class TableStatements:
    """Statements of one table job's run. Each is one round trip; `where` narrows it to a range of the stage."""

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
        self._is_item = run.is_item
        self._now = database.now()

    def between(self, low: int, high: int) -> ColumnElement[bool]:
        """Return the condition on a stage's range of `seq`."""
        return self.stage.c.seq.between(low, high)

    def skip_duplicates(self) -> Any:
        """Mark all but the newest (then last) candidate of each key as skipped."""
        s = self.stage.alias("s")
        order: list[Any] = [s.c.seq.desc()]
        if self.mapping.version_index is not None:
            order.insert(0, s.c[f"v{self.mapping.version_index}"].desc().nulls_last())
        ranked = (
            select(s.c.seq, func.row_number().over(partition_by=s.c.v0, order_by=order).label("place"))
            .where(s.c.action.is_(None), s.c.v0.is_not(None))
            .subquery("ranked")
        )
        return (
            update(self.stage)
            .values(action=Action.SKIPPED.value)
            .where(self.stage.c.seq == ranked.c.seq, ranked.c.place > 1)
        )

    def has_duplicates(self) -> Select[Any]:
        """Ask for one key that has several candidates."""
        s = self.stage
        return select(s.c.v0).where(s.c.action.is_(None)).group_by(s.c.v0).having(func.count() > 1).limit(1)

    def classify(self) -> Any:
        """Write into the stage what is to be done with each candidate; no action means unchanged."""
        s = self.stage.alias("s")
        found = (
            select(s.c.seq, self._judgement(s).label("action"))
            .select_from(s.outerjoin(self.target, s.c.v0 == self.key))
            .where(s.c.action.is_(None))
            .subquery("found")
        )
        return (
            update(self.stage)
            .values(action=found.c.action)
            .where(self.stage.c.seq == found.c.seq, found.c.action.is_not(None))
        )

    def forget(self) -> Any:
        """Take back what was found for records to create or update, to classify them anew."""
        actions = [Action.CREATED.value, Action.UPDATED.value]
        return update(self.stage).values(action=None).where(self.stage.c.action.in_(actions))

    def count_rows(self) -> Select[Any]:
        """Count the target's rows."""
        return select(func.count()).select_from(self.target)

    def count_missing(self) -> Select[Any]:
        """Count the rows that a complete fetch did not have."""
        return select(func.count()).select_from(self.target).where(self._is_missing())

    def stage_missing(self) -> Any:
        """Append the missing rows to the stage, with negative numbers."""
        action = Action.MARKED if self.policy.action is MissingAction.MARK else Action.DELETED
        rows = select(
            -func.row_number().over(order_by=self.key),
            self.dialect.key_text(self.key),
            literal(action.value),
            true(),
            self.key,
        ).where(self._is_missing())
        return insert(self.stage).from_select(["seq", "external_id", "action", "is_deletion", "v0"], rows)

    def history(self, actions: Sequence[Action], where: ColumnElement[bool]) -> Any:
        """Write old and new values of the rows about to change into `sync_changes`."""
        s = self.stage
        old = self.dialect.json_object(self._pairs(list(self.mapping.columns)))
        new = self.dialect.json_object(self._pairs(self._values))
        rows = (
            select(
                literal(self.mapping.job.name),
                s.c.external_id,
                literal(self.run.run_id),
                literal(self._is_item),
                s.c.action,
                literal(self._now, schema.UtcDateTime()),
                case((s.c.action != Action.CREATED.value, old), else_=null()),
                case((s.c.action.in_([Action.CREATED.value, Action.UPDATED.value]), new), else_=null()),
            )
            .select_from(s.outerjoin(self.target, s.c.v0 == self.key))
            .where(s.c.action.in_([action.value for action in actions]), self._wants_write(s), where)
        )
        names = ["job", "external_id", "run_id", "is_item", "action", "changed_at", "old_values", "new_values"]
        return insert(schema.changes).from_select(names, rows)

    def delete(self, where: ColumnElement[bool]) -> Any:
        """Delete the rows that the stage lists for it."""
        return delete(self.target).where(self.key.in_(self._keys(Action.DELETED, where)))

    def mark(self, where: ColumnElement[bool]) -> Any:
        """Mark the rows that the stage lists for it."""
        values = {str(self.policy.column): self.policy.value}
        return update(self.target).values(values).where(self.key.in_(self._keys(Action.MARKED, where)))

    def update(self, where: ColumnElement[bool]) -> Any:
        """Update rows that differ and hold no newer version: both are decided here, not before."""
        s = self.stage
        pairs = zip(self.mapping.columns[1:], self._values[1:], strict=True)
        return (
            update(self.target)
            .values(dict(pairs))
            .where(
                self.key == s.c.v0,
                s.c.action == Action.UPDATED.value,
                self._wants_update(s),
                where,
            )
        )

    def insert(self, where: ColumnElement[bool]) -> Any:
        """Insert the rows that are not there."""
        s = self.stage
        there = exists().where(self.key == s.c.v0)
        wanted = and_(s.c.action == Action.CREATED.value, ~there, ~self._is_outranked(s))
        rows = select(*self._values).where(wanted, where).order_by(s.c.seq)
        return self.dialect.insert_missing(self.target, self.key.key, self.mapping.names, rows)

    def samples(self, limit: int, actions: Sequence[Action]) -> Select[Any]:
        """Return id, action, old values, then new values of the first rows to write."""
        s = self.stage
        columns = [*self.mapping.columns[1:], *self._values[1:]]
        raw = [type_coerce(column, NullType()).label(f"c{number}") for number, column in enumerate(columns)]
        return (
            select(s.c.external_id, s.c.action, *raw)
            .join_from(s, self.target, s.c.v0 == self.key, isouter=True)
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
        comparable = self.dialect.comparable
        return or_(
            *[
                comparable(s.c[f"v{number}"]).is_distinct_from(comparable(column))
                for number, column in enumerate(self.mapping.columns)
                if number
            ]
        )

    def _is_older(self, s: Any) -> ColumnElement[bool]:
        number = self.mapping.version_index
        if number is None:
            return literal(value=False)
        held, given = self.mapping.columns[number], s.c[f"v{number}"]
        unknown = and_(given.is_(None), ~s.c.is_deletion)
        return and_(held.is_not(None), or_(unknown, and_(given.is_not(None), given < held)))

    def _is_missing(self) -> ColumnElement[bool]:
        s = self.stage.alias("seen")
        seen = exists().where(s.c.v0 == self.key, s.c.seq > 0)
        missing = and_(self.key.is_not(None), ~seen, ~self._is_touched(self.dialect.key_text(self.key)))
        return and_(missing, self._is_unmarked()) if self.policy.action is MissingAction.MARK else missing

    def _is_unmarked(self) -> ColumnElement[bool]:
        return self.target.columns[str(self.policy.column)].is_distinct_from(self.policy.value)

    def _is_touched(self, external_id: ColumnElement[Any]) -> ColumnElement[bool]:
        """Tell whether a single-item sync changed the row after the fetch began."""
        c = schema.changes
        return exists().where(
            c.c.job == self.mapping.job.name,
            c.c.external_id == external_id,
            c.c.is_item,
            c.c.id > self.run.watermark,
        )
