"""DataFrames and Arrow data as pages of mappings, and change sets as DataFrames; the only module that uses pandas."""

from collections.abc import Iterator
from typing import Any

_PAGE = 2_000


def frame_pages(value: Any) -> Iterator[list[Any]] | None:
    """Return the pages of a pandas DataFrame, an Arrow table, batch or reader; None if it is none of these.

    Missing values (NaN, NaT, pd.NA) become None; integers and decimals keep their exact value as far as the frame
    has it. pandas is imported only if the value is a DataFrame, so never by this function itself.
    """
    module = type(value).__module__.partition(".")[0]
    if module == "pandas" and hasattr(value, "columns"):
        return _pandas_pages(value)
    if module == "pyarrow" and type(value).__name__ in ("Table", "RecordBatch", "RecordBatchReader"):
        return _arrow_pages(value)
    return None


def _pandas_pages(frame: Any) -> Iterator[list[Any]]:
    names = [str(name) for name in frame.columns]
    for start in range(0, len(frame), _PAGE):
        part = frame.iloc[start : start + _PAGE]
        columns = [_values(part.iloc[:, number]) for number in range(len(names))]
        yield [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(series: Any) -> list[Any]:
    absent = series.isna()
    values = series.astype(object).tolist()
    return [None if is_absent else value for value, is_absent in zip(values, absent, strict=True)]


def _arrow_pages(data: Any) -> Iterator[list[Any]]:
    batches = [data] if type(data).__name__ == "RecordBatch" else data
    if type(data).__name__ == "Table":
        batches = data.to_batches(max_chunksize=_PAGE)
    for batch in batches:
        for start in range(0, batch.num_rows, _PAGE):
            yield batch.slice(start, _PAGE).to_pylist()


def to_frame(rows: list[dict[str, Any]], columns: list[str]) -> Any:
    """Return rows as a DataFrame of objects, so that no dtype is inferred."""
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs] - pandas ships none

    return pd.DataFrame(rows, columns=columns, dtype=object)
