"""DataFrames and Arrow data as pages of records that stay columns, and change sets as DataFrames.

The only module that imports pandas.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from sync_defs.store.columns import Column

PAGE = 10_000
"""Rows of a page: with fewer a call of numpy costs more than its work, with more they leave the cache."""


class FramePage(Sequence[Any], ABC):
    """Some rows of a frame: a sequence of records that are made, as dicts, where somebody asks for them.

    Names of columns are text; of several columns of one name the last one counts, as it does in a dict.
    """

    def __init__(self, part: Any, names: Sequence[str]) -> None:
        """Take a part of a frame, which is not changed afterwards."""
        self._part = part
        self.names = names

    def take(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Return the records at some places, each of them once and in their order."""
        return self._records(None if len(places) == len(self) else list(places)) if len(places) else []

    def column(self, name: str) -> "Column | None":
        """Return a column of the page; None where there is no such column."""
        number = self._numbers.get(name)
        return None if number is None else self._column(number)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._part)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Return a record, or a list of some."""
        return list(self)[index] if isinstance(index, slice) else self.take([range(len(self))[index]])[0]

    def __iter__(self) -> Iterator[Any]:
        """Make all records at once, which takes a fraction of the time of one after the other."""
        return iter(self.take(range(len(self))))

    @abstractmethod
    def _records(self, places: list[int] | None) -> list[dict[str, Any]]:
        """Return the records at some places, or all."""

    @abstractmethod
    def _column(self, number: int) -> "Column": ...

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}


class _PandasPage(FramePage):
    def _records(self, places: list[int] | None) -> list[dict[str, Any]]:
        from sync_defs.store.columns import pandas_values

        rows = self._part if places is None else self._part.iloc[places]
        columns = [pandas_values(rows.iloc[:, number]) for number in range(len(self.names))]
        return [dict(zip(self.names, row, strict=True)) for row in zip(*columns, strict=True)]

    def _column(self, number: int) -> "Column":
        from sync_defs.store.columns import pandas_column

        return pandas_column(self._part.iloc[:, number])


class _ArrowPage(FramePage):
    def _records(self, places: list[int] | None) -> list[dict[str, Any]]:
        if places is None:
            return self._part.to_pylist()
        try:
            return self._part.take(places).to_pylist()
        except NotImplementedError:  # views of text, for one
            records = self._part.to_pylist()
            return [records[place] for place in places]

    def _column(self, number: int) -> "Column":
        from sync_defs.store.columns import arrow_column

        return arrow_column(self._part.column(number))


class _PolarsPage(FramePage):
    def _records(self, places: list[int] | None) -> list[dict[str, Any]]:
        return (self._part if places is None else self._part[places]).to_dicts()

    def _column(self, number: int) -> "Column":
        from sync_defs.store.columns import polars_column

        return polars_column(self._part.to_series(number))


def frame_pages(value: Any) -> Iterator[FramePage] | None:
    """Return the pages of a pandas or Polars frame, an Arrow table, batch or reader; None if it is none of these.

    In the records of a pandas frame, missing values (NaN, NaT, pd.NA) are None; integers and decimals keep their exact
    value as far as the frame has it. No library is imported that the caller has not imported.
    """
    module, name = type(value).__module__.partition(".")[0], type(value).__name__
    if module == "pandas" and hasattr(value, "columns"):
        return _pandas_pages(value)
    if module == "pyarrow" and name in ("Table", "RecordBatch", "RecordBatchReader"):
        return _arrow_pages(value)
    if module == "polars" and name in ("DataFrame", "LazyFrame"):
        return _polars_pages(value)
    return None


def _pandas_pages(frame: Any) -> Iterator[FramePage]:
    names = [str(name) for name in frame.columns]
    for start in range(0, len(frame), PAGE):
        yield _PandasPage(frame.iloc[start : start + PAGE], names)


def _arrow_pages(data: Any) -> Iterator[FramePage]:
    batches = [data] if type(data).__name__ == "RecordBatch" else data
    if type(data).__name__ == "Table":
        batches = data.to_batches(max_chunksize=PAGE)
    for batch in batches:
        for start in range(0, batch.num_rows, PAGE):
            yield _ArrowPage(batch.slice(start, PAGE), batch.schema.names)


def _polars_pages(frame: Any) -> Iterator[FramePage]:
    collected = frame.collect() if type(frame).__name__ == "LazyFrame" else frame
    for part in collected.iter_slices(PAGE):
        yield _PolarsPage(part, part.columns)


def to_frame(rows: list[dict[str, Any]], columns: list[str]) -> Any:
    """Return rows as a DataFrame of objects, so that no dtype is inferred."""
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs] - pandas ships none

    return pd.DataFrame(rows, columns=columns, dtype=object)
