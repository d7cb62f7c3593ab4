"""Fingerprints taken by columns: two values never share one, and external ids hash as they do everywhere."""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from sync_defs import Database, Field, TableSync
from sync_defs.store.column_prints import ColumnPrints
from sync_defs.store.fingerprint import key_digest, key_hash
from sync_defs.store.frames import frame_pages
from sync_defs.store.mapping import TableMapping

FRAMES: dict[str, Callable[[Any], Any]] = {"pandas": pd.DataFrame, "pyarrow": pa.table, "polars": pl.DataFrame}


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Database("sqlite://") as database:
        yield database


def prints_of(
    database: Database, *, key: Any = "id", kind: Any = None, fields: dict[str, Any] | None = None
) -> ColumnPrints:
    fields = {"a": "a"} if fields is None else fields
    columns = [sa.Column(name, sa.JSON) for name in fields]
    table = sa.Table("t", sa.MetaData(), sa.Column("id", kind or sa.String(255), primary_key=True), *columns)
    job = TableSync(list, name="job", target=table, key={"id": key}, fields=fields)
    return ColumnPrints(TableMapping(job, database))


def entries(prints: ColumnPrints, frame: Any) -> list[tuple[int, int, int]] | None:
    """The entries of a frame: the hash of the key, and two words of content."""
    [page] = list(frame_pages(frame) or [])
    found = prints.entries(page)
    return None if found is None else [tuple(entry) for entry in found.tolist()]


def contents(prints: ColumnPrints, frame: Any) -> list[tuple[int, int]]:
    return [(low, high) for _, low, high in entries(prints, frame) or ()]


def arrow(values: list[Any], kind: Any) -> Any:
    return pa.table({"id": ["A"] * len(values), "a": pa.array(values, kind)})


def polars(values: list[Any], kind: Any) -> Any:
    return pl.DataFrame({"id": ["A"] * len(values), "a": pl.Series(values, dtype=kind, strict=False)})


def pandas(values: list[Any], kind: Any) -> Any:
    return pd.DataFrame({"id": ["A"] * len(values), "a": pd.Series(values, dtype=kind)})


NAN = math.nan
TIMES = [datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 3, 29, 0, 30, tzinfo=UTC), None]
TEXTS = ["", " ", "a", "b", "ab", "null", "NaN", "0", None, "é", "e\u0301", "a\x00", "\x00"]
INTS = [0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), None]
MONEY = [Decimal("0.00"), Decimal("1.10"), Decimal("-1.10"), Decimal("12345678901234.56"), None]
FLOATS = [0.0, -0.0, 1.0, 1e-300, math.inf, -math.inf]
DISTINCT = {
    "arrow text": arrow(TEXTS, pa.string()),
    "arrow large text": arrow(TEXTS, pa.large_string()),
    "arrow view": arrow(TEXTS, pa.string_view()),
    "arrow dictionary": arrow(TEXTS, pa.dictionary(pa.int32(), pa.string())),
    "arrow binary": arrow([b"", b"\x00", b"a", b"\x00a", None], pa.binary()),
    "arrow fixed binary": arrow([b"ab", b"ba", b"\x00\x00", None], pa.binary(2)),
    "arrow int": arrow(INTS, pa.int64()),
    "arrow byte": arrow([0, 1, 255, None], pa.uint8()),
    "arrow float": arrow([*FLOATS, NAN, None], pa.float64()),
    "arrow bool": arrow([True, False, None], pa.bool_()),
    "arrow decimal": arrow([*MONEY, Decimal("99999999999999999999999999.99")], pa.decimal128(30, 2)),
    "arrow long decimal": arrow([Decimal(1), Decimal(2) ** 64 + 1, Decimal(2) ** 192 + 1, None], pa.decimal256(70, 0)),
    "arrow time": arrow(TIMES, pa.timestamp("us", "UTC")),
    "arrow date": arrow([date(1970, 1, 1), date(2026, 3, 29), None], pa.date32()),
    "arrow list": arrow([[], [None], [1], [1, 2], [2, 1], None], pa.list_(pa.int64())),
    "arrow struct": arrow(
        [{"b": 1, "c": None}, {"b": None, "c": 1}, None], pa.struct([("b", "int64"), ("c", "int64")])
    ),
    "polars text": polars(TEXTS, pl.String),
    "polars categorical": polars(TEXTS, pl.Categorical),
    "polars binary": polars([b"", b"\x00", b"a", None], pl.Binary),
    "polars int": polars(INTS, pl.Int64),
    "polars float": polars([*FLOATS, NAN, None], pl.Float64),
    "polars short float": polars([0.0, -0.0, 1.5, NAN, None], pl.Float32),
    "polars bool": polars([True, False, None], pl.Boolean),
    "polars decimal": polars(MONEY, pl.Decimal(16, 2)),
    "polars long decimal": polars([*MONEY, Decimal("99999999999999999999999999.99")], pl.Decimal(38, 2)),
    "polars time": polars(TIMES, pl.Datetime("us", "UTC")),
    "polars date": polars([date(1970, 1, 1), date(2026, 3, 29), None], pl.Date),
    "polars duration": polars([timedelta(0), timedelta(1), None], pl.Duration),
    "polars list": polars([[], [None], [1], [1, 2], [2, 1], None], pl.List(pl.Int64)),
    "pandas text": pandas(TEXTS, "str"),
    "pandas plain text": pandas(TEXTS, pd.StringDtype("python")),
    "pandas objects": pandas(
        [*TEXTS, 0, 1, 1.5, True, False, Decimal(1), Decimal("1.5"), [], {}, date(2026, 1, 1)], object
    ),
    "pandas decimals": pandas([*MONEY, Decimal("1.1")], object),
    "pandas category": pandas(TEXTS, "category"),
    "pandas int": pandas(INTS[:-1], "int64"),
    "pandas nullable int": pandas(INTS, "Int64"),
    "pandas float": pandas([*FLOATS, NAN], "float64"),
    "pandas nullable float": pandas([*FLOATS, None], "Float64"),
    "pandas bool": pandas([True, False], "bool"),
    "pandas nullable bool": pandas([True, False, None], "boolean"),
    "pandas time": pandas(TIMES, "datetime64[us, UTC]"),
    "pandas naive time": pandas([datetime(1970, 1, 1), datetime(2026, 3, 29), None], "datetime64[ns]"),
    "pandas arrow text": pandas(TEXTS, pd.ArrowDtype(pa.string())),
    "pandas arrow decimal": pandas(MONEY, pd.ArrowDtype(pa.decimal128(16, 2))),
    "pandas arrow list": pandas([[], [1], [1, 2], None], pd.ArrowDtype(pa.list_(pa.int64()))),
    "pandas sparse": pandas([0, 1, 2], "Sparse[int64]"),
}


