"""Values survive the way into a target, on each database alike, and the second sync finds nothing to do."""

import enum
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import Database, Deletion, Field, SyncJob, SyncResults, TableSync, Trigger, mark, run_sync
from sync_defs.engine import RunRequest, diff, fetch, sync_items, upsert
from sync_defs.store import SqlStore


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Thing(Base):
    """A column of every type."""

    __tablename__ = "things"
    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    amount: Mapped[Decimal | None] = mapped_column(sa.Numeric(12, 4))
    ratio: Mapped[float | None] = mapped_column(sa.Float)
    at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    local: Mapped[datetime | None] = mapped_column(sa.DateTime)
    day: Mapped[date | None] = mapped_column(sa.Date)
    hour: Mapped[time | None] = mapped_column(sa.Time)
    data: Mapped[Any] = mapped_column(sa.JSON, nullable=True)
    ref: Mapped[uuid.UUID | None] = mapped_column(sa.Uuid)
    size: Mapped[Size | None] = mapped_column(sa.Enum(Size))
    colour: Mapped[str | None] = mapped_column(sa.Enum("red", "blue", name="colour"))
    raw: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    flag: Mapped[bool | None] = mapped_column(sa.Boolean)
    big: Mapped[int | None] = mapped_column(sa.BigInteger)
    small: Mapped[int | None] = mapped_column(sa.SmallInteger)
    text: Mapped[str | None] = mapped_column(sa.Text)


TABLE: Any = Thing.__table__
COLUMNS = [column.name for column in Thing.__table__.columns if column.name != "id"]
REF = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")
FULL: dict[str, Any] = {
    "amount": Decimal("12345678.1235"),
    "ratio": 0.1,
    "at": datetime(2026, 3, 29, 0, 30, 0, 123456, tzinfo=UTC),
    "local": datetime(2026, 3, 29, 2, 30, 0, 654321),
    "day": date(2026, 3, 29),
    "hour": time(2, 30, 0, 1),
    "data": {"a": [1, 2.5, None, "\u00e9\U0001f600"], "b": {"c": True}},
    "ref": REF,
    "size": Size.LARGE,
    "colour": "blue",
    "raw": b"\x00\xff\\x41",
    "flag": True,
    "big": 2**63 - 1,
    "small": -(2**15),
    "text": 'tab\t, line\n, back\\slash, "quote", \U0001f600, e\u0301, \\N',
}
ABSENT = dict.fromkeys(COLUMNS)
# What is stored, and the same as sources write it.
SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (FULL, FULL),
    (ABSENT, ABSENT),
    (
        FULL,
        {
            "amount": "12345678.12345",
            "ratio": "0.1",
            "at": "2026-03-29T02:30:00.123456+02:00",
            "local": "2026-03-29T02:30:00.654321",
            "day": "2026-03-29",
            "hour": "02:30:00.000001",
            "data": {"b": {"c": True}, "a": [1, 2.5, None, "\u00e9\U0001f600"]},
            "ref": str(REF).upper(),
            "size": "l",
            "flag": "true",
            "big": str(2**63 - 1),
            "small": -32768.0,
        },
    ),
    (
        {**ABSENT, "text": "", "raw": b"", "data": {}, "flag": False, "big": -(2**63), "small": 0},
        {**ABSENT, "text": "", "raw": b"", "data": {}, "flag": 0, "big": str(-(2**63)), "small": "0"},
    ),
    (
        {**ABSENT, "amount": Decimal("-2.6750"), "ratio": -1e-300, "data": [], "text": "NULL"},
        {**ABSENT, "amount": -2.675, "ratio": -1e-300, "data": [], "text": "NULL"},
    ),
    (
        {**ABSENT, "amount": Decimal(0), "data": "text", "at": datetime(1, 1, 1, tzinfo=UTC), "text": " a "},
        {**ABSENT, "amount": "-0.00001", "data": "text", "at": "0001-01-01", "text": " a "},
    ),
]


class ThingJob(SyncJob[dict[str, Any], Thing]):
    """The same by callbacks, without any conversion of its own."""

    name = "things"

    def fetch_external(self, source: Any) -> Any:
        return source

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["id"]

    def find_local(self, session: Session, external_id: str) -> Thing | None:
        return session.get(Thing, external_id)

    def create(self, session: Session, record: dict[str, Any]) -> None:
        session.add(Thing(**record))

    def update(self, session: Session, row: Thing, record: dict[str, Any]) -> None:
        for name, value in record.items():
            setattr(row, name, value)


