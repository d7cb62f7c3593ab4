"""Frames as sources: the same rows and counts as from records, and no record is made of a row that is known."""

import math
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from sync_defs import Database, TableSync, run_sync
from sync_defs.store.frames import FramePage
from tests.examples import few

FIELDS = ("stock", "price", "name", "ratio", "seen_at")
COUNTS = ("created", "updated", "unchanged", "skipped", "rejected", "deleted")
ARROW = pa.schema(
    {
        "sku": pa.string(),
        "stock": pa.int64(),
        "price": pa.decimal128(12, 2),
        "name": pa.string(),
        "ratio": pa.float64(),
        "seen_at": pa.timestamp("us", "UTC"),
    }
)
Row = dict[str, Any]
Frame = Callable[[list[Row]], Any]


def arrow(rows: list[Row]) -> Any:
    return pa.Table.from_pylist(rows, schema=ARROW)


def polars(rows: list[Row]) -> Any:
    kinds = (pl.String, pl.Int64, pl.Decimal(12, 2), pl.String, pl.Float64, pl.Datetime("us", "UTC"))
    return pl.DataFrame(rows, schema=dict(zip(ARROW.names, kinds, strict=True)))


def pandas(rows: list[Row]) -> Any:
    kinds = ("str", "Int64", "object", "str", "float64", "datetime64[us, UTC]")
    columns = [
        pd.Series([row[name] for row in rows], dtype=kind) for name, kind in zip(ARROW.names, kinds, strict=True)
    ]
    return pd.DataFrame(dict(zip(ARROW.names, columns, strict=True)))


def pandas_on_arrow(rows: list[Row]) -> Any:
    return arrow(rows).to_pandas(types_mapper=pd.ArrowDtype)


FRAMES: dict[str, Frame] = {"pandas": pandas, "pandas on Arrow": pandas_on_arrow, "Arrow": arrow, "Polars": polars}


class Items:
    """A table of its own, and a job that fetches everything each time."""

    def __init__(self, database: Database, **options: Any) -> None:
        self.database = database
        self.table = sa.Table(
            f"items_{uuid.uuid4().hex[:8]}",
            sa.MetaData(),
            sa.Column("sku", sa.String(40), primary_key=True),
            sa.Column("stock", sa.Integer),
            sa.Column("price", sa.Numeric(12, 2)),
            sa.Column("name", sa.String(3)),
            sa.Column("ratio", sa.Float(53)),
            sa.Column("seen_at", sa.DateTime(timezone=True)),
        )
        self.options = {"fields": {name: name for name in FIELDS}, "on_missing": "delete", "max_delete_fraction": 1.0}
        self.options |= options
        with database.write() as connection:
            self.table.create(connection)

    def sync(self, *parts: Any, **options: Any) -> dict[str, int]:
        """Sync what a fetch yields, and return the counts that are not 0."""
        given = self.options | options
        job = TableSync(lambda: iter(parts), name=self.table.name, target=self.table, key="sku", **given)
        results = run_sync(job, database=self.database)
        assert results.fetched == sum(getattr(results, name) for name in COUNTS[:-1])
        return {name: count for name in COUNTS if (count := getattr(results, name))}

    def rows(self) -> dict[str, Row]:
        with self.database.read() as connection:
            found = connection.execute(sa.select(self.table)).mappings()
            return {row["sku"]: {name: row[name] for name in FIELDS} for row in found}


client_side = pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
"""Of what is done with columns before any database is asked."""


@pytest.fixture
def items(database: Database) -> Items:
    return Items(database)