@pytest.mark.parametrize("frame", DISTINCT.values(), ids=DISTINCT.keys())
def test_no_two_values_of_a_column_share_a_fingerprint(database, frame):
    found = contents(prints_of(database), frame)
    assert (0, 0) not in found
    for (place, one), (other_place, other) in combinations(enumerate(found), 2):
        # One word of 64 bits alone would be a filter too, so both have to differ.
        assert one[0] != other[0], (place, other_place)
        assert one[1] != other[1], (place, other_place)


def test_a_value_has_the_same_fingerprint_whatever_page_it_is_in(database):
    prints = prints_of(database)
    for name, frame in DISTINCT.items():
        whole = contents(prints, frame)
        rows = range(len(whole))
        parts = [frame.iloc[[row]] if isinstance(frame, pd.DataFrame) else frame[row : row + 1] for row in rows]
        if isinstance(frame, pa.Table):
            parts = [frame.slice(row, 1) for row in rows]
        assert [contents(prints, part)[0] for part in parts] == whole, name


def test_one_number_in_two_types_has_two_fingerprints(database):
    frames = [
        *(arrow([1], kind) for kind in (pa.int64(), pa.int32(), pa.uint64(), pa.float64(), pa.decimal128(5, 0))),
        *(polars([1], kind) for kind in (pl.Int64, pl.Int32, pl.Float64, pl.Decimal(5, 0), pl.Decimal(5, 1))),
        *(pandas([1], kind) for kind in ("int64", "int32", "Int64", "float64", "object")),
        pandas(["1"], "object"),
        arrow(["1"], pa.string()),
        polars(["1"], pl.String),
    ]
    found = [contents(prints_of(database), frame)[0] for frame in frames]
    assert len(set(found)) == len(frames)


@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_values_that_move_between_columns_differ(database, frame_of):
    prints = prints_of(database, fields={"a": "a", "b": "b"})
    texts = [
        ("ab", "c"),
        ("a", "bc"),
        ("", "abc"),
        ("abc", ""),
        ("c", "ab"),
        ("", ""),
        (None, ""),
        ("", None),
        (None, None),
    ]
    frame = frame_of({"id": ["A"] * len(texts), "a": [a for a, _ in texts], "b": [b for _, b in texts]})
    assert len(set(contents(prints, frame))) == len(texts)
    numbers = [(1, 2), (2, 1), (0, 3), (3, 0), (0, 0), (1, 1)]
    frame = frame_of({"id": ["A"] * len(numbers), "a": [a for a, _ in numbers], "b": [b for _, b in numbers]})
    assert len(set(contents(prints, frame))) == len(numbers)