def test_what_a_callback_sets_is_coerced_as_in_a_table_job(database):
    """Rounded once, in UTC, as the plain type; so the second run finds nothing to do."""
    given = {
        "amount": 2.67505,
        "ratio": Decimal("0.5"),
        "at": datetime(2026, 3, 29, 2, 30, 0, 1, tzinfo=timezone(timedelta(hours=2))),
        "local": datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=2))),
        "day": datetime(2026, 3, 29),
        "big": "12",
        "small": 7.0,
        "flag": 1,
        "size": "s",
        "ref": str(REF).upper(),
        "text": 7,
    }
    stored = {
        **ABSENT,
        "amount": Decimal("2.6751"),
        "ratio": 0.5,
        "at": datetime(2026, 3, 29, 0, 30, 0, 1, tzinfo=UTC),
        "local": datetime(2026, 3, 29, 0, 30),
        "day": date(2026, 3, 29),
        "big": 12,
        "small": 7,
        "flag": True,
        "size": Size.SMALL,
        "ref": REF,
        "text": "7",
    }
    records = [{"id": "A", **ABSENT, **given}]
    assert counts(sync(database, ThingJob(), records)) == {"created": 1}
    assert things(database) == {"A": stored}
    assert counts(sync(database, ThingJob(), records)) == {"unchanged": 1}
    assert counts(sync(database, ThingJob(), [{"id": "A", **ABSENT}])) == {"updated": 1}
    assert counts(sync(database, ThingJob(), records)) == {"updated": 1}
    assert things(database) == {"A": stored}


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("small", 7.5, "bad_integer"),
        ("small", 2**15, "out_of_range"),
        ("amount", Decimal("NaN"), "non_finite_number"),
        ("amount", 10**8, "out_of_range"),
        ("text", "a\x00", "nul_character"),
        ("at", "now", "bad_datetime"),
    ],
)
def test_what_a_callback_sets_and_does_not_fit_costs_its_record_alone(database, column, value, code):
    bad = {"id": "B", **ABSENT, column: value}
    for _ in ("created", "updated"):
        results = sync(database, ThingJob(), [{"id": "A", **ABSENT}, bad, {"id": "C", **ABSENT}])
        assert [(error.external_id, error.field, error.code) for error in results.errors] == [("B", column, code)]
        assert set(things(database)) - {"B"} == {"A", "C"}
        assert things(database).get("B") in (None, ABSENT)
        sync(database, ThingJob(), [{"id": "B", **ABSENT}])


class CountingJob(ThingJob):
    """Sets an expression, which the database computes."""

    def update(self, session: Session, row: Thing, record: dict[str, Any]) -> None:
        row.big = Thing.big + 1


def test_an_expression_that_a_callback_sets_is_left_to_the_database(database):
    records = [{"id": "A", **ABSENT, "big": 1}]
    sync(database, CountingJob(), records)
    assert counts(sync(database, CountingJob(), records)) == {"updated": 1}
    assert things(database)["A"]["big"] == 2


def table_job(target: Any, key: str, *fields: str, **options: Any) -> TableSync:
    """A job whose source is the resource `source`."""
    return TableSync(
        lambda source: source, name="things", target=target, key=key, fields={name: name for name in fields}, **options
    )


def sync(database: Database, job: Any, records: Any, **options: Any) -> SyncResults:
    results = run_sync(job, database=database, resources={"source": records}, **options)
    assert results.is_balanced
    return results


def counts(results: SyncResults) -> dict[str, int]:
    assert [(error.external_id, error.code, error.message) for error in results.errors] == []
    return {str(outcome): count for outcome, count in results.outcomes.items() if count}


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    with Database(migrated_url) as database:
        with database.write() as connection:
            Base.metadata.create_all(connection)
        yield database


