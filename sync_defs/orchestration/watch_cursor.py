"""What the watch remembers from tick to tick."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sync_defs.alerts import State


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchCursor:
    """The cursor of the watch, which Dagster stores once it has stored everything else that a tick returned."""

    seen_until: float | None = None
    """Runs that ended later are new, in Unix seconds."""
    failed: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """Sync job to Dagster jobs whose last run has failed, each with the reason."""
    said: Mapping[str, str] = field(default_factory=dict[str, str])
    """`job:check` to what was reported of it last."""
    told: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """Notifier to jobs, each with the state that it was told of last."""

    @classmethod
    def read(cls, text: str | None) -> "WatchCursor":
        """Read a cursor; whatever is not one of ours, since a person may edit it, counts as empty."""
        try:
            plain: Any = json.loads(text or "")
            failed = {job: {str(k): str(v) for k, v in runs.items()} for job, runs in plain["failed"].items()}
            seen = plain["seen_until"]
            return cls(
                seen_until=None if seen is None else float(seen),
                failed=failed,
                said={str(key): str(value) for key, value in plain["said"].items()},
                told={
                    channel: {str(job): State(state) for job, state in states.items()}
                    for channel, states in plain["told"].items()
                },
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()

    def state_of(self, channel: str, job: str) -> State:
        """Return the state that a notifier was told of last; who was told of none takes a job to be OK."""
        return State(self.told.get(channel, {}).get(job, State.OK))

    def text(self) -> str:
        """Return what `read` reads."""
        return json.dumps(asdict(self))
