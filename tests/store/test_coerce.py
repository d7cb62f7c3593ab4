"""Values become what a column holds, or are refused with a code; records survive the wait as JSON."""

import enum
import json
import math
import time as clock
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from sync_defs import RecordError
from sync_defs.store.coerce import canonical, check_version, coercer, decode_record, encode_record


class Size(enum.Enum):
    """An enumeration whose names and values differ."""

    SMALL = "s"
    LARGE = "l"
    S = "tiny"


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


class TextEnum(str, enum.Enum):  # noqa: UP042 - its str() is not its text, unlike that of StrEnum
    A = "a"


class NumberEnum(int, enum.Enum):
    ONE = 1


@dataclass(frozen=True)
class Refused:
    """An expected refusal, by code."""

    code: str


def label(value: Any) -> str:
    """A short name for a value, the same in every process, also where its text would be refused or a page long."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "huge"
    return ascii(value).partition(" at 0x")[0][:30]


def table(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> pytest.MarkDecorator:
    """One test for each row, named by its number and its last value but one."""
    return pytest.mark.parametrize(names, rows, ids=[f"{n}-{label(row[-2])}" for n, row in enumerate(rows)])


def coerced(kind: Any, value: Any, *, keeps_time_zones: bool = True, **column: Any) -> Any:
    """The value that the column `amount` would hold, or the refusal."""
    try:
        return coercer(sa.Column("amount", kind, **column), keeps_time_zones=keeps_time_zones)(value)
    except RecordError as error:
        return Refused(error.code) if error.field == "amount" else error


def same(found: Any, expected: Any) -> bool:
    """Tell whether two values are equal and of one type: True is not 1, and 1.10 is not 1.1."""
    return (type(found), repr(found)) == (type(expected), repr(expected))


ID = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")
NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
TWO_HOURS = timezone(timedelta(hours=2))

INTEGERS = [
    (0, 0),
    (-7, -7),
    ("42", 42),
    ("+42", 42),
    ("-42", -42),
    ("007", 7),
    ("0" * 40, 0),
    ("0" * 41, Refused("bad_integer")),
    (7.0, 7),
    (-0.0, 0),
    (Decimal("7.00"), 7),
    (Decimal("7E+2"), 700),
    (NumberEnum.ONE, 1),
    (np.int64(7), 7),
    (np.uint8(7), 7),
    (np.float64(7.0), 7),
    (7.5, Refused("bad_integer")),
    (Decimal("7.5"), Refused("bad_integer")),
    ("7.0", Refused("bad_integer")),
    ("7e2", Refused("bad_integer")),
    ("", Refused("bad_integer")),
    (" 7", Refused("bad_integer")),
    ("7\n", Refused("bad_integer")),
    ("0x10", Refused("bad_integer")),
    ("1_000", Refused("bad_integer")),
    ("\u0667", Refused("bad_integer")),
    ("--1", Refused("bad_integer")),
    (True, Refused("bad_integer")),
    (np.bool_(True), Refused("bad_integer")),
    (b"7", Refused("bad_integer")),
    ([7], Refused("bad_integer")),
    ({}, Refused("bad_integer")),
    (float("nan"), Refused("non_finite_number")),
    (float("-inf"), Refused("non_finite_number")),
    (Decimal("NaN"), Refused("non_finite_number")),
    (Decimal("sNaN"), Refused("non_finite_number")),
    (Decimal("Infinity"), Refused("non_finite_number")),
    (1e300, Refused("out_of_range")),
    (Decimal("1E+9999"), Refused("out_of_range")),
    (Decimal("1E+999999999"), Refused("out_of_range")),
    (Decimal("1E-999999999"), Refused("bad_integer")),
    (10**5000, Refused("out_of_range")),
]
RANGES = [
    (sa.SmallInteger(), 32_767, -32_768),
    (sa.Integer(), 2_147_483_647, -2_147_483_648),
    (sa.BigInteger(), 9_223_372_036_854_775_807, -9_223_372_036_854_775_808),
]


@table(("value", "expected"), INTEGERS)
def test_integers(value, expected):
    assert same(coerced(sa.Integer(), value), expected)


@table(("kind", "top", "bottom"), RANGES)
def test_the_range_of_each_integer(kind, top, bottom):
    values = [top, bottom, str(top), str(bottom), Decimal(top), top + 1, bottom - 1, str(top + 1)]
    expected = [top, bottom, top, bottom, top, *[Refused("out_of_range")] * 3]
    assert [coerced(kind, value) for value in values] == expected


NUMBERS = [
    (2.675, "2.68"),
    (-2.675, "-2.68"),
    ("2.675", "2.68"),
    ("-2.675", "-2.68"),
    (2.665, "2.67"),
    (1.005, "1.01"),
    ("2.674999", "2.67"),
    ("0.005", "0.01"),
    ("0.0049", "0.00"),
    (1, "1.00"),
    ("1", "1.00"),
    ("+1", "1.00"),
    ("01.10", "1.10"),
    (".5", "0.50"),
    ("5.", "5.00"),
    ("1e3", "1000.00"),
    ("1E-5", "0.00"),
    (Decimal("1.1"), "1.10"),
    (np.float64(1.5), "1.50"),
    (np.int32(3), "3.00"),
    ("99999999.99", "99999999.99"),
    ("99999999.994", "99999999.99"),
    ("-99999999.994", "-99999999.99"),
    ("99999999.995", Refused("out_of_range")),
    ("-99999999.995", Refused("out_of_range")),
    (100_000_000, Refused("out_of_range")),
    ("1e9999", Refused("out_of_range")),
    ("-1e9999", Refused("out_of_range")),
    ("1e-9999", "0.00"),
    (Decimal("1e999999"), Refused("out_of_range")),
    (Decimal("1e-999999"), "0.00"),
    (10**5000, Refused("out_of_range")),
    ("1e99999", Refused("bad_number")),
    ("9" * 1001, Refused("bad_number")),
    ("", Refused("bad_number")),
    (".", Refused("bad_number")),
    ("e5", Refused("bad_number")),
    ("1,50", Refused("bad_number")),
    ("1 000", Refused("bad_number")),
    ("1_000", Refused("bad_number")),
    (" 1", Refused("bad_number")),
    ("1\n", Refused("bad_number")),
    ("0x1", Refused("bad_number")),
    ("\u0661.5", Refused("bad_number")),
    ("NaN", Refused("bad_number")),
    ("Infinity", Refused("bad_number")),
    (True, Refused("bad_number")),
    (b"1", Refused("bad_number")),
    ([], Refused("bad_number")),
    (1 + 2j, Refused("bad_number")),
    (float("nan"), Refused("non_finite_number")),
    (float("inf"), Refused("non_finite_number")),
    (np.float64("nan"), Refused("non_finite_number")),
    (Decimal("NaN"), Refused("non_finite_number")),
    (Decimal("sNaN"), Refused("non_finite_number")),
    (Decimal("-Infinity"), Refused("non_finite_number")),
]


@table(("value", "expected"), NUMBERS)
def test_numbers_are_rounded_half_away_from_zero(value, expected):
    wanted = Decimal(expected) if isinstance(expected, str) else expected
    assert same(coerced(sa.Numeric(10, 2), value), wanted)


@table(
    ("kind", "value", "expected"),
    [
        (sa.Numeric(3, 0), "999.4", Decimal(999)),
        (sa.Numeric(3, 0), "999.5", Refused("out_of_range")),
        (sa.Numeric(3), "2.5", Decimal("2.5")),
        (sa.Numeric(2, 2), "0.994", Decimal("0.99")),
        (sa.Numeric(2, 2), "0.995", Refused("out_of_range")),
        (sa.Numeric(38, 20), "0.12345678901234567890", Decimal("0.12345678901234567890")),
        (sa.Numeric(), "1.10", Decimal("1.10")),
        (sa.Numeric(), "1e307", Decimal("1E+307")),
        (sa.Numeric(), "1e308", Refused("out_of_range")),
        (sa.Numeric(), "1e9999", Refused("out_of_range")),
        (sa.Numeric(10, 2, asdecimal=False), "2.675", 2.68),
        (sa.Numeric(asdecimal=False), "1e9999", Refused("out_of_range")),
    ],
)
def test_scale_and_precision_of_numbers(kind, value, expected):
    assert same(coerced(kind, value), expected)


@pytest.mark.parametrize("kind", [sa.Numeric(10, 2), sa.Numeric(), sa.Float(), sa.Integer(), sa.JSON(), sa.String(9)])
@pytest.mark.parametrize(
    "value",
    ["1e9999", "-1e-9999", Decimal("1e999999999"), Decimal("1e-999999999"), 10**10_000, "9" * 100_000],
    ids=["text", "small-text", "decimal", "small-decimal", "integer", "digits"],
)
def test_huge_exponents_cost_no_time(kind, value):
    began = clock.process_time()
    coerced(kind, value)
    assert clock.process_time() - began < 0.5


@given(
    number=st.one_of(
        st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12),
        st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9),
        st.integers(-(10**9), 10**9),
    ),
    scale=st.integers(0, 6),
)
def test_rounding_agrees_with_exact_fractions(number, scale):
    """The oracle: the nearest multiple of the step by exact arithmetic, a tie away from zero."""
    exact = Fraction(repr(number)) if isinstance(number, float) else Fraction(number)
    steps = abs(exact) * 10**scale + Fraction(1, 2)
    nearest = Fraction(steps.numerator // steps.denominator, 10**scale) * (-1 if exact < 0 else 1)
    found = coerced(sa.Numeric(30, scale), number)
    assert Fraction(found) == nearest
    assert found.as_tuple().exponent == -scale


@given(number=st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**6), max_value=10**6))
def test_the_form_of_a_number_makes_no_difference(number):
    wanted = number.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
    forms = [number, str(number), f"{number:f}", f"{number:E}", float(number)]
    assert [coerced(sa.Numeric(12, 2), form) for form in forms] == [wanted] * 5


@table(
    ("value", "expected"),
    [
        (1, 1.0),
        (0.1, 0.1),
        ("0.1", 0.1),
        ("1e308", 1e308),
        (Decimal("0.1"), 0.1),
        (np.float64(0.1), 0.1),
        ("1e-400", 0.0),
        ("1e400", Refused("out_of_range")),
        (10**400, Refused("out_of_range")),
        (Decimal("1e400"), Refused("out_of_range")),
        (float("nan"), Refused("non_finite_number")),
        (float("inf"), Refused("non_finite_number")),
        (Decimal("sNaN"), Refused("non_finite_number")),
        (True, Refused("bad_number")),
        ("nan", Refused("bad_number")),
        ("1,5", Refused("bad_number")),
    ],
)
def test_floats(value, expected):
    assert same(coerced(sa.Float(), value), expected)


@table(
    ("value", "expected"),
    [
        (True, True),
        (False, False),
        (1, True),
        (0, False),
        ("true", True),
        ("FALSE", False),
        (np.bool_(False), False),
        (2, Refused("bad_boolean")),
        (-1, Refused("bad_boolean")),
        (1.0, Refused("bad_boolean")),
        ("1", Refused("bad_boolean")),
        ("yes", Refused("bad_boolean")),
        ("", Refused("bad_boolean")),
        ([], Refused("bad_boolean")),
    ],
)
def test_booleans(value, expected):
    assert same(coerced(sa.Boolean(), value), expected)


# Text, and the instant in UTC without its zone.
INSTANTS = [
    ("2026-03-29T02:30:00+02:00", datetime(2026, 3, 29, 0, 30)),
    ("2026-03-29T02:30:00Z", datetime(2026, 3, 29, 2, 30)),
    ("2026-03-29T02:30:00", datetime(2026, 3, 29, 2, 30)),
    ("2026-03-29 02:30", datetime(2026, 3, 29, 2, 30)),
    ("2026-03-29", datetime(2026, 3, 29)),
    ("2026-03-29T02:30:00.123456-01:00", datetime(2026, 3, 29, 3, 30, 0, 123456)),
    ("2026-03-29T02:30:00.5Z", datetime(2026, 3, 29, 2, 30, 0, 500000)),
    ("2026-03-29T02:30:00.123456789Z", datetime(2026, 3, 29, 2, 30, 0, 123456)),
    (datetime(2026, 3, 29, 2, 30, tzinfo=TWO_HOURS), datetime(2026, 3, 29, 0, 30)),
    (datetime(2026, 3, 29, 2, 30, 0, 1), datetime(2026, 3, 29, 2, 30, 0, 1)),
    (date(2026, 3, 29), datetime(2026, 3, 29)),
    (pd.Timestamp("2026-03-29T04:30:00.123456", tz="Europe/Berlin"), datetime(2026, 3, 29, 2, 30, 0, 123456)),
    (pd.Timestamp("2026-01-01T00:00:00.123456789"), datetime(2026, 1, 1, 0, 0, 0, 123456)),
    (np.datetime64("2026-01-01T00:00:00.123456789"), datetime(2026, 1, 1, 0, 0, 0, 123456)),
    (np.datetime64("2026-01-01"), datetime(2026, 1, 1)),
    ("0001-01-01", datetime(1, 1, 1)),
    ("9999-12-31T23:59:59.999999", datetime(9999, 12, 31, 23, 59, 59, 999999)),
]
NO_INSTANTS = [
    "0000-01-01",
    "10000-01-01",
    "0001-01-01T00:00:00+01:00",
    "9999-12-31T23:59:59-01:00",
    "2026-02-30",
    "2026-03-29T25:00",
    "29.03.2026",
    "now",
    "",
    "1774751400",
    0,
    1774751400,
    1774751400.5,
    Decimal(1774751400),
    True,
    time(2, 30),
    b"2026-03-29",
    [],
]


@table(("value", "utc"), INSTANTS)
@table(
    ("has_zone", "keeps_time_zones", "is_aware"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_times_are_instants_in_utc(value, utc, has_zone, keeps_time_zones, is_aware):
    """The zone stays only where both the column and the database keep it."""
    wanted = utc.replace(tzinfo=UTC) if is_aware else utc
    assert same(coerced(sa.DateTime(timezone=has_zone), value, keeps_time_zones=keeps_time_zones), wanted)


@pytest.mark.parametrize("value", NO_INSTANTS, ids=label)
@pytest.mark.parametrize("keeps_time_zones", [True, False])
def test_what_is_no_time_is_refused(value, keeps_time_zones):
    """A number could be seconds or milliseconds, so that none is guessed."""
    kind = sa.DateTime(timezone=True)
    assert coerced(kind, value, keeps_time_zones=keeps_time_zones) == Refused("bad_datetime")


@table(
    ("value", "expected"),
    [
        ("2026-03-29", date(2026, 3, 29)),
        ("20260329", date(2026, 3, 29)),
        (date(2026, 3, 29), date(2026, 3, 29)),
        (datetime(2026, 3, 29), date(2026, 3, 29)),
        ("2026-03-29T00:00:00", date(2026, 3, 29)),
        (pd.Timestamp("2026-03-29"), date(2026, 3, 29)),
        (np.datetime64("2026-03-29"), date(2026, 3, 29)),
        ("2026-03-29T00:00:01", Refused("bad_datetime")),
        ("2026-03-29T00:00:00+02:00", Refused("bad_datetime")),
        (NOON, Refused("bad_datetime")),
        ("2026-02-29", Refused("bad_datetime")),
        ("0000-01-01", Refused("bad_datetime")),
        (20260329, Refused("bad_datetime")),
    ],
)
def test_dates(value, expected):
    assert same(coerced(sa.Date(), value), expected)


@table(
    ("value", "expected"),
    [
        ("02:30", time(2, 30)),
        ("02:30:01.000001", time(2, 30, 1, 1)),
        (time(2, 30), time(2, 30)),
        ("02:30+02:00", Refused("bad_datetime")),
        (time(2, 30, tzinfo=UTC), Refused("bad_datetime")),
        ("25:00", Refused("bad_datetime")),
        ("", Refused("bad_datetime")),
        (datetime(2026, 3, 29, 2, 30), Refused("bad_datetime")),
        (9000, Refused("bad_datetime")),
    ],
)
def test_times_of_day(value, expected):
    """A zone would be lost without a word, so it is refused."""
    assert same(coerced(sa.Time(), value), expected)


def test_a_column_that_keeps_the_zone_of_a_time_of_day_takes_one():
    value = time(2, 30, tzinfo=TWO_HOURS)
    kind = sa.Time(timezone=True)
    assert coerced(kind, "02:30+02:00", keeps_time_zones=True) == value
    assert coerced(kind, value, keeps_time_zones=False) == Refused("bad_datetime")


@table(
    ("kind", "value", "expected"),
    [
        (sa.Uuid(), ID, ID),
        (sa.Uuid(), str(ID), ID),
        (sa.Uuid(), str(ID).upper(), ID),
        (sa.Uuid(), ID.hex, ID),
        (sa.Uuid(as_uuid=False), ID.hex, str(ID)),
        (sa.Uuid(), "550e8400", Refused("bad_uuid")),
        (sa.Uuid(), "", Refused("bad_uuid")),
        (sa.Uuid(), 5, Refused("bad_uuid")),
        (sa.Uuid(), ID.bytes, Refused("bad_uuid")),
        (sa.Enum(Size), "SMALL", Size.SMALL),
        (sa.Enum(Size), "s", Size.SMALL),
        (sa.Enum(Size), Size.LARGE, Size.LARGE),
        (sa.Enum(Size), "S", Size.S),
        (sa.Enum(Size), "small", Refused("bad_enum")),
        (sa.Enum(Size), "", Refused("bad_enum")),
        (sa.Enum(Size), [], Refused("bad_enum")),
        (sa.Enum(Size), Level.LOW, Refused("bad_enum")),
        (sa.Enum(Level), 1, Level.LOW),
        (sa.Enum(Level), "2", Level.HIGH),
        (sa.Enum(Level), "HIGH", Level.HIGH),
        (sa.Enum(Level), True, Refused("bad_enum")),
        (sa.Enum("red", "blue", name="colour"), "red", "red"),
        (sa.Enum("red", "blue", name="colour"), "RED", Refused("bad_enum")),
        (sa.Enum("red", "blue", name="colour"), 1, Refused("bad_enum")),
        (sa.LargeBinary(), b"\x00\xff", b"\x00\xff"),
        (sa.LargeBinary(), bytearray(b"a"), b"a"),
        (sa.LargeBinary(), memoryview(b"a"), b"a"),
        (sa.LargeBinary(), b"", b""),
        (sa.LargeBinary(), "a", Refused("bad_binary")),
        (sa.LargeBinary(), 1, Refused("bad_binary")),
    ],
)
def test_ids_choices_and_bytes(kind, value, expected):
    assert same(coerced(kind, value), expected)


@table(
    ("value", "expected"),
    [
        ({"b": 1, "a": {"d": 1, "c": 2}}, '{"a": {"c": 2, "d": 1}, "b": 1}'),
        ([1, 1.5, "x", True, None], '[1, 1.5, "x", true, null]'),
        ((1, 2), "[1, 2]"),
        ("text", '"text"'),
        (7, "7"),
        (False, "false"),
        ({1: "x"}, '{"1": "x"}'),
        ({"\u00e9": "\U0001f600"}, '{"\u00e9": "\U0001f600"}'),
        ({"a": Decimal("1.5"), "b": Decimal("7.0")}, '{"a": 1.5, "b": 7}'),
        (
            {"a": NOON, "b": date(2026, 1, 1), "c": ID},
            f'{{"a": "2026-03-29T12:00:00+00:00", "b": "2026-01-01", "c": "{ID}"}}',
        ),
        ({"a": np.int64(7), "b": np.float64(1.5), "c": pd.NA, "d": pd.NaT}, '{"a": 7, "b": 1.5, "c": null, "d": null}'),
        (np.array([1, 2]), "[1, 2]"),
        ("\\u0000", '"\\\\u0000"'),
        ({"a": "x\x00"}, Refused("nul_character")),
        ({"\x00": 1}, Refused("nul_character")),
        ("\\\x00", Refused("nul_character")),
        ({"a": ["\ud800"]}, Refused("bad_text")),
        ({"\udfff": 1}, Refused("bad_text")),
        ({"a": float("nan")}, Refused("bad_json")),
        (float("inf"), Refused("bad_json")),
        ({"a": Decimal("NaN")}, Refused("bad_json")),
        ({"a": Decimal("sNaN")}, Refused("bad_json")),
        ({"a": Decimal("1e999999999")}, Refused("bad_json")),
        ({1: "x", "y": 2}, Refused("bad_json")),
        ({"a": {1, 2}}, Refused("bad_json")),
        ({"a": b"x"}, Refused("bad_json")),
        (object(), Refused("bad_json")),
        (10**5000, Refused("bad_json")),
    ],
)
def test_json(value, expected):
    """Keys are put in order, so that their order is no difference."""
    found = coerced(sa.JSON(), value)
    assert (found if isinstance(found, Refused) else json.dumps(found, ensure_ascii=False)) == expected


@table(
    ("value", "expected"),
    [
        (1.0, "1"),
        (-0.0, "0"),
        (1e22, "1" + "0" * 22),
        (1e300, "1" + "0" * 300),
        (0.1, "0.1"),
        (1e-300, "1e-300"),
        (Decimal(2**53 + 1), str(2**53 + 1)),
        (Decimal("1E+300"), "1" + "0" * 300),
    ],
)
def test_json_numbers_without_a_fraction_are_integers(value, expected):
    """Some databases take 1.0 for 1, others compare the texts."""
    assert json.dumps(coerced(sa.JSON(), {"a": value})) == f'{{"a": {expected}}}'


def test_json_that_holds_itself_or_is_too_deep_is_refused():
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert [coerced(sa.JSON(), loop), coerced(sa.JSON(), deep)] == [Refused("bad_json")] * 2


@table(
    ("value", "expected"),
    [
        ("", ""),
        ("abc", "abc"),
        (" a ", " a "),
        ("\U0001f600" * 3, "\U0001f600" * 3),
        ("e\u0301", "e\u0301"),
        (7, "7"),
        (-42, "-42"),
        (TextEnum.A, "a"),
        (NumberEnum.ONE, "1"),
        (np.str_("abc"), "abc"),
        (np.int64(7), "7"),
        ("abcd", Refused("too_long")),
        (1234, Refused("too_long")),
        (10**5000, Refused("too_long")),
        ("\U0001f600" * 4, Refused("too_long")),
        ("a\x00", Refused("nul_character")),
        ("\ud83d", Refused("bad_text")),
        ("\ude00\ud83d", Refused("bad_text")),
        (True, Refused("bad_text")),
        (1.0, Refused("bad_text")),
        (Decimal(1), Refused("bad_text")),
        (b"abc", Refused("bad_text")),
        (["a"], Refused("bad_text")),
        (Size.SMALL, Refused("bad_text")),
    ],
)
def test_text(value, expected):
    assert same(coerced(sa.String(3), value), expected)


def test_text_without_a_length():
    long = "x" * 100_000
    values = [long, ID, 10**5000]
    assert [coerced(sa.Text(), value) for value in values] == [long, str(ID), Refused("too_long")]


KINDS = [
    sa.Integer(),
    sa.Numeric(10, 2),
    sa.Float(),
    sa.Boolean(),
    sa.DateTime(),
    sa.Date(),
    sa.Time(),
    sa.Uuid(),
    sa.Enum(Size),
    sa.LargeBinary(),
    sa.JSON(),
    sa.String(),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("value", [None, pd.NA, pd.NaT, np.datetime64("NaT"), np.datetime64("NaT", "ns")], ids=label)
def test_absent_values_are_null_or_refused(kind, value):
    assert coerced(kind, value) is None
    assert coerced(kind, value, nullable=False) == Refused("not_null")


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(
    "value",
    [np.array([1, 2]), pd.Series([1, 2]), object(), {"a": object()}],
    ids=["array", "series", "object", "mapping"],
)
def test_what_no_column_holds_is_a_refusal_never_another_error(kind, value):
    found = coerced(kind, value)
    assert isinstance(found, Refused) or isinstance(kind, sa.JSON)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_reasons_do_not_hold_the_value(kind):
    with pytest.raises(RecordError) as caught:
        coercer(sa.Column("amount", kind), keeps_time_zones=True)({"password": object()})
    assert "password" not in str(caught.value)


def test_types_of_the_user_are_left_to_sqlalchemy():
    span = timedelta(days=1)
    assert coerced(sa.Interval(), span) is span


def test_canonical_values_of_one_instant_are_equal():
    forms = [NOON, NOON.astimezone(TWO_HOURS), datetime(2026, 3, 29, 12), pd.Timestamp(NOON)]
    assert {canonical(form) for form in forms} == {datetime(2026, 3, 29, 12)}


def test_a_version_from_the_far_future_is_refused():
    for near in (NOON + timedelta(hours=24), datetime(2026, 3, 30, 12), 10**30, "z", None):
        check_version(near, NOON, "changed_at")
    for far in (NOON + timedelta(hours=24, seconds=1), datetime(2026, 3, 30, 12, 0, 1)):
        with pytest.raises(RecordError) as caught:
            check_version(far, NOON, "changed_at")
        assert (caught.value.code, caught.value.field) == ("version_in_future", "changed_at")


TAGS = ("$decimal", "$datetime", "$date", "$time", "$uuid", "$bytes")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.decimals(),
    st.datetimes(timezones=st.none() | st.just(UTC) | st.just(TWO_HOURS)).map(lambda value: value.replace(fold=0)),
    st.dates(),
    st.times().map(lambda value: value.replace(fold=0)),
    st.uuids(),
    st.binary(),
)
NAMES = st.text() | st.sampled_from([*TAGS, *(f"${tag}" for tag in TAGS), "$", "$$"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


def exactly(value: Any) -> Any:
    """A form in which 1, 1.0 and True, or 1.0 and 1.00, differ, and NaN equals itself."""
    if isinstance(value, dict):
        return {name: exactly(inner) for name, inner in value.items()}
    return [exactly(inner) for inner in value] if isinstance(value, list) else (type(value), repr(value))


@given(record=st.dictionaries(NAMES, VALUES, max_size=4))
def test_a_record_survives_as_json_text(record):
    """Equal, of the same types, in the same order; whatever the source calls its fields."""
    found = decode_record(encode_record(record))
    assert exactly(found) == exactly(record)
    assert list(found) == list(record)


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("value", ["x", "1", "", 1, None, {"$decimal": "1.5"}, ["$uuid"], Decimal("1.50")], ids=label)
def test_a_mapping_that_looks_like_ours_stays_what_it_was(tag, value):
    record = {"sku": "A", "plain": {tag: value}, "deep": [{tag: [{f"${tag}": value}]}]}
    assert exactly(decode_record(encode_record(record))) == exactly(record)
    assert exactly(decode_record(encode_record({tag: value}))) == exactly({tag: value})


class Address(pydantic.BaseModel):
    city: str
    lines: list[dict[str, Any]] = []


class Customer(pydantic.BaseModel):
    number: int
    size: Size
    address: Address


@dataclass
class Order:
    number: int
    total: Decimal
    customer: Customer
    size: Level = Level.LOW


def test_dataclasses_and_models_are_written_as_mappings():
    customer = Customer(number=7, size=Size.SMALL, address=Address(city="Bern", lines=[{"$date": "x"}]))
    order = Order(number=1, total=Decimal("1.50"), customer=customer)
    assert decode_record(encode_record(order)) == {
        "number": 1,
        "total": Decimal("1.50"),
        "customer": {"number": 7, "size": "s", "address": {"city": "Bern", "lines": [{"$date": "x"}]}},
        "size": 1,
    }


def test_numpy_pandas_and_odd_mappings_are_written_as_plain_values():
    record = OrderedDict(
        n=np.int64(7), f=np.float64(1.5), b=np.bool_(True), at=pd.Timestamp(NOON), na=pd.NA, nat=pd.NaT, a=np.array([1])
    )
    assert exactly(decode_record(encode_record(record))) == exactly(
        {"n": 7, "f": 1.5, "b": True, "at": NOON, "na": None, "nat": None, "a": [1]}
    )


def test_a_named_row_is_a_record():
    with sa.create_engine("sqlite://").connect() as connection:
        row = connection.execute(sa.text("SELECT 'A' AS sku, 7 AS stock")).one()
    assert decode_record(encode_record(row)) == {"sku": "A", "stock": 7}


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}, 10**5000, {ID: 1}], ids=label)
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(RecordError) as caught:
        encode_record({"sku": "A", "value": value})
    assert caught.value.code == "bad_item"
