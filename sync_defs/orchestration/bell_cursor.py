"""What an inbox sensor remembers from tick to tick."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class BellCursor:
    """The cursor of a sensor, which Dagster stores once it has stored everything else that a tick returned."""

    rung: Mapping[str, float] = field(default_factory=dict[str, float])
    """When the bell was rung last for a job, in Unix seconds."""
    told: str | None = None
    """The receipt of what the last tick told of, an instant in ISO 8601."""
    unwell: Sequence[str] = ()
    """Jobs of whose inbox a check was told to fail, and not yet that it passes again."""

    @classmethod
    def read(cls, text: str | None) -> "BellCursor":
        """Read a cursor; whatever is not one of ours, since a person may edit it, counts as empty."""
        try:
            plain: Any = json.loads(text or "")
            rung = {str(name): float(at) for name, at in plain["rung"].items()}
            told = plain["told"]
            if told is not None:
                datetime.fromisoformat(told)
            unwell = [str(name) for name in plain.get("unwell", [])]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()
        return cls(rung=rung, told=told, unwell=unwell)

    def text(self) -> str:
        """Return what `read` reads."""
        return json.dumps({"rung": dict(self.rung), "told": self.told, "unwell": list(self.unwell)})

    def rung_within(self, seconds: float, *, now: float) -> list[str]:
        """Return the jobs for which the bell was rung in the last seconds; a time to come does not count."""
        return [name for name, at in self.rung.items() if 0 <= now - at < seconds]

    def after(
        self, ring: Iterable[str], *, told: str | None, unwell: Sequence[str], now: float, keep_s: float
    ) -> "BellCursor":
        """Return the next cursor: rung for some jobs now, and forgetful of rings that are over."""
        kept = {name: self.rung[name] for name in self.rung_within(keep_s, now=now)}
        return BellCursor(rung=kept | dict.fromkeys(ring, now), told=told, unwell=unwell)