def things(database: Database) -> dict[str, dict[str, Any]]:
    """The rows as SQLAlchemy reads them; an instant is in UTC where the database keeps no zones."""
    found: dict[str, dict[str, Any]] = {}
    with Session(database.engine) as session:
        for row in session.scalars(sa.select(Thing)):
            values = {name: getattr(row, name) for name in COLUMNS}
            if values["at"] is not None and values["at"].tzinfo is None:
                values["at"] = values["at"].replace(tzinfo=UTC)
            found[row.id] = values
    return found


@pytest.mark.parametrize(("stored", "given"), SAME, ids=["full", "absent", "texts", "empty", "signs", "edges"])
def test_a_table_job_keeps_every_value(database, stored, given):
    job = table_job(TABLE, "id", *COLUMNS)
    records = [{"id": "A", **stored, **given}]
    assert counts(sync(database, job, records)) == {"created": 1}
    assert things(database) == {"A": stored}
    assert counts(sync(database, job, records)) == {"unchanged": 1}
    assert counts(sync(database, job, [{"id": "A", **stored}])) == {"unchanged": 1}


@pytest.mark.parametrize("stored", [FULL, ABSENT], ids=["full", "absent"])
def test_a_callback_job_keeps_every_value(database, stored):
    """Enumerations wait as their values, so that the job reads them back itself."""
    stored = {**stored, "size": None}
    records = [{"id": "A", **stored}]
    assert counts(sync(database, ThingJob(), records)) == {"created": 1}
    assert things(database) == {"A": stored}
    assert counts(sync(database, ThingJob(), records)) == {"unchanged": 1}


OTHERS: list[tuple[str, Any]] = [
    ("amount", Decimal("12345678.1236")),
    ("ratio", 0.1 + 2**-55),
    ("at", FULL["at"] + timedelta(microseconds=1)),
    ("local", FULL["local"] - timedelta(microseconds=1)),
    ("day", date(2026, 3, 30)),
    ("hour", time(2, 30)),
    ("data", {"a": [1, 2.5, None, "\u00e9\U0001f600"], "b": {"c": False}}),
    ("ref", uuid.UUID(int=1)),
    ("size", Size.SMALL),
    ("colour", "red"),
    ("raw", b"\x00\xff\\x42"),
    ("flag", False),
    ("big", 2**63 - 2),
    ("small", 0),
    ("text", FULL["text"].replace("e\u0301", "\u00e9")),
    *[(name, None) for name in COLUMNS],
]


def test_every_difference_is_one_update_and_no_more(database):
    """The smallest step of each type, and to NULL and back."""
    job = table_job(TABLE, "id", *COLUMNS)
    names = [f"{number:02}-{name}" for number, (name, _) in enumerate(OTHERS)]
    before = [{"id": name, **FULL} for name in names]
    after = [{"id": name, **FULL, column: other} for name, (column, other) in zip(names, OTHERS, strict=True)]
    sync(database, job, before)
    results = sync(database, job, after)
    assert counts(results) == {"updated": len(OTHERS)}
    assert things(database) == {record.pop("id"): record for record in [dict(record) for record in after]}
    assert [sorted(sample.changes) for sample in results.samples] == [[column] for column, _ in OTHERS[:20]]
    assert counts(sync(database, job, before)) == {"updated": len(OTHERS)}
    assert things(database) == {record.pop("id"): record for record in before}


def test_history_of_every_type_is_readable(database):
    """Old and new values are JSON, whatever the types of the columns."""
    job = table_job(TABLE, "id", *COLUMNS)
    sync(database, job, [{"id": "A", **ABSENT}])
    sync(database, job, [{"id": "A", **FULL}])
    sync(database, job, [{"id": "A", **ABSENT}])
    history = "sync_defs.sync_changes" if database.dialect.schema else "sync_changes"
    with database.read() as connection:
        rows = connection.execute(sa.text(f"SELECT old_values, new_values FROM {history} ORDER BY id")).all()
    assert [[sorted(json.loads(text)) for text in row] for row in rows] == [[sorted(["id", *COLUMNS])] * 2] * 2
    full = json.loads(rows[0][1])
    assert (full["text"], full["big"], float(full["amount"])) == (FULL["text"], FULL["big"], float(FULL["amount"]))


