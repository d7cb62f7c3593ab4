"""DataFrames and Arrow data arrive as plain records; pandas is loaded only by those who hand in a frame."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sync_defs.store.frames import frame_pages, to_frame


def records(value: Any) -> list[Any]:
    pages = frame_pages(value)
    assert pages is not None
    return [record for page in pages for record in page]


def typed(rows: list[dict[str, Any]]) -> list[dict[str, tuple[str, str]]]:
    """A form in which 7, 7.0 and True differ."""
    return [{name: (type(value).__name__, repr(value)) for name, value in row.items()} for row in rows]


def test_a_frame_keeps_ids_and_exact_values():
    """Ids are text, integers stay integers beside a missing one, and 2**53 + 1 is not rounded."""
    frame = pd.DataFrame(
        {
            "id": ["007", "NA", "1e5"],
            "int": pd.array([2**53 + 1, None, -1], dtype="Int64"),
            "object": pd.Series([2**53 + 1, None, 2**70], dtype=object),
            "money": pd.Series([Decimal("1.10"), None, Decimal("2.675")], dtype=object),
            "float": [0.1, float("nan"), -1.5],
            "flag": pd.array([True, None, False], dtype="boolean"),
            "plain": [True, False, True],
        }
    )
    assert typed(records(frame)) == typed(
        [
            {
                "id": "007",
                "int": 2**53 + 1,
                "object": 2**53 + 1,
                "money": Decimal("1.10"),
                "float": 0.1,
                "flag": True,
                "plain": True,
            },
            {"id": "NA", "int": None, "object": None, "money": None, "float": None, "flag": None, "plain": False},
            {
                "id": "1e5",
                "int": -1,
                "object": 2**70,
                "money": Decimal("2.675"),
                "float": -1.5,
                "flag": False,
                "plain": True,
            },
        ]
    )


def test_missing_values_of_each_kind_are_none():
    frame = pd.DataFrame(
        {
            "time": pd.to_datetime(["2026-03-29T00:30:00.123456Z", None]),
            "category": pd.Categorical(["a", None]),
            "text": pd.Series(["a", None], dtype="str"),
            "mixed": pd.Series([pd.NaT, pd.NA], dtype=object),
            "nan": [np.nan, float("nan")],
        }
    )
    first, second = records(frame)
    assert first["time"].to_pydatetime() == datetime(2026, 3, 29, 0, 30, 0, 123456, tzinfo=UTC)
    assert (first["category"], first["text"], first["mixed"], first["nan"]) == ("a", "a", None, None)
    assert second == dict.fromkeys(["time", "category", "text", "mixed", "nan"])


def test_lists_and_mappings_in_cells_stay():
    frame = pd.DataFrame({"id": ["A"], "data": pd.Series([{"b": [1, None]}], dtype=object)})
    assert records(frame) == [{"id": "A", "data": {"b": [1, None]}}]


def test_pages_are_bounded_and_whole():
    frame = pd.DataFrame({"n": range(4_001)})
    pages = list(frame_pages(frame) or ())
    assert [len(page) for page in pages] == [2_000, 2_000, 1]
    assert [record["n"] for page in pages for record in page] == list(range(4_001))


def test_frames_without_rows_or_with_an_index_of_their_own():
    assert records(pd.DataFrame({"id": []})) == []
    assert records(pd.DataFrame()) == []
    assert records(pd.DataFrame({1: ["A"]}, index=["row"])) == [{"1": "A"}]
    repeated = pd.concat([pd.DataFrame({"id": ["A"]}), pd.DataFrame({"id": ["B"]})])
    assert records(repeated) == [{"id": "A"}, {"id": "B"}]


@pytest.mark.parametrize(
    "value", [None, [], [{}], "text", {"a": 1}, iter(()), object()], ids=lambda v: type(v).__name__ + str(v)[:4]
)
def test_anything_else_is_no_frame(value):
    assert frame_pages(value) is None


def test_a_series_is_no_frame():
    assert frame_pages(pd.Series([1])) is None


def test_arrow_data():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"id": ["007", "B"], "n": pa.array([2**53 + 1, None], pa.int64())})
    wanted = [{"id": "007", "n": 2**53 + 1}, {"id": "B", "n": None}]
    for value in (table, *table.to_batches(), table.to_reader()):
        assert records(value) == wanted


class Table:
    """Stands for an Arrow table where pyarrow is not installed: only what the reader uses of it."""

    __module__ = "pyarrow.lib"

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.num_rows = len(rows)

    def slice(self, start: int, length: int) -> "Table":
        return Table(self.rows[start : start + length])

    def to_pylist(self) -> list[dict[str, Any]]:
        return self.rows

    def to_batches(self, max_chunksize: int) -> list["Table"]:
        assert max_chunksize <= 2_000
        return [self.slice(start, max_chunksize) for start in range(0, self.num_rows, max_chunksize)]


def test_an_arrow_table_is_read_batch_by_batch():
    rows = [{"id": str(number)} for number in range(2_500)]
    pages = list(frame_pages(Table(rows)) or ())
    assert [len(page) for page in pages] == [2_000, 500]
    assert [record for page in pages for record in page] == rows


def test_a_change_set_as_a_frame_infers_nothing():
    frame = to_frame([{"id": "007", "n": 2**53 + 1}, {"id": "NA", "n": None}], ["id", "n"])
    assert frame.dtypes.tolist() == [object, object]
    assert frame.to_dict("records") == [{"id": "007", "n": 2**53 + 1}, {"id": "NA", "n": None}]


SYNC = """
import sys, json
import sqlalchemy as sa
from sync_defs import Database, TableSync, run_sync
rows = [{"id": "007", "n": 1}]
def fetch():
    if sys.argv[2] == "frame":
        import pandas as pd
        return pd.DataFrame(rows)
    return rows
target = sa.Table("items", sa.MetaData(), sa.Column("id", sa.String(9), primary_key=True), sa.Column("n", sa.Integer))
job = TableSync(fetch, name="items", target=target, key="id", fields={"n": "n"}, create_table=True)
created = run_sync(job, database=sys.argv[1]).created
print(json.dumps([created, sorted({"pandas", "numpy", "dagster"} & set(sys.modules))]))
"""


@pytest.mark.parametrize(("source", "loaded"), [("list", []), ("frame", ["numpy", "pandas"])])
def test_pandas_is_loaded_only_with_a_frame(sqlite_url, source, loaded):
    command = [sys.executable, "-c", SYNC, sqlite_url, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stderr, json.loads(done.stdout)) == ("", [1, loaded])
