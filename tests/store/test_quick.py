"""The quick ways of coercion give what the general one gives: the same values, or the same errors."""

import decimal
import enum
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st

from sync_defs import Database, Field, RecordError, TableSync, mark
from sync_defs.fields import read_converted
from sync_defs.store.coerce import check_version, coercer
from sync_defs.store.mapping import TableMapping
from sync_defs.store.quick import quick_coercer


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class TextEnum(str, enum.Enum):  # noqa: UP042 - its str() is not its text, unlike that of StrEnum
    A = "a"


DATES = st.sampled_from(["2026-03-29", "20260329", "2026-W13-7", "0001-01-01", "9999-12-31", "2026-02-30", "2026-03"])
SEPARATORS = st.sampled_from(["T", " ", "t", "+", "-", "Z", ""])
HOURS = st.sampled_from(["02:30", "02:30:00", "02:30:00.5", "023000", "23:59:59.999999", "00", "24:00", "", "02:30,5"])
ZONES = st.sampled_from(
    [
        "",
        "Z",
        "z",
        "+02:00",
        "-11:45",
        "+14:00",
        "+15:00",
        "+0200",
        "+02",
        "-00:00",
        "+00:00:30",
        "-01:00+02:00",
        "Z+02:00",
    ]
)
TIMES = st.builds("".join, st.tuples(DATES, SEPARATORS, HOURS, ZONES))
NUMBERS = st.one_of(
    st.text("0123456789.-", max_size=14),
    st.text("0123456789+-.eE_ \n\u0661", max_size=8),
    st.decimals(-(10**11), 10**11, places=2).map(str),
    st.decimals(-(10**17), 10**17, places=2),
    st.decimals(),
)
INTEGERS = st.sampled_from([sign * 2**bits + step for bits in (15, 31, 63) for sign in (1, -1) for step in (-1, 0, 1)])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    INTEGERS,
    st.floats(),
    NUMBERS,
    TIMES,
    st.text(max_size=12),
    st.text(st.characters(), max_size=3),
    st.binary(max_size=3),
    st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=2))])),
    st.dates(),
    st.uuids(),
    st.sampled_from(
        ["SMALL", "s", "small", "red", "RED", "\ud800", "\x00", "\u00a0", "\u00e9\n", Size.LARGE, TextEnum.A]
    ),
    st.sampled_from([np.int64(7), np.float64(1.5), np.bool_(True), np.str_("a"), pd.NA, pd.NaT, pd.Timestamp(0)]),
    st.lists(st.integers(), max_size=1),
)
KINDS = [
    sa.String(8),
    sa.Text(),
    sa.SmallInteger(),
    sa.Integer(),
    sa.BigInteger(),
    sa.Numeric(12, 2),
    sa.Numeric(20, 2),
    sa.Numeric(5, 0),
    sa.Numeric(2, 2),
    sa.Numeric(30, 20),
    sa.Numeric(4),
    sa.Numeric(),
    sa.Numeric(10, 2, asdecimal=False),
    sa.Float(),
    sa.Boolean(),
    sa.DateTime(timezone=True),
    sa.DateTime(),
    sa.Date(),
    sa.Time(),
    sa.Enum(Size),
    sa.Enum("red", "blue", name="colour"),
    sa.LargeBinary(),
    sa.Uuid(),
    sa.JSON(),
]
DATABASES = [{"keeps_time_zones": keeps, "keeps_decimals": keeps} for keeps in (True, False)]


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives, exactly: 1 is not True, 1.10 is not 1.1; or the error of the record."""
    try:
        found = function(*arguments)
    except RecordError as error:
        return told(error)
    return exactly(found)


def told(error: RecordError) -> tuple[str, ...]:
    return ("refused", error.code, error.field or "", error.reason)


def exactly(value: Any) -> tuple[str, str]:
    return (type(value).__name__, repr(value))


@pytest.mark.parametrize("keeps", DATABASES, ids=["kept", "not-kept"])
@pytest.mark.parametrize("kind", KINDS, ids=repr)
@given(values=st.lists(VALUES, max_size=4))
@example(values=["1-1"])
@example(values=["2026-03-29+02:00", "2026-03-29Z", "2026-03-29T02:30-01:00+02:00", "2026-03-29T02:30Z+02:00"])
@example(values=["0001-01-01T00:00:00+02:00"])
@example(values=["1.00\n2.00", "1.00\n"])
@example(values=["12.345", "9999999999.99", "999999999.995", "-0.00", ".50", "5.", "1.5"])
@example(values=["1.5", "12.34", "7", "007.1"])
@example(values=["1.2.34", "1.23"])
@example(values=["", "1.00"])
@example(values=[".", "1.00"])
@example(values=["2026-03-29T02:30:00+02:00", "2026-03-29T02:30:00.5+02:00"])
@example(values=["2026-03-29T02:30:00Z", "2026-03-29T02:30:00.123456Z"])
@example(values=["2026-03-29Z", "2026-03-29T02:30:00Z"])
@example(values=["2026-03-29T02:30+01Z", "2026-03-29T02:30:00Z"])
@example(values=["2026-03-29T02:30-01:00+02:00", "2026-03-29T02:30-01:00+02:00"])
@example(values=["2026-03-29T02:30:00+02:00Z", "2026-03-29T02:30:00+02:00Z"])
@example(values=["2026-03-29T02:30:00+00:00", "2026-03-29T02:30:00+00:00"])
@example(values=["2026-03-29T02:30:00+02:00", "2026-03-29T02:30:00+03:00"])
@example(values=["9999-12-31T23:30:00-02:00", "2026-03-29T02:30:00-02:00"])
@example(values=[True, 1])
@example(values=["a", "\x00"])
@example(values=[1.5, math.nan, -math.inf, sys.float_info.max])
@example(values=["1", "10", "01"])
def test_quick_and_general_coercion_agree(kind, keeps, values):
    """One by one, and all in a page."""
    column = sa.Column("amount", kind)
    general, quick = coercer(column, **keeps), quick_coercer(column, **keeps)
    wanted = [outcome(general, value) for value in values]
    assert [outcome(quick.one, value) for value in values] == wanted
    many = quick.many
    assert many is not None
    refused = [found for found in wanted if found[0] == "refused"]
    if refused:
        assert outcome(many, values) in refused
    else:
        assert [exactly(value) for value in many(values)] == wanted


@given(value=st.one_of(NUMBERS, TIMES, st.text(max_size=12)))
def test_the_context_of_the_thread_does_not_matter(value):
    """Neither few digits nor a trap that is off."""
    column = sa.Column("amount", sa.Numeric(12, 2))
    general, quick = coercer(column, keeps_time_zones=True), quick_coercer(column, keeps_time_zones=True)
    wanted = outcome(general, value)
    with decimal.localcontext(prec=2, rounding=decimal.ROUND_DOWN) as context:
        context.clear_traps()
        assert outcome(general, value) == wanted
        assert outcome(quick.one, value) == wanted


NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
TABLE = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("stock", sa.Integer, nullable=False),
    sa.Column("price", sa.Numeric(12, 2)),
    sa.Column("city", sa.String(8)),
    sa.Column("note", sa.Text),
    sa.Column("active", sa.Boolean),
    sa.Column("at", sa.DateTime(timezone=True)),
)
URLS = ["sqlite://", "postgresql+psycopg://user@host/name"]


def only_short(text: Any) -> Any:
    """A `convert` that takes no numbers."""
    return text if text is None else text[:4]


def job_of(**fields: str | Field) -> TableSync:
    return TableSync(list, name="things", target=TABLE, key="id", fields=fields, version="at")


JOBS = {
    "plain": job_of(stock="stock", price="price", note="note", active="active"),
    "odd": job_of(
        stock=Field(source="stock", default=7),
        city=Field(source="store.city"),
        note=Field(source="note", convert=only_short),
        price="price",
    ),
}
RECORDS = st.fixed_dictionaries(
    {"id": st.sampled_from(["A", "B"]), "stock": st.integers(0, 9) | VALUES},
    optional={
        "price": st.sampled_from(["19.90", "1.1", 5]) | VALUES,
        "note": st.text(max_size=6) | VALUES,
        "store": st.fixed_dictionaries({}, optional={"city": VALUES}) | st.none(),
        "store.city": VALUES,
        "active": st.booleans() | VALUES,
        "at": st.sampled_from(["2026-03-29T14:00:00+02:00", "2026-03-30T12:00:01Z", "2099-01-01"]) | VALUES,
    },
)
USUAL = {"id": "A", "stock": 1, "price": "19.90", "note": "n", "active": True, "at": "2026-03-29T02:30:00+02:00"}


def one_by_one(job: TableSync, database: Database, record: Any) -> list[Any]:
    """The oracle: each field read, converted and coerced the general way, in order."""
    specs = {**job.key, **job.fields}
    keeps = {
        "keeps_time_zones": database.dialect.keeps_time_zones,
        "keeps_decimals": database.dialect.name != "sqlite",
    }
    values = {name: coercer(TABLE.columns[name], **keeps)(read_converted(record, spec)) for name, spec in specs.items()}
    check_version(values["at"], database.now(), "at")
    return list(values.values())


def rows_of(shaped: Iterable[Any]) -> list[Any]:
    return [told(found) if isinstance(found, RecordError) else [exactly(value) for value in found] for found in shaped]


@pytest.mark.parametrize("url", URLS, ids=["sqlite", "postgresql"])
@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
@given(records=st.lists(RECORDS, max_size=4))
@example(records=[{**USUAL, "note": "19", "price": "1234567890.12"}, {**USUAL, "stock": 1, "price": "9.99"}])
def test_shapes_agree_with_field_by_field(job, url, records):
    """A record alone and records in a page, dicts and others, good and bad."""
    database = Database(url, clock=lambda: NOON)
    mapping = TableMapping(job, database)
    wanted = []
    for record in records:
        try:
            wanted.append([exactly(value) for value in one_by_one(job, database, record)])
        except RecordError as error:
            wanted.append(told(error))
    assert rows_of(found for record in records for found in mapping.shape([record])) == wanted
    assert rows_of(mapping.shape(records)) == wanted
    assert rows_of(mapping.shape([OrderedDict(record) for record in records])) == wanted
    assert rows_of(mapping.shape([{**USUAL, "store": {"city": "x"}}, *records]))[1:] == wanted


def test_a_page_calls_convert_once_for_each_record():
    seen = []
    table = job_of(stock=Field(convert=lambda value: seen.append(value) or value), price="price")
    mapping = TableMapping(table, Database("sqlite://"))
    shaped = mapping.shape([{**USUAL, "stock": 1}, {**USUAL, "stock": 2, "price": "x"}, {**USUAL, "stock": "y"}])
    assert seen == [1, 2, "y"]
    assert [getattr(found, "code", None) for found in shaped] == [None, "bad_number", "bad_integer"]


def test_an_object_that_raises_costs_its_record_alone():
    class Broken:
        @property
        def id(self) -> str:
            raise RuntimeError

    mapping = TableMapping(job_of(stock="stock"), Database("sqlite://"))
    good = SimpleNamespace(**USUAL)
    shaped = mapping.shape([good, Broken(), USUAL])
    values = ["A", 1, datetime(2026, 3, 29, 0, 30)]
    assert [shaped[0], type(shaped[1]), shaped[2]] == [values, RuntimeError, values]


def test_the_clock_is_read_for_versions_that_may_lie_in_the_future():
    """A version that an earlier reading allowed is not too new later; one that it did not is compared again."""
    clock = [NOON]
    mapping = TableMapping(job_of(stock="stock"), Database("sqlite://", clock=lambda: clock[0]))

    def code_of(record: Any) -> str | None:
        [found] = mapping.shape([record])
        return getattr(found, "code", None)

    tomorrow, later = NOON + timedelta(hours=24), NOON + timedelta(hours=25)
    assert code_of({**USUAL, "at": tomorrow}) is None
    assert code_of({**USUAL, "at": later}) == "version_in_future"
    clock[0] = later
    assert code_of({**USUAL, "at": later}) is None
    assert code_of({**USUAL, "at": date(2026, 3, 29)}) is None


def test_a_deletion_tells_its_version_through_convert():
    """A late delete is held back, also where the source counts seconds."""
    table = TableSync(
        list,
        name="things",
        target=TABLE,
        key="id",
        fields={"at": Field(source="seconds", convert=lambda seconds: datetime.fromtimestamp(seconds, UTC))},
        version="seconds",
    )
    assert TableMapping(table, Database("sqlite://")).key_only("A", {"seconds": 60}) == [
        "A",
        datetime(1970, 1, 1, 0, 1),
    ]


def test_a_column_that_is_set_back_is_part_of_the_shape():
    table = TableSync(
        list,
        name="things",
        target=TABLE,
        key="id",
        fields={"stock": "stock"},
        on_missing=mark(active=False, otherwise=True),
    )
    mapping = TableMapping(table, Database("sqlite://"))
    assert mapping.shape([USUAL]) == [["A", 1, True]]
    assert mapping.shape([USUAL, USUAL]) == [("A", 1, True)] * 2


def test_a_job_of_a_key_alone_is_shaped():
    mapping = TableMapping(TableSync(list, name="things", target=TABLE, key="id", fields={}), Database("sqlite://"))
    assert mapping.shape([{"id": "A"}]) == [["A"]]
    assert mapping.shape([{"id": "A"}] * 2) == [("A",)] * 2


def test_what_a_float_cannot_hold_is_refused_where_decimals_become_floats():
    """The oracle: what SQLAlchemy gives back of the float, at the column's places."""

    def held(kind: Any, value: str) -> Any:
        return outcome(coercer(sa.Column("amount", kind), keeps_time_zones=False, keeps_decimals=False), value)[1]

    assert held(sa.Numeric(15, 2), "1234567890123.45") == "Decimal('1234567890123.45')"
    assert held(sa.Numeric(20, 2), "12345678901234.56") == "Decimal('12345678901234.56')"
    assert held(sa.Numeric(20, 2), "12345678901234567.89") == "inexact_number"
    assert held(sa.Numeric(20, 2), "12345678901234568") == "Decimal('12345678901234568.00')"
    assert held(sa.Numeric(38, 20), "0.12345678901234567890") == "inexact_number"
    assert held(sa.Numeric(38, 0), str(2**80)) == f"Decimal('{2**80}')"
    assert held(sa.Numeric(38, 0), str(2**80 + 1)) == "inexact_number"
    assert held(sa.Numeric(), "0.1") == "Decimal('0.1')"
    assert held(sa.Numeric(), "0.30000000000000004") == "Decimal('0.30000000000000004')"
    assert held(sa.Numeric(), "0.12345678901234567") == "inexact_number"
    assert held(sa.Numeric(5, -2), "12345") == "Decimal('1.23E+4')"


@given(number=st.decimals(-(10**13), 10**13, places=2), places=st.integers(0, 4))
def test_fifteen_digits_always_fit_a_float(number, places):
    number = number.scaleb(2 - places)
    quick = quick_coercer(sa.Column("amount", sa.Numeric(30, places)), keeps_time_zones=False, keeps_decimals=False)
    assert quick.one(str(number)) == Decimal(f"{float(number):.{places}f}") == number