def test_keys_that_only_look_alike_are_different_rows(database):
    """Case, accents, Unicode forms and inner blanks tell rows apart; no collation merges them."""
    keys = [
        "a",
        "A",
        "\u00e9",
        "e\u0301",
        "\u00c9",
        "a b",
        "a  b",
        "1",
        "01",
        "\u0131",
        "ss",
        "\u00df",
        "\U0001f600",
        "%",
        "_",
    ]
    job = table_job(TABLE, "id", "text", on_missing="delete")
    records = [{"id": key, "text": key} for key in keys]
    assert counts(sync(database, job, records)) == {"created": len(keys)}
    assert {key: row["text"] for key, row in things(database).items()} == {key: key for key in keys}
    assert counts(sync(database, job, records)) == {"unchanged": len(keys)}
    results = sync(database, job, records[1:])
    assert (results.deleted, set(things(database))) == (1, set(keys[1:]))


def test_a_blank_at_the_end_of_a_key_is_refused(database):
    """Some databases hold 'a' and 'a ' for one key, so that none may hold both."""
    job = table_job(TABLE, "id", "text")
    results = sync(database, job, [{"id": "a", "text": ""}, {"id": "a ", "text": ""}])
    assert [(error.external_id, error.code) for error in results.errors] == [(None, "bad_external_id")]
    assert set(things(database)) == {"a"}


def own_table(
    database: Database, name: str, key: sa.Column[Any], *columns: sa.Column[Any], schema: str | None = None
) -> sa.Table:
    table = sa.Table(name, sa.MetaData(), key, *columns, schema=schema)
    with database.write() as connection:
        table.create(connection)
    return table


def rows(database: Database, table: sa.Table) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns))]


def action(database: Database, job: Any, *items: Any) -> list[str]:
    results = sync_items(job, SqlStore(database), items, trigger=Trigger.WEBHOOK)
    return [str(result.action) for result in results]


KEYS: list[tuple[Any, list[Any], list[Any]]] = [
    (sa.Integer, [1, "2", 30], [1, 2, 30]),
    (sa.BigInteger, [2**63 - 1, "-5", 7], [2**63 - 1, -5, 7]),
    (
        sa.Uuid,
        [str(uuid.UUID(int=1)), str(uuid.UUID(int=2)).upper(), uuid.UUID(int=3).hex],
        [uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=3)],
    ),
]


@pytest.mark.parametrize(("kind", "given", "stored"), KEYS, ids=["integer", "bigint", "uuid"])
@pytest.mark.parametrize("policy", ["delete", mark(note="gone", otherwise="there")], ids=["delete", "mark"])
def test_keys_that_are_no_text(database, kind, given, stored, policy):
    table = own_table(
        database,
        "items",
        sa.Column("id", kind, primary_key=True),
        sa.Column("note", sa.String(9)),
        sa.Column("n", sa.Integer),
    )
    job = table_job(table, "id", "n", on_missing=policy)
    records = [{"id": key, "n": 1} for key in given]
    assert counts(sync(database, job, records)) == {"created": 3}
    assert counts(sync(database, job, records)) == {"unchanged": 3}
    assert sorted(row[0] for row in rows(database, table)) == sorted(stored)
    results = sync(database, job, [{"id": given[0], "n": 2}, {"id": given[1], "n": 1}])
    assert (results.updated, results.unchanged, results.missing, results.deleted + results.marked) == (1, 1, 1, 1)
    assert action(database, job, Deletion(external_id=given[1])) in (["deleted"], ["marked"])
    left = [row[0] for row in rows(database, table) if row[1] != "gone"]
    assert left == [stored[0]]
    assert action(database, job, {"id": given[1], "n": 1}) in (["created"], ["updated"])


@pytest.mark.parametrize("full", [True, False], ids=["compared", "known"])
@pytest.mark.parametrize(("kind", "given", "stored"), KEYS, ids=["integer", "bigint", "uuid"])
def test_a_message_outranks_a_fetch_whatever_the_key(database, kind, given, stored, full):
    """What a message created during the fetch is not missing, whatever text the source writes the key with (G13)."""
    table = own_table(database, "items", sa.Column("id", kind, primary_key=True), sa.Column("n", sa.Integer))
    job, store = table_job(table, "id", "n", on_missing="delete"), SqlStore(database)
    sync(database, job, [{"id": given[0], "n": 1}])

    def during() -> Iterator[Any]:
        yield {"id": given[0], "n": 1}
        items = [{"id": key, "n": 5} for key in given]
        assert action(database, job, *items) == ["updated", "created", "created"]

    handle = fetch(job, store, RunRequest(full=full), resources={"source": during()})
    diff(job, store, handle)
    results = upsert(job, store, handle)
    # A record that is known from the last run goes no further than its fingerprint.
    assert (results.deleted, results.withheld, results.stale, results.unchanged) == (0, 0, int(full), int(not full))
    assert sorted(rows(database, table)) == sorted((key, 5) for key in stored)


