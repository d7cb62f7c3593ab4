"""What is compared: each case is one piece of work by sync_defs, and what it is held against."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults import Faults
from benchmarks.sources import missing_packages
from benchmarks.workload import State, Workload, percent_changes
from sync_defs.policies import JobOptions

FAULTS_OF = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One comparison."""

    name: str
    title: str
    task: str = "product"
    references: tuple[str, ...] = ("parse",)
    """Tasks that run beside it, in the same round."""
    start: str = "base"
    """What is there before: `empty`, `base` (all rows) or `articles`."""
    state: State = State.BASE
    form: str = "pages"
    most_rows: int | None = None
    """With more rows the case is measured at this many."""
    bad: int | None = None
    """Bad records in 100,000; the rows are then articles."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options of the job and of the run."""

    @property
    def table(self) -> str:
        """Return the target."""
        return "product" if self.bad is None else "article"

    def rows_of(self, rows: int) -> int:
        """Return at how many rows the case is measured where so many are asked for."""
        return min(rows, self.most_rows or rows)

    def obstacle(self) -> str | None:
        """Return why the case cannot be measured with what is installed, or None."""
        missing = missing_packages(self.form)
        if missing:
            return f"needs {' and '.join(missing)}, not installed"
        unknown = set(self.options.get("job", {})) - set(JobOptions.__annotations__)
        return f"needs the option {', '.join(sorted(unknown))} of table_sync, which is not there" if unknown else None

    def faults(self, directory: Path, rows: int) -> Faults:
        """Return the articles, with their share of bad ones: of a few rows at least one."""
        bad = max(1, self.bad * rows // FAULTS_OF) if self.bad else 0
        return Faults(directory, rows, bad)

    def expected(self, workload: Workload) -> dict[str, int]:
        """Return the counts that sync_defs has to report."""
        rows = workload.rows
        if self.bad is not None:
            faults = self.faults(workload.directory, rows)
            updated = sum(number % 2 == 0 for number in range(rows) if number not in faults.bad_numbers)
            counts = {"created": rows - faults.bad - updated, "updated": updated, "rejected": faults.bad}
        elif self.start == "empty":
            counts = {"created": rows}
        elif self.state is State.CHANGED:
            counts = {"updated": rows}
        elif self.state is State.PERCENT:
            changes = percent_changes(workload.seed, rows)
            changed, new, gone = len(changes.changed), len(changes.new), len(changes.gone)
            counts = {"created": new, "updated": changed, "unchanged": rows - changed - gone, "deleted": gone}
        else:
            counts = {"unchanged": rows}
        return {name: count for name, count in counts.items() if count}

    def stored(self, workload: Workload) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that have to be in the target afterwards, by key."""
        if self.bad is not None:
            return self.faults(workload.directory, workload.rows).after()
        return workload.stored(self.state, is_shuffled=False)


_UNPROVED = {"job": {"verify": 0}}
"""What the last run left is believed; else the proof that it is still there is part of the run."""
_FRAMES = {"parquet": "a Parquet file, by batches", "arrow": "an Arrow table", "pandas": "pandas", "polars": "Polars"}

CASES = (
    Case(name="unchanged", title="nothing changed", options=_UNPROVED),
    Case(name="drift", title="nothing changed, with the proof against drift"),
    Case(name="percent", title="1 % changed", state=State.PERCENT),
    Case(name="load", title="first load", start="empty", references=("parse", "bulk_load")),
    Case(name="changed", title="every row changed", state=State.CHANGED, references=("parse", "update_all")),
    Case(name="full", title="full compare", options={"run": {"full": True}}),
    *(Case(name=form, title=f"nothing changed, from {source}", form=form) for form, source in _FRAMES.items()),
    Case(name="items", title="nothing changed", references=("orm_once", "orm_each"), most_rows=10_000),
    Case(name="dagster", title="nothing changed, as a run of Dagster", task="dagster", references=("product", "parse")),
    *(
        Case(
            name=f"faults_{bad}",
            title=f"{bad:,} bad records in 100,000",
            task="articles",
            references=("upsert",),
            start="articles",
            most_rows=FAULTS_OF,
            bad=bad,
        )
        for bad in (0, 10, 1_000)
    ),
    *(
        Case(
            name=f"callbacks_{name}",
            title=f"callbacks: {title}",
            task="callbacks",
            references=("orm_each",),
            start=start,
            state=state,
            most_rows=10_000,
        )
        for name, title, start, state in (
            ("load", "first load", "empty", State.BASE),
            ("unchanged", "nothing changed", "base", State.BASE),
            ("changed", "every row changed", "base", State.CHANGED),
        )
    ),
    Case(
        name="callbacks_known",
        title="callbacks that depend on the record alone: nothing changed",
        task="known_callbacks",
        references=("orm_each", "parse"),
        most_rows=10_000,
    ),
)
"""All cases, in the order in which they run."""
