"""Isolation: callbacks run for many records together, and for each one apart where something goes wrong.

Together is fast: one savepoint, and one flush where what a callback did can be told without one. Apart is exact: a
record that fails undoes itself, all of itself and nothing else. What was done together is undone before, so callbacks
may be called up to three times for a record, and only the last call counts.
"""

import operator
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection, and_, inspect, or_, select
from sqlalchemy.orm import Session, SessionTransaction

from sync_defs.errors import RecordError
from sync_defs.results import Outcome
from sync_defs.store.session_watch import SessionWatch

BATCH: Final = 100
"""Records that run together: what is redone for a bad one, and what the session is searched through after each."""
T = TypeVar("T")


class Done(NamedTuple):
    """What became of one item."""

    outcome: str
    changes: dict[str, tuple[Any, Any]]
    """Attributes that got another value: old and new."""
    error: RecordError | None = None
    """Set for a rejected one."""


class _InexactError(Exception):
    """What was done together cannot be told apart, or a callback has ended the transaction of others."""


class Isolation:
    """Runs callbacks on one session, whose connection is in a transaction of the caller's."""

    def __init__(
        self,
        connection: Connection,
        session: Session,
        watch: SessionWatch,
        reason_of: Callable[[Exception], RecordError],
    ) -> None:
        """Work in savepoints; `reason_of` says what a record did wrong, or raises again what none can cause."""
        self._connection = connection
        self._session = session
        self._watch = watch
        self._reason_of = reason_of
        self._defers = True

    def run(self, items: Sequence[T], act: Callable[[T], str], *, together: bool, deletes: bool) -> list[Done]:
        """Call `act` for each item, which returns its outcome, and return what became of each, in order.

        `updated` turns into `unchanged` where nothing was written. Without `together` each item runs apart from the
        first; `deletes` says that rows may be deleted.
        """
        done: list[Done] = []
        for start in range(0, len(items), BATCH):
            part = items[start : start + BATCH]
            found = self._together(part, act, deletes=deletes) if together and len(part) > 1 else None
            done += found or [self._one(item, act) for item in part]
        return done

    @contextmanager
    def apart(self) -> Generator[SessionTransaction]:
        """Undo the block alone if it raises, also where a callback has committed or rolled back its session.

        The savepoint is the connection's, out of the session's reach; the session's own ones are inside it. The nested
        one, which is yielded, is there because its rollback expires the rows that the block changed, not all that were
        looked up.
        """
        savepoint = self._connection.begin_nested()
        nested = self._session.begin_nested()
        try:
            yield nested
            self._session.commit()
        except BaseException:
            self._roll_back(nested)
            savepoint.rollback()
            raise
        savepoint.commit()

    def _together(self, items: Sequence[T], act: Callable[[T], str], *, deletes: bool) -> list[Done]:
        """Run items in one savepoint; nothing if one of them fails, and then nothing of them is left."""
        for defers in [True, False] if self._defers and not deletes else [False]:
            try:
                with self.apart() as nested, self._watch.watching(defers=defers):
                    return self._attempt(items, act, nested)
            except _InexactError:
                # It is the way of this job's callbacks, so the next ones are flushed one by one too.
                self._defers = False
                self._reload()
            except Exception as error:  # noqa: BLE001 - user code: one record's callback must not end the sync
                self._reason_of(error)
                self._reload()
                break
        return []

    def _attempt(self, items: Sequence[T], act: Callable[[T], str], nested: SessionTransaction) -> list[Done]:
        done: list[Done] = []
        for item in items:
            done.append(self._watched(item, act))
            if not self._watch.is_exact or self._session.get_nested_transaction() is not nested:
                raise _InexactError
        if not self._watch.is_intact:
            raise _InexactError
        self._session.flush()
        if not self._watch.is_settled:
            raise _InexactError
        return done

    def _one(self, item: T, act: Callable[[T], str]) -> Done:
        try:
            with self.apart(), self._watch.watching(defers=False):
                return self._watched(item, act)
        except Exception as error:  # noqa: BLE001 - user code: one record's callback must not end the sync
            return Done(Outcome.REJECTED, {}, self._reason_of(error))

    def _watched(self, item: T, act: Callable[[T], str]) -> Done:
        self._watch.reset()
        outcome = act(item)
        self._watch.collect()
        if outcome == Outcome.UPDATED and not self._watch.has_changes:
            outcome = Outcome.UNCHANGED
        return Done(outcome, self._watch.changes)

    def _roll_back(self, nested: SessionTransaction) -> None:
        """Roll the session back: to the nested savepoint, or wholly where a callback has ended that one."""
        if not nested.is_active:
            self._drop_changes()
        is_open = False
        while (inner := self._session.get_nested_transaction()) is not None:
            inner.rollback()
            is_open = is_open or inner is nested
        if is_open:
            self._session.commit()  # of nothing: a rollback would expire every row
        else:
            self._session.rollback()

    def _drop_changes(self) -> None:
        """Forget what a callback did after a flush had failed without its minding: SQLAlchemy warns of it."""
        session = self._session
        for row in [*session.new]:
            session.expunge(row)
        session.add_all([*session.deleted])
        for row in [*session.dirty]:
            session.expire(row)

    def _reload(self) -> None:
        """Read the rows that a rollback expired, those of a class at once, not each when it is looked at."""
        expired = defaultdict[Any, list[Any]](list)
        for row in self._session:
            state: Any = inspect(row)
            if state.expired:
                expired[state.mapper].append(state.identity)
        with self.apart():
            for mapper, identities in expired.items():
                names = [mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key]
                for start in range(0, len(identities), BATCH):
                    part = identities[start : start + BATCH]
                    these = or_(*(and_(*map(operator.eq, names, identity)) for identity in part))
                    self._session.scalars(select(mapper.class_).where(these)).all()
