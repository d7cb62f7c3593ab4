"""A change set: what a sync would do now, to look at."""

from dataclasses import dataclass
from typing import Any

from sync_defs.results import SampledChange, SyncResults
from sync_defs.store.frames import to_frame

_COLUMNS = ["external_id", "action", "field", "old", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSet:
    """The result of `plan_sync`; nothing was written."""

    results: SyncResults
    """The counts of the real run, as of now."""
    changes: list[SampledChange]
    """Every change up to the limit that was asked for, created, updated, deleted and marked rows alike."""

    @property
    def is_complete(self) -> bool:
        """Tell whether `changes` has all of them."""
        results = self.results
        return len(self.changes) == results.created + results.updated + results.deleted + results.marked

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each changed field: external_id, action, field, old, new.

        Values are text, masked fields read `***`, and no dtype is inferred. A change without fields has one row.
        """
        rows = [
            dict(zip(_COLUMNS, (change.external_id, change.action.value, field, old, new), strict=True))
            for change in self.changes
            for field, (old, new) in (change.changes or {None: (None, None)}).items()
        ]
        return to_frame(rows, _COLUMNS)