def test_a_target_may_be_a_key_alone(database):
    table = own_table(database, "ids", sa.Column("id", sa.String(20), primary_key=True))
    job = table_job(table, "id", on_missing="delete")
    assert counts(sync(database, job, [{"id": "a"}, {"id": "b"}])) == {"created": 2}
    assert counts(sync(database, job, [{"id": "a"}, {"id": "b"}])) == {"unchanged": 2}
    results = sync(database, job, [{"id": "b"}, {"id": "c"}])
    assert (results.created, results.unchanged, results.deleted) == (1, 1, 1)
    assert rows(database, table) == [("b",), ("c",)]


def test_two_texts_of_one_key_are_one_record(database):
    table = own_table(database, "items", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))
    results = sync(
        database, table_job(table, "id", "n"), [{"id": "7", "n": 1}, {"id": "007", "n": 2}, {"id": 7, "n": 3}]
    )
    assert counts(results) == {"created": 1, "skipped": 2}
    assert rows(database, table) == [(7, 3)]


def test_a_converted_key_is_the_external_id(database):
    """Also for what is skipped or deleted, so that its row is never taken for missing."""
    table = own_table(database, "items", sa.Column("id", sa.String(20), primary_key=True), sa.Column("n", sa.Integer))
    job = table_job(
        table,
        {"id": Field(source="number", convert=lambda value: f"erp-{value}")},  # pyright: ignore[reportArgumentType]
        "n",
        on_missing="delete",
        should_skip=lambda record: record.get("skip", False),
    )
    sync(database, job, [{"number": 1, "n": 1}, {"number": 2, "n": 1}])
    results = sync(database, job, [{"number": 1, "n": 1, "skip": True}, {"number": 2, "n": "bad"}])
    assert (results.skipped, results.rejected, results.missing, results.deleted) == (1, 1, 0, 0)
    assert [error.external_id for error in results.errors] == ["erp-2"]
    assert counts(sync(database, job, [{"number": 2, "n": 2}], external_ids=["erp-2"])) == {"updated": 1}
    payload = {"type": "item.deleted", "data": {"number": 1}}
    assert action(database, job, *job.extract_items(payload)) == ["deleted"]
    assert rows(database, table) == [("erp-2", 2)]