@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_only_mapped_columns_count_wherever_they_stand(database, frame_of):
    prints = prints_of(database)
    frame = frame_of({"id": ["A"], "a": [1]})
    assert entries(prints, frame) == entries(prints, frame_of({"etag": ["x"], "a": [1], "id": ["A"]}))


@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_ten_thousand_rows_that_differ_little_have_as_many_fingerprints(database, frame_of):
    numbers = list(range(10_000))
    frame = frame_of({"id": ["A"] * 10_000, "a": numbers})
    lows, highs = zip(*contents(prints_of(database), frame), strict=True)
    assert len(set(lows)) == len(set(highs)) == 10_000
    for words in (lows, highs):
        ones = np.unpackbits(np.array(words, np.uint64).view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
        assert abs(ones - 0.5).max() < 0.03  # six deviations of a fair coin


@pytest.mark.parametrize(
    ("kind", "ids", "wanted"),
    [
        (sa.String(255), ["A", "é", "007", "SKU 1"], ["A", "é", "007", "SKU 1"]),
        (sa.String(255), [7, -1, 2**63 - 1], ["7", "-1", "9223372036854775807"]),
        (sa.BigInteger(), [7, -1, 2**63 - 1], ["7", "-1", "9223372036854775807"]),
        (sa.Integer(), ["007", "7", "+8"], ["7", "7", "8"]),
        (sa.Date(), ["20260329", "2026-03-29"], ["2026-03-29", "2026-03-29"]),
        (sa.Date(), [20260329], ["2026-03-29"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, sa.types.TypeEngine) else None,
)
@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_external_ids_hash_as_everywhere(database, frame_of, kind, ids, wanted):
    found = entries(prints_of(database, kind=kind), frame_of({"id": ids, "a": ids}))
    assert [key for key, _, _ in found or ()] == list(map(key_hash, wanted))


@given(st.text())
def test_both_forms_of_the_hash_of_an_id_agree(text):
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return
    assert int.from_bytes(key_digest(encoded)) == key_hash(text)


@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_an_id_that_is_converted_hashes_as_converted(database, frame_of):
    prints = prints_of(database, key=Field(source="id", convert=lambda value: f"x{value}"))
    assert [key for key, _, _ in entries(prints, frame_of({"id": ["A", "B"], "a": [1, 2]})) or ()] == [
        key_hash("xA"),
        key_hash("xB"),
    ]


@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_a_row_without_an_id_is_not_known_and_its_neighbours_are(database, frame_of):
    frame = frame_of({"id": ["A", None, " x", "B"], "a": [1, 2, 3, 4]})
    first, *others, last = entries(prints_of(database), frame) or []
    assert (first[0], others, last[0]) == (key_hash("A"), [(0, 0, 0), (0, 0, 0)], key_hash("B"))


@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_a_frame_that_lacks_a_field_is_not_known_unless_there_is_a_default(database, frame_of):
    frame = frame_of({"id": ["A"]})
    assert entries(prints_of(database), frame) == [(0, 0, 0)]
    assert entries(prints_of(database), frame_of({"a": [1]})) == [(0, 0, 0)]
    [(key, low, high)] = entries(prints_of(database, fields={"a": Field(source="a", default=1)}), frame) or []
    assert key == key_hash("A")
    assert (low, high) != (0, 0)


@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_a_field_inside_of_a_column_needs_records(database, frame_of):
    prints = prints_of(database, fields={"a": "a.b"})
    assert entries(prints, frame_of({"id": ["A"], "a": [{"b": 1}]})) is None
    assert entries(prints, frame_of({"id": ["A"], "a.b": [1]})) is not None


def test_what_has_no_text_is_not_known_and_its_neighbours_are(database):
    values = [object(), "\ud800", [NAN], 10**30, "a"]
    found = entries(prints_of(database), pandas(values, object)) or ()
    assert [entry == (0, 0, 0) for entry in found] == [True, True, True, True, False]


def test_of_two_columns_of_one_name_the_last_one_counts(database):
    prints = prints_of(database)
    one, other = pd.DataFrame([["A", 1, 2]], columns=["id", "a", "a"]), pd.DataFrame({"id": ["A"], "a": [2]})
    assert entries(prints, one) == entries(prints, other)
    one = pa.Table.from_arrays([pa.array(["A"]), pa.array([1]), pa.array([2])], names=["id", "a", "a"])
    assert entries(prints, one) == entries(prints, pa.table({"id": ["A"], "a": [2]}))


def test_fingerprints_of_many_columns_know_which_one_is_absent(database):
    names = [f"c{number}" for number in range(130)]
    prints = prints_of(database, fields={name: name for name in names})
    rows = [dict.fromkeys(names, 0) | {"id": "A"} | ({name: None} if name else {}) for name in [None, *names]]
    found = contents(prints, pa.Table.from_pylist(rows))
    assert len(set(found)) == 131
