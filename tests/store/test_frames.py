"""DataFrames and Arrow data arrive as plain records; pandas is loaded only by those who hand in a frame."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
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
    frame = pd.DataFrame({"n": range(20_001)})
    pages = list(frame_pages(frame) or ())
    assert [len(page) for page in pages] == [10_000, 10_000, 1]
    assert [record["n"] for page in pages for record in page] == list(range(20_001))


@pytest.mark.parametrize("library", ["pandas", "pyarrow", "polars"])
def test_a_page_makes_the_records_that_are_asked_for(library):
    columns = {"id": ["A", "B", "C"], "n": [1, 2, 3]}
    frames = {"pandas": pd.DataFrame, "pyarrow": pa.table, "polars": pl.DataFrame}
    [page] = list(frame_pages(frames[library](columns)) or [])
    a, b, c = ({"id": "A", "n": 1}, {"id": "B", "n": 2}, {"id": "C", "n": 3})
    assert (page[0], page[-1], page[1:], page[::-1]) == (a, c, [b, c], [c, b, a])
    assert (page.take([0, 2]), page.take([]), list(page)) == ([a, c], [], [a, b, c])
    with pytest.raises(IndexError):
        page[3]


def test_rows_of_a_type_that_pyarrow_cannot_take_are_made_all_the_same():
    views = pa.table({"id": pa.array(["A", "B"], pa.string_view())})
    [page] = list(frame_pages(views) or [])
    assert page.take([1]) == [{"id": "B"}]


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


@pytest.mark.parametrize("is_lazy", [False, True])
def test_a_polars_frame_keeps_exact_values(is_lazy):
    columns = {"sku": ["007", "008", None], "quantity": [2**53 + 1, None, 3], "price": [Decimal("1.10"), None, None]}
    frame = pl.DataFrame(columns, schema_overrides={"price": pl.Decimal(12, 2)})
    assert records(frame.lazy() if is_lazy else frame) == [
        {"sku": "007", "quantity": 9007199254740993, "price": Decimal("1.10")},
        {"sku": "008", "quantity": None, "price": None},
        {"sku": None, "quantity": 3, "price": None},
    ]


def test_arrow_data():
    table = pa.table({"id": ["007", "B"], "n": pa.array([2**53 + 1, None], pa.int64())})
    wanted = [{"id": "007", "n": 2**53 + 1}, {"id": "B", "n": None}]
    for value in (table, *table.to_batches(), table.to_reader()):
        assert records(value) == wanted


def test_an_arrow_table_is_read_batch_by_batch():
    rows = [{"id": str(number)} for number in range(10_500)]
    pages = list(frame_pages(pa.Table.from_pylist(rows)) or ())
    assert [len(page) for page in pages] == [10_000, 500]
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
print(json.dumps([created, sorted({"pandas", "dagster"} & set(sys.modules))]))
"""


@pytest.mark.parametrize(("source", "loaded"), [("list", []), ("frame", ["pandas"])])
def test_pandas_is_loaded_only_with_a_frame(sqlite_url, source, loaded):
    command = [sys.executable, "-c", SYNC, sqlite_url, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stderr, json.loads(done.stdout)) == ("", [1, loaded])