NAMES = ["order", "select", 'we"ird', "a%b:c", "two words", "v0", "per%(cent)s", "?"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_need_quoting(database, name):
    """The table, its key and a column are all called so; each kind of statement runs."""
    table = own_table(
        database,
        name,
        sa.Column(f"{name} id", sa.String(20), primary_key=True),
        sa.Column(name, sa.Integer),
        sa.Column(f"{name}?", sa.String(20)),
    )
    fields = {name: "n", f"{name}?": "t"}
    for policy in ("delete", mark(**{f"{name}?": "gone"})):
        job = TableSync(
            lambda source: source,
            name="odd",
            target=table,
            key={f"{name} id": "id"},
            fields=fields,
            on_missing=policy,
            version="n",
        )
        assert counts(sync(database, job, [{"id": key, "n": 1, "t": "x"} for key in "AB"])) in (
            {"created": 2},
            {"created": 1, "updated": 1},
        )
        assert counts(sync(database, job, [{"id": key, "n": 1, "t": "x"} for key in "AB"])) == {"unchanged": 2}
        results = sync(database, job, [{"id": "A", "n": 2, "t": "y"}])
        assert (results.updated, results.deleted + results.marked) == (1, 1)
        assert results.samples[0].changes == {name: ("1", "2"), f"{name}?": ("x", "y")}
        sync(database, job, [])
        with database.write() as connection:
            connection.execute(sa.update(table).values({name: 0}))
    assert rows(database, table) == [("A", 0, "y"), ("B", 0, "gone")]


def test_a_target_in_another_schema(postgresql_url):
    with Database(postgresql_url) as database:
        database.upgrade()
        with database.write() as connection:
            connection.execute(sa.schema.CreateSchema("ware house"))
        table = own_table(
            database,
            "items",
            sa.Column("id", sa.String(20), primary_key=True),
            sa.Column("size", sa.Enum(Size, name="size")),
            sa.Column("data", sa.JSON),
            schema="ware house",
        )
        job = table_job(table, "id", "size", "data", on_missing="delete")
        records = [{"id": key, "size": "s", "data": {"a": 1}} for key in "ABC"]
        assert counts(sync(database, job, records)) == {"created": 3}
        assert counts(sync(database, job, records)) == {"unchanged": 3}
        results = sync(database, job, [{**records[0], "size": "LARGE"}, records[1]])
        assert (results.updated, results.unchanged, results.deleted) == (1, 1, 1)
        assert rows(database, table) == [("A", Size.LARGE, {"a": 1}), ("B", Size.SMALL, {"a": 1})]


def test_a_stage_leaves_the_types_of_a_target_alone(database):
    """Creating and dropping a stage neither makes nor drops a type of the user's."""
    job = table_job(TABLE, "id", "size", "colour")
    for size in ("s", "l"):
        assert counts(sync(database, job, [{"id": "A", "size": size, "colour": "red"}])) != {}
    assert sync(database, job, [{"id": "A", "size": "s"}]).rejected == 1
    with database.write() as connection:
        types = [row["name"] for row in sa.inspect(connection).get_enums("*")] if database.dialect.schema else []
    assert types == (["colour", "size"] if database.dialect.schema else [])


def test_instants_read_back_are_the_same_instants(database):
    """Whatever zone the source writes, across the change of summer time."""
    job = table_job(TABLE, "id", "at", "local")
    berlin = [timezone(timedelta(hours=hours)) for hours in (1, 2)]
    instants = [datetime(2026, 3, 29, 1, 59, 59, 999999, berlin[0]), datetime(2026, 3, 29, 3, 0, tzinfo=berlin[1])]
    records = [{"id": str(number), "at": at.isoformat(), "local": at} for number, at in enumerate(instants)]
    sync(database, job, records)
    stored = things(database)
    assert [stored[str(number)]["at"] for number in range(2)] == instants
    assert [stored[str(number)]["local"] for number in range(2)] == [
        at.astimezone(UTC).replace(tzinfo=None) for at in instants
    ]
    in_utc = [{"id": record["id"], "at": record["local"].astimezone(UTC), "local": record["at"]} for record in records]
    assert counts(sync(database, job, in_utc)) == {"unchanged": 2}


def test_empty_text_is_not_null(database):
    job = table_job(TABLE, "id", "text", "raw")
    sync(database, job, [{"id": "A", "text": "", "raw": b""}, {"id": "B", "text": None, "raw": None}])
    turned = [{"id": "A", "text": None, "raw": None}, {"id": "B", "text": "", "raw": b""}]
    assert counts(sync(database, job, turned)) == {"updated": 2}
    assert {key: (row["text"], row["raw"]) for key, row in things(database).items()} == {
        "A": (None, None),
        "B": ("", b""),
    }


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("data", {"a": "\ud800"}, "bad_text"),
        ("data", {"a": "\x00"}, "nul_character"),
        ("text", "\x00", "nul_character"),
        ("text", "\udfff", "bad_text"),
        ("big", 2**63, "out_of_range"),
        ("amount", "1e9999", "out_of_range"),
        ("ratio", float("nan"), "non_finite_number"),
        ("size", "huge", "bad_enum"),
    ],
)
def test_what_one_database_would_refuse_costs_its_record_alone_on_all(database, column, value, code):
    job = table_job(TABLE, "id", *COLUMNS)
    results = sync(database, job, [{"id": "A", **FULL}, {"id": "B", **FULL, column: value}, {"id": "C", **FULL}])
    assert [(error.external_id, error.field, error.code) for error in results.errors] == [("B", column, code)]
    assert set(things(database)) == {"A", "C"}
