"""The forms in which a fetch gives the rows: JSON pages, or frames of pyarrow, pandas or Polars."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.tasks import Task, Work
from benchmarks.workload import read_pages

NEEDS = {
    "pages": (),
    "parquet": ("pyarrow",),
    "arrow": ("pyarrow",),
    "pandas": ("pyarrow", "pandas"),
    "polars": ("pyarrow", "polars"),
}
"""Form to the packages that it needs."""


def missing_packages(form: str) -> list[str]:
    """Return what a form needs and is not installed."""
    return [name for name in NEEDS[form] if find_spec(name) is None]


def open_source(form: str, path: str | Path) -> Callable[[], Iterator[Any]]:
    """Return a function that reads a file and yields parts of it; its imports are done."""
    if form == "pages":
        return lambda: read_pages(path)
    import pyarrow.parquet as pq

    if form == "pandas":
        import pandas as pd

        return lambda: iter([pd.read_parquet(path)])
    if form == "polars":
        import polars as pl

        return lambda: iter([pl.read_parquet(path)])
    if form == "arrow":
        return lambda: iter([pq.read_table(path)])
    return lambda: iter(pq.ParquetFile(path).iter_batches(batch_size=10_000))


def parse(task: Task) -> Work:
    """P: read the source, page by page, and do nothing with it."""
    fetch = open_source(task.form, task.source)

    def work() -> dict[str, Any]:
        return {"rows": sum(map(len, fetch()))}

    return work
