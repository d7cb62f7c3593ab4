"""What is appended in bulk comes back as it was, whichever way it takes to the database."""

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
from sync_defs.store.dialects.lines import WRITERS, joined_lines, texts_of

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
    sa.Column("clock", sa.Time().with_variant(mysql.TIME(fsp=6), "mysql", "mariadb")),
    sa.Column("blob", sa.LargeBinary),
    sa.Column("key", sa.Uuid),
)
DOCUMENTS = sa.Table(
    "documents",
    sa.MetaData(),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("doc", sa.JSON(none_as_null=True)),
)


class Moment(sa.TypeDecorator[Any]):
    """A time that is given to the driver as it comes; comes back as text, without fractions."""

    impl = sa.DateTime
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        return str if dialect.name == "sqlite" else None

    def result_processor(self, dialect: sa.Dialect, coltype: Any) -> Any:
        def read(value: Any) -> str:
            text = str(value)
            return text if ":" in text else f"{text} 00:00:00"

        return read


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
        "clock": st.none() | st.times(),
        "blob": st.none() | st.binary(max_size=5),
        "key": st.none() | st.uuids(version=4),
    }
)


def load(database: Database, rows: list[dict[str, Any]], table: sa.Table = TABLE) -> list[dict[str, Any]]:
    """Append rows to an empty table and return what it then has."""
    numbered = [{"seq": number, **row} for number, row in enumerate(rows, 1)]
    with database.write() as connection:
        table.create(connection, checkfirst=True)
        connection.execute(sa.delete(table))
        columns = [[row[column.name] for row in numbered] for column in table.columns]
        database.dialect.bulk_load(connection, table, columns)
        found = connection.execute(sa.select(table).order_by(table.c.seq)).mappings()
        return [{name: value for name, value in row.items() if name != "seq"} for row in found]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=1, max_size=12))
def test_every_value_comes_back(database: Database, rows: list[dict[str, Any]]) -> None:
    assert load(database, rows) == rows


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    docs=st.lists(st.none() | st.dictionaries(TEXTS, st.integers(-9, 9) | TEXTS, max_size=2), min_size=1, max_size=5)
)
def test_json_comes_back_by_the_drivers_own_texts(database: Database, docs: list[Any]) -> None:
    rows = [{"doc": doc} for doc in docs]
    assert load(database, rows, DOCUMENTS) == rows


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
            "clock": None,
            "blob": bytes([number % 256]),
            "key": uuid.UUID(int=number),
        }
        for number in range(1_203)
    ]
    assert load(database, rows) == rows


def test_lines_are_those_of_the_manual() -> None:
    """PostgreSQL's section COPY, "Text Format": tabs, one line a row, backslash N for null."""
    columns = [
        [1, 2],
        ["a\tb\\c\r\n", None],
        [Decimal("1.10"), Decimal(-3)],
        [datetime(2026, 3, 29, 2, 30, tzinfo=UTC), None],
    ]
    texts = [texts_of(values, WRITERS) for values in columns]
    assert joined_lines([column for column in texts if column is not None]) == (
        "1\ta\\tb\\\\c\\r\\n\t1.10\t2026-03-29T02:30:00+00:00\n2\t\\N\t-3\t\\N\n"
    )


class Name(str):
    """A kind of text for which a program may have told its driver something of its own."""

    __slots__ = ()


@pytest.mark.parametrize(
    "values",
    [[timedelta(days=1)], [[1, 2]], [1, "1"], [True, 1], [datetime(2026, 1, 1, 5), date(2026, 1, 1)], [Name("a")]],
    ids=repr,
)
def test_what_only_the_driver_knows_is_left_to_it(values: list[Any]) -> None:
    assert texts_of(values, WRITERS) is None


def test_times_of_day_beside_dates_are_kept(database: Database) -> None:
    """A type of a user's own may give the driver values of several types."""
    table = sa.Table("mixed", sa.MetaData(), sa.Column("seq", sa.BigInteger, primary_key=True), sa.Column("at", Moment))
    at = [datetime(2026, 1, 1, 5), date(2026, 1, 2)]
    assert load(database, [{"at": value} for value in at], table) == [
        {"at": "2026-01-01 05:00:00"},
        {"at": "2026-01-02 00:00:00"},
    ]
