"""The figures that were measured, as JSON files: one for each database and size, and one for all of messages."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
PEERS = "peers"
"""In place of a database: whole processes, ours and others'."""
MESSAGES = "messages.json"
"""The file of what was measured of the receiver and of the way of messages."""


class Results:
    """All files of a folder; what was not measured is None."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self._files: dict[tuple[str, int], dict[str, Any]] = {}
        for path in sorted(folder.glob("*-*.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            self._files[content["database"], content["rows"]] = content
        path = folder / MESSAGES
        self._messages: dict[str, dict[str, dict[str, Any]]] = (
            json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        )

    def sizes(self, database: str) -> list[int]:
        """Return at how many rows a database was measured, the fewest first."""
        return sorted(rows for name, rows in self._files if name == database)

    def cases(self, database: str, rows: int) -> dict[str, dict[str, Any]]:
        """Return what was measured or tried there, by case."""
        return self._files.get((database, rows), {}).get("cases", {})

    def case(self, database: str, rows: int, name: str) -> dict[str, Any] | None:
        """Return a case that was measured to its end."""
        found = self.cases(database, rows).get(name)
        return found if found is not None and "medians" in found else None

    def ratio(self, database: str, rows: int, name: str, reference: str) -> float | None:
        """Return how many times as long as a reference the work took."""
        found = self.case(database, rows, name)
        return found["ratios"].get(reference, {}).get("wall") if found else None

    def figure(self, database: str, rows: int, name: str, figure: str, *, of: str | None = None) -> float | None:
        """Return the median of a figure: of the work, or of what it is held against."""
        found = self.case(database, rows, name)
        return found["medians"].get(of or found["task"], {}).get(figure) if found else None

    def all_cases(self) -> Iterator[tuple[str, int, str, dict[str, Any]]]:
        """Yield database, rows, name and case of everything that was measured or tried."""
        for (database, rows), content in self._files.items():
            for name, case in content["cases"].items():
                yield database, rows, name, case

    def messages(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return what was measured of messages by arrangement; the kinds are `latency`, `queue` and `receiver`."""
        return self._messages.get(kind, {})

    def keep_messages(self, kind: str, name: str, figures: dict[str, Any]) -> None:
        """Put the figures of an arrangement into the file, in place of earlier ones of it; others stay."""
        self._messages.setdefault(kind, {})[name] = figures
        self.folder.mkdir(parents=True, exist_ok=True)
        kinds = ",\n".join(
            f"{json.dumps(each)}: {{\n{_entries(found)}\n}}" for each, found in sorted(self._messages.items())
        )
        (self.folder / MESSAGES).write_text(f"{{\n{kinds}\n}}\n", encoding="utf-8")

    def keep(self, database: str, rows: int, name: str, case: dict[str, Any]) -> None:
        """Put a case into its file, in place of an earlier measurement of it; other cases stay."""
        content = self._files.setdefault((database, rows), {"database": database, "rows": rows, "cases": {}})
        content["cases"][name] = case
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{database}-{rows}.json"
        path.write_text(_compact(content), encoding="utf-8")


def surroundings(database: str) -> dict[str, str]:
    """Return what the figures depend on, without naming the machine."""
    # What earlier measurements of the same session wrote changes nothing that is measured.
    all_but_results = [":(top)", ":(top,exclude)benchmarks/results", ":(top,exclude)README.md"]
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *all_but_results)
    commit = _git("rev-parse", "--short", "HEAD")
    return {
        "measured_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": (commit or "unknown") + ("-dirty" if changed else ""),
        "database": database,
        "python": platform.python_version(),
        "json": f"orjson {version('orjson')}" if find_spec("orjson") else "standard library",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load": f"{os.getloadavg()[0]:.1f} before the start",
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607 - whichever git there is
        capture_output=True,
        text=True,
        check=False,
        cwd=FOLDER.parent,
    )
    return done.stdout.strip()


def _compact(content: dict[str, Any]) -> str:
    """Write a paragraph for each case, so that a new measurement of one reads well as a difference."""
    cases = ",\n".join(f"{json.dumps(name)}: {{\n{_entries(case)}\n}}" for name, case in content["cases"].items())
    head = json.dumps({"database": content["database"], "rows": content["rows"]})
    return f'{head[:-1]}, "cases": {{\n{cases}\n}}}}\n'


def _entries(values: dict[str, Any]) -> str:
    return ",\n".join(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())
