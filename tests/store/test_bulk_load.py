"""What is appended in bulk comes back as it was, whichever way it takes to the database."""

import json
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import mysql

from sync_defs import Database
from sync_defs.store.dialects.lines import copy_lines

pytestmark = pytest.mark.each_database

TABLE = sa.Table(
    "loaded",
    sa.MetaData(),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text),
    sa.Column("price", sa.Numeric(30, 10)),
    sa.Column("rate", sa.Double),
    sa.Column("active", sa.Boolean),
    sa.Column("day", sa.Date),
    sa.Column("at", sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")),
    sa.Column("blob", sa.LargeBinary),
    sa.Column("doc", sa.JSON(none_as_null=True)),
    sa.Column("key", sa.Uuid),
)
# Everything that means something in a line of a file, and letters beside it.
TEXTS = st.text(st.sampled_from("\\tnrNx.\t\n\r\b\v'\"%,;{}é€𝄞 \x7f"), max_size=8) | st.sampled_from(["\\N", "\\.", ""])
# Digits that a float keeps too, which is what SQLite has for a decimal.
DECIMALS = st.decimals(-(10**5), 10**5, places=4) | st.sampled_from([Decimal("1E+3"), Decimal("0E-7"), Decimal("-0")])
ROWS = st.fixed_dictionaries(
    {
        "name": st.none() | TEXTS,
        "price": st.none() | DECIMALS,
        "rate": st.none() | st.floats(-1e9, 1e9, allow_nan=False, width=32),
        "active": st.none() | st.booleans(),
        "day": st.none() | st.dates(date(1000, 1, 1)),
        "at": st.none() | st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31)),
        "blob": st.none() | st.binary(max_size=5),
        "doc": st.none() | st.dictionaries(TEXTS, st.integers(-9, 9) | TEXTS, max_size=2),
        "key": st.none() | st.uuids(version=4),
    }
)


def load(database: Database, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Append rows to an empty table and return what it then has."""
    numbered = [{"seq": number, **row} for number, row in enumerate(rows, 1)]
    with database.write() as connection:
        TABLE.create(connection, checkfirst=True)
        connection.execute(sa.delete(TABLE))
        columns = [[row[column.name] for row in numbered] for column in TABLE.columns]
        database.dialect.bulk_load(connection, TABLE, columns)
        found = connection.execute(sa.select(TABLE).order_by(TABLE.c.seq)).mappings()
        return [{name: value for name, value in row.items() if name != "seq"} for row in found]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=1, max_size=12))
def test_every_value_comes_back(database: Database, rows: list[dict[str, Any]]) -> None:
    assert load(database, rows) == rows


def test_more_rows_than_are_sent_at_once(database: Database) -> None:
    start = datetime(2026, 1, 1)
    rows = [
        {
            "name": f"line {number}",
            "price": Decimal(number).scaleb(-2),
            "rate": number / 2,
            "active": number % 2 == 0,
            "day": None,
            "at": start + timedelta(seconds=number),
            "blob": bytes([number % 256]),
            "doc": None,
            "key": uuid.UUID(int=number),
        }
        for number in range(1_203)
    ]
    assert load(database, rows) == rows


def test_lines_for_copy_are_those_of_the_manual() -> None:
    """Section COPY, "Text Format": tabs, one line a row, backslash N for null, backslash x and digits for bytea."""
    columns = [
        [1, 2],
        ["a\tb\\c\r\n", None],
        [Decimal("1.10"), Decimal(-3)],
        [True, None],
        [b"\x00\xff", None],
        [datetime(2026, 3, 29, 2, 30, tzinfo=UTC), None],
    ]
    assert copy_lines(columns) == (
        "1\ta\\tb\\\\c\\r\\n\t1.10\t1\t\\\\x00ff\t2026-03-29T02:30:00+00:00\n2\t\\N\t-3\t\\N\t\\N\t\\N\n"
    )


@pytest.mark.parametrize("values", [[timedelta(days=1)], [[1, 2]], [1, "1"], [json.JSONEncoder()]])
def test_what_only_the_driver_can_write_has_no_line(values: list[Any]) -> None:
    assert copy_lines([values]) is None