def row(sku: Any = "A", **values: Any) -> Row:
    usual = {
        "stock": 1,
        "price": Decimal("1.10"),
        "name": "a",
        "ratio": 0.5,
        "seen_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return {"sku": sku} | usual | values


def rows(count: int, **values: Any) -> list[Row]:
    return [row(f"S{number}", stock=number, **values) for number in range(count)]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Collect the records that pages of frames make."""
    found: list[Row] = []
    take = FramePage.take

    def watched(self: FramePage, places: Any) -> list[Row]:
        records = take(self, places)
        found.extend(records)
        return records

    monkeypatch.setattr(FramePage, "take", watched)
    return found


some_rows = st.lists(
    st.fixed_dictionaries(
        {
            "sku": st.sampled_from(["A", "B", "C", "é", "007", " x", "", None]),
            "stock": st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, None]),
            "price": st.sampled_from([Decimal("0.00"), Decimal("1.10"), Decimal("-1.10"), None]),
            "name": st.sampled_from(["", "a", "ab", "é", "long", None]),
            "ratio": st.sampled_from([0.0, -0.0, 1.0, 1e-300, None]),
            "seen_at": st.sampled_from(
                [datetime(2026, 3, 29, 0, 30, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), None]
            ),
        }
    ),
    max_size=6,
)


@client_side
@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
@few(4)
@given(fetches=st.lists(some_rows, min_size=2, max_size=3), again=st.booleans())
def test_frames_end_in_the_same_rows_and_counts_as_records(database, frame_of, fetches, again):
    by_records, by_frames = Items(database), Items(database)
    for fetched in [*fetches, *fetches[-1:]] if again else fetches:
        assert by_frames.sync(frame_of(fetched)) == by_records.sync(fetched)
        assert by_frames.rows() == by_records.rows()


@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_only_rows_that_are_not_known_are_made_into_records(items, made, frame_of):
    assert items.sync(frame_of(rows(50))) == {"created": 50}
    assert len(made) == 50
    made.clear()
    assert items.sync(frame_of(rows(50))) == {"unchanged": 50}
    assert made == []
    changed = rows(51)
    changed[7]["name"] = "b"
    assert items.sync(frame_of(changed)) == {"created": 1, "updated": 1, "unchanged": 49}
    assert [record["sku"] for record in made] == ["S7", "S50"]
    assert items.rows()["S7"]["name"] == "b"


@client_side
@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
@pytest.mark.parametrize(
    ("name", "value"),
    [("stock", 0), ("price", Decimal(0)), ("name", ""), ("ratio", 0.0), ("seen_at", datetime(1970, 1, 1, tzinfo=UTC))],
)
def test_what_becomes_absent_or_comes_back_is_seen(items, frame_of, name, value):
    items.sync(frame_of([row(), row("B")]))
    for now in (value, None, value):
        assert items.sync(frame_of([row(**{name: now}), row("B")])) == {"updated": 1, "unchanged": 1}


def test_each_kind_of_absent_is_null_and_known(items):
    items.sync(pd.DataFrame([row("A"), row("B"), row("C")], dtype=object))
    gone = pd.DataFrame(
        [row("A", stock=pd.NA, name=math.nan), row("B", seen_at=pd.NaT), row("C", ratio=math.nan)], dtype=object
    )
    assert items.sync(gone) == {"updated": 3}
    assert items.sync(gone) == {"unchanged": 3}
    held = items.rows()
    assert (held["A"]["stock"], held["A"]["name"], held["B"]["seen_at"], held["C"]["ratio"]) == (None,) * 4


@client_side
@pytest.mark.parametrize("frame_of", [arrow, polars])
def test_nan_is_no_gap_outside_of_pandas(items, frame_of):
    assert items.sync(frame_of([row(ratio=math.nan), row("B", ratio=None)])) == {"created": 1, "rejected": 1}
    assert items.sync(frame_of([row(ratio=math.nan), row("B", ratio=None)])) == {"unchanged": 1, "rejected": 1}


@client_side
@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_repetitions_in_a_frame_are_skipped(items, frame_of):
    repeated = [row("A"), row("B"), row("A")]
    assert items.sync(frame_of(repeated)) == {"created": 2, "skipped": 1}
    assert items.sync(frame_of(repeated)) == {"unchanged": 2, "skipped": 1}
    assert items.sync(frame_of([row("A", name="b"), row("B"), row("A")])) == {"unchanged": 2, "skipped": 1}


@client_side
@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_should_skip_is_asked_of_rows_that_are_known(items, frame_of):
    items.sync(frame_of([row("A"), row("B")]))
    found = items.sync(frame_of([row("A"), row("B")]), should_skip=lambda record: record["sku"] == "B")
    assert found == {"unchanged": 1, "skipped": 1}


@client_side
@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_frames_and_records_mix_and_a_record_for_a_row_is_compared_once(items, frame_of, made):
    items.sync(frame_of(rows(3)), rows(6)[3:4], row("S4", stock=4), frame_of(rows(7)[5:]))
    assert list(items.rows()) == [f"S{number}" for number in range(7)]
    made.clear()
    assert items.sync(frame_of(rows(3)), rows(6)[3:4], row("S4", stock=4), frame_of(rows(7)[5:])) == {"unchanged": 7}
    assert made == []
    assert items.sync(rows(7)) == {"unchanged": 7}
    assert items.sync(frame_of(rows(7))) == {"unchanged": 7}
    assert len(made) == 7


@client_side
@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_an_empty_frame_is_an_empty_fetch(items, frame_of):
    assert items.sync(frame_of([row()])) == {"created": 1}
    assert items.sync(frame_of([])) == {}
    assert items.sync(frame_of([]), [], frame_of([row()])) == {"unchanged": 1}


@client_side
@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_rows_without_the_key_are_rejected_each(items, frame_of):
    frame = frame_of([row(), row("B")])
    items.sync(frame)
    without = frame.drop(columns="sku") if isinstance(frame, pd.DataFrame) else frame.drop(["sku"])
    assert items.sync(without) == {"rejected": 2}
    assert set(items.rows()) == {"A", "B"}


@pytest.mark.parametrize("frame_of", FRAMES.values(), ids=FRAMES.keys())
def test_a_rejected_row_is_kept_and_told(items, frame_of):
    items.sync(frame_of([row(), row("B")]))
    for _ in range(2):
        assert items.sync(frame_of([row(name="too long"), row("B")])) == {"rejected": 1, "unchanged": 1}
    assert items.sync(frame_of([row(), row("B")])) == {"unchanged": 2}


def test_floats_where_integers_are_wanted_follow_the_rules_of_values(items):
    """An integer column with a gap holds floats in pandas: whole ones are taken, others are rejected."""
    table = pd.DataFrame([row("A"), row("B"), row("C")]).assign(stock=[7.0, None, 7.5])
    assert str(table.dtypes["stock"]) == "float64"
    assert items.sync(table) == {"created": 2, "rejected": 1}
    assert items.sync(table) == {"unchanged": 2, "rejected": 1}
    assert {sku: held["stock"] for sku, held in items.rows().items()} == {"A": 7, "B": None}


def test_nested_values_are_followed(database):
    items = Items(database, fields={"stock": "data.stock"})
    for stock, wanted in ((1, {"created": 1}), (2, {"updated": 1}), (2, {"unchanged": 1})):
        assert items.sync(pa.Table.from_pylist([{"sku": "A", "data": {"stock": stock}}])) == wanted


def test_small_batches_of_a_reader_are_staged_together(items, monkeypatch):
    sizes: list[int] = []
    from sync_defs.store import SqlStore

    stage = SqlStore.stage

    def watched(self: Any, job: Any, run: Any, page: Any, *expected: Any) -> None:
        sizes.append(len(page))
        stage(self, job, run, page, *expected)

    monkeypatch.setattr(SqlStore, "stage", watched)
    reader = pa.RecordBatchReader.from_batches(ARROW, arrow(rows(90)).to_batches(max_chunksize=9))
    assert items.sync(reader) == {"created": 90}
    assert sizes == [90]
