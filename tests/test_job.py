"""Definitions of jobs: what is refused and how it is told, schedules, fields, masks and parameters."""

import json
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sync_defs import (
    ConfigurationError,
    Cursor,
    Database,
    Deletion,
    Field,
    MessageError,
    RecordError,
    SyncJob,
    TableSync,
    mark,
    run_sync,
    sync_single_item,
    table_sync,
)
from sync_defs.fields import read_field
from sync_defs.job import parameters
from sync_defs.policies import MissingAction, OnMissing, Webhook, every_to_cron


class Base(DeclarativeBase):
    """Mapped classes of these tests."""


class Variant(Base):
    __tablename__ = "variants"
    __table_args__ = (
        sa.UniqueConstraint("barcode"),
        sa.UniqueConstraint("shop", "sku"),
        sa.Index("ix_code", "code", unique=True),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(sa.String(40), unique=True)
    barcode: Mapped[str | None] = mapped_column(sa.String(40))
    code: Mapped[str | None] = mapped_column(sa.String(40))
    shop: Mapped[str | None] = mapped_column(sa.String(40))
    stock: Mapped[int | None]
    secret: Mapped[str | None] = mapped_column(sa.String(40))
    active: Mapped[bool | None]


TABLE: Any = Variant.__table__
NO_FIELDS: dict[str, str] = {}


def job(**options: Any) -> TableSync:
    given = {"name": "variants", "target": TABLE, "key": "sku", "fields": {"stock": "quantity"}} | options
    return TableSync(lambda source: source, **given)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "Variants"}, "job name 'Variants': a name must match"),
    ({"name": ""}, "job name '': a name must match"),
    ({"name": "1st"}, "a name must match"),
    ({"name": "a-b"}, "a name must match"),
    ({"name": "variants\n"}, "a name must match"),
    ({"name": "caf\u00e9"}, "a name must match"),
    ({"name": "x" * 64}, "a name must match"),
    ({"name": "<lambda>"}, "a name must match"),
    ({"name": None}, "job name None: a name must match"),
    ({"key": "nothing"}, "table 'variants' has no column 'nothing'; it has active, barcode, code"),
    ({"fields": {"amount": "quantity"}}, "has no column 'amount'"),
    ({"version": "updated_at"}, "has no column 'updated_at'"),
    ({"on_missing": mark(gone=True)}, "has no column 'gone'"),
    (
        {"key": "stock", "fields": NO_FIELDS},
        "key column 'stock' of table 'variants' is neither the primary key nor unique",
    ),
    ({"key": "shop"}, "neither the primary key nor unique"),
    ({"key": {"shop": "shop", "sku": "sku"}}, "key= names exactly one column; for a compound key"),
    ({"key": NO_FIELDS}, "key= names exactly one column"),
    ({"key": ["sku"]}, "key is list; give {column: field of the record}"),
    ({"fields": ["stock"]}, "fields is list; give {column: field of the record}, such as {'stock': 'quantity'}"),
    ({"fields": {"stock": 5}}, "fields['stock'] is 5; give the name of the record's field, or a Field"),
    ({"fields": {5: "stock"}}, "fields has a column that is 5; give its name as text"),
    ({"evry": "1h"}, "there is no option 'evry'"),
    ({"cron": "0 * * * *", "every": "1h"}, "cron= and every= exclude each other"),
    ({"every": "7m"}, "every='7m': use minutes that divide an hour"),
    ({"timezone": "Europe/Atlantis"}, "timezone 'Europe/Atlantis' is unknown"),
    ({"timezone": ""}, "timezone '' is unknown"),
    ({"timezone": "../../etc/passwd"}, "is unknown"),
    ({"timezone": None}, "timezone None is unknown; use a name such as Europe/Berlin"),
    ({"every": 15}, "every=15: use minutes that divide an hour"),
    ({"on_missing": "drop"}, "on_missing='drop'; use 'keep', 'delete' or mark"),
    ({"on_missing": "mark"}, "on_missing='mark'; use 'keep', 'delete' or mark"),
    ({"on_missing": None}, "on_missing=None"),
    ({"max_delete_rows": -1}, "max_delete_rows is -1; give an integer, 0 or more"),
    ({"max_delete_rows": "a"}, "max_delete_rows is str; give an integer, 0 or more"),
    ({"max_delete_rows": None}, "max_delete_rows is NoneType; give an integer, 0 or more"),
    ({"max_delete_rows": 1.5}, "max_delete_rows is 1.5; give an integer, 0 or more"),
    ({"max_delete_fraction": 1.01}, "max_delete_fraction is 1.01; give a number between 0 and 1"),
    ({"max_delete_fraction": -0.1}, "max_delete_fraction is -0.1; give a number between 0 and 1"),
    ({"max_delete_fraction": float("nan")}, "max_delete_fraction is nan; give a number between 0 and 1"),
    ({"max_delete_fraction": "a"}, "max_delete_fraction is str; give a number between 0 and 1"),
    ({"max_delete_fraction": True}, "max_delete_fraction is bool; give a number between 0 and 1"),
    ({"sample_size": -1}, "sample_size is -1; give an integer, 0 or more"),
    ({"sample_size": True}, "sample_size is bool; give an integer, 0 or more"),
    ({"verify": -1}, "verify is -1; give an integer, 0 or more, or None"),
    ({"verify": "x"}, "verify is str; give an integer, 0 or more, or None"),
    ({"verify": True}, "verify is bool; give an integer, 0 or more, or None"),
    ({"history": "no"}, "history is str; give True or False"),
    ({"refetch": 1}, "refetch is 1; give True or False"),
    ({"refetch": True}, "refetch=True needs fetch_items, which asks the source for chosen ids"),
    ({"retries": 3}, "retries is 3; give Retries(...)"),
    ({"max_rejected_fraction": 2}, "max_rejected_fraction is 2; give a number between 0 and 1"),
    ({"owners": "me@example.com"}, "owners is str; give a list, such as ['data@example.com', 'team:shop']"),
    ({"owners": ["me"]}, "owner 'me' is neither an e-mail address nor a team such as 'team:shop'"),
    ({"tags": ["a"]}, "tags is list; give a mapping"),
    ({"tags": {"a b": "c"}}, "tag 'a b' is none; give text for text"),
    ({"source_kind": "REST API"}, "source_kind='REST API'; give one word in small letters"),
    ({"checks": True}, "checks is bool; give Checks(...)"),
    ({"webhook": "x"}, "webhook is str; give Webhook(...), or None for a job that takes no webhooks"),
    ({"webhook": Webhook}, "webhook is type; give Webhook(...)"),
    ({"delivery": "now"}, "delivery='now'; use 'run' or 'inline'"),
    ({"delivery": None}, "delivery=None; use 'run' or 'inline'"),
    (
        {"delivery": "inline", "refetch": True, "fetch_items": lambda external_ids: []},
        "delivery='inline' has no resources to ask the source with, so refetch=True needs delivery='run'",
    ),
    ({"should_skip": 5}, "should_skip is 5; give a function, or leave it out"),
    ({"fetch_items": "x"}, "fetch_items is str; give a function, or leave it out"),
    ({"cron": "bogus"}, "cron='bogus' is no cron expression; give five fields (minute, hour, day, month, weekday)"),
    ({"cron": "30 4 * *"}, "cron='30 4 * *' is no cron expression"),
    ({"cron": "0 30 4 * * *"}, "is no cron expression"),
    ({"cron": "61 4 * * *"}, "is no cron expression"),
    ({"cron": "0 4-24 * * *"}, "is no cron expression"),
    ({"cron": "0 4 * 13/2 *"}, "is no cron expression"),
    ({"cron": "0 4 * * $"}, "is no cron expression"),
    ({"cron": "@reboot"}, "is no cron expression"),
    ({"cron": ""}, "is no cron expression"),
    ({"cron": 5}, "is no cron expression"),
]


@pytest.mark.parametrize(
    "cron",
    ["*/15 6-20 * * mon-fri", "0 0 1,15 JAN-DEC/2 *", " 59  23 31\t12 7 ", "0 4 l * *", "0 0 * * 5#3", "*/90 * * * *"]
    + [f"@{word}" for word in ("hourly", "midnight", "Daily", "weekly", "monthly", "yearly", "annually")],
)
def test_every_form_of_a_cron_expression_is_left_to_the_scheduler(cron):
    assert job(cron=cron).cron_schedule == cron


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[f"{n}-{next(iter(o))}" for n, (o, _) in enumerate(WRONG)])
def test_a_wrong_definition_says_what_to_change(options, message):
    with pytest.raises(ConfigurationError) as caught:
        job(**options)
    assert message in str(caught.value)
    assert (caught.value.code, "variants" in str(caught.value) or "name" in options) == ("configuration", True)


@pytest.mark.parametrize("key", ["id", "sku", "barcode", "code"])
def test_a_key_is_unique_by_any_means(key):
    assert job(key=key).key_column == key


def test_the_longest_name_and_every_option_are_taken():
    found = job(
        name="x" * 63,
        description="d",
        cron="0 4 * * *",
        timezone="Europe/Berlin",
        on_missing=mark(active=False, otherwise=True),
        max_delete_rows=0,
        max_delete_fraction=1.0,
        sample_size=0,
        history=False,
        webhook=None,
        group="erp",
    )
    assert (found.cron_schedule, found.timezone, found.group) == ("0 4 * * *", "Europe/Berlin", "erp")


EVERY = [
    ("1m", "* * * * *"),
    ("5m", "*/5 * * * *"),
    ("30m", "*/30 * * * *"),
    ("60m", "0 * * * *"),
    ("1h", "0 * * * *"),
    ("2h", "0 */2 * * *"),
    ("12h", "0 */12 * * *"),
    ("24h", "0 0 * * *"),
    ("1d", "0 0 * * *"),
    (timedelta(minutes=15), "*/15 * * * *"),
    (timedelta(hours=6), "0 */6 * * *"),
    (timedelta(days=1), "0 0 * * *"),
    *[
        (every, None)
        for every in ("0m", "7m", "45m", "90m", "5h", "2d", "1s", "1w", "h", "1 h", "1H", "-1h", "01h", "", "10000m")
    ],
    *[(timedelta(seconds=seconds), None) for seconds in (0, 30, 90, -3600, 7 * 60, 48 * 3600, 0.5)],
]


@pytest.mark.parametrize(("every", "cron"), EVERY, ids=[str(every) or "empty" for every, _ in EVERY])
def test_intervals_are_evenly_spaced_schedules(every, cron):
    if cron is None:
        with pytest.raises(ConfigurationError, match="every="):
            every_to_cron(every)
    else:
        assert (every_to_cron(every), job(every=every).cron_schedule) == (cron, cron)


def test_a_job_without_a_schedule_has_none():
    assert job().cron_schedule is None


def test_mark_names_one_column():
    gone = OnMissing(action=MissingAction.MARK, column="active", value=False)
    assert mark(active=False) == gone
    back = OnMissing(action=MissingAction.MARK, column="active", value=False, otherwise=None, restores=True)
    assert mark(active=False, otherwise=None) == back
    for columns in ({}, {"a": 1, "b": 2}):
        with pytest.raises(ConfigurationError, match="exactly one column"):
            mark(**columns)


def test_policies_by_word():
    assert [job(on_missing=word).missing_policy.action for word in ("keep", "delete")] == ["keep", "delete"]


class Thing:
    _hidden = "no"
    empty = None

    def __init__(self) -> None:
        self.name = "thing"


FIELDS: list[tuple[Any, Field, Any]] = [
    ({"a": 1}, Field(source="a"), 1),
    ({"a": None}, Field(source="a", default=2), None),
    ({}, Field(source="a", default=2), 2),
    ({}, Field(source="a", default=None), None),
    ({"a": {"b": {"c": 3}}}, Field(source="a.b.c"), 3),
    ({"a.b": 1, "a": {"b": 2}}, Field(source="a.b"), 1),
    ({"a": None}, Field(source="a.b", default=4), 4),
    ({"a": "text"}, Field(source="a.b", default=5), 5),
    ({"a": [{"b": 1}]}, Field(source="a.b", default=6), 6),
    ({"a": SimpleNamespace(b={"c": 7})}, Field(source="a.b.c"), 7),
    ({"a b": 8}, Field(source="a b"), 8),
    ({"_id": 9}, Field(source="_id"), 9),
    (SimpleNamespace(a=10), Field(source="a"), 10),
    (Thing(), Field(source="name"), "thing"),
    (Thing(), Field(source="empty", default=1), None),
]


@pytest.mark.parametrize(("record", "field", "value"), FIELDS, ids=[str(number) for number in range(len(FIELDS))])
def test_a_field_is_read_from_mappings_and_objects(record, field, value):
    assert read_field(record, field) == value


@pytest.mark.parametrize(
    ("record", "source", "code"),
    [
        ({}, "a", "missing_field"),
        ({"a": {}}, "a.b", "missing_field"),
        ({"a": None}, "a.b", "missing_field"),
        (Thing(), "_hidden", "missing_field"),
        (Thing(), "__class__.__name__", "missing_field"),
        (Thing(), "name.__class__", "missing_field"),
        (None, "a", "bad_item"),
        ("text", "a", "bad_item"),
        (7, "a", "bad_item"),
    ],
)
def test_a_field_that_is_not_there_is_an_error_of_the_record(record, source, code):
    """What begins with an underscore is never read from an object."""
    with pytest.raises(RecordError) as caught:
        read_field(record, Field(source=source))
    assert (caught.value.code, caught.value.field) == (code, source if code == "missing_field" else None)


def test_a_text_has_no_default_fields():
    """A source that yields texts, or nothing, by mistake is not filled up with defaults."""
    for record in ("text", None, 7):
        with pytest.raises(RecordError):
            read_field(record, Field(source="a", default=1))


def test_a_field_without_a_source_has_the_name_of_its_column():
    found = job(key={"sku": Field(mask=True)}, fields={"stock": Field(default=0), "sku": "other"})
    assert found.key == {"sku": Field(source="sku", mask=True)}
    assert found.fields == {"stock": Field(source="stock", default=0)}


def test_the_version_is_kept_in_the_column_that_is_mapped_to_it():
    mapped = job(fields={"stock": "updated"}, version="updated")
    assert (mapped.version, list(mapped.fields)) == ("stock", ["stock"])
    own = job(fields={"code": "code"}, version="stock")
    assert (own.version, own.fields["stock"]) == ("stock", Field(source="stock"))


def test_the_decorated_function_can_still_be_called():
    @table_sync(target=Variant, key="sku", fields={"stock": "quantity"}, every="1h")
    def erp_variants(erp: Any, cursor: Cursor, *, limit: int = 5) -> list[Any]:
        """Stock of every variant."""
        return [erp, cursor, limit]

    assert (erp_variants.name, erp_variants.target, erp_variants.description) == (
        "erp_variants",
        TABLE,
        "Stock of every variant.",
    )
    assert erp_variants("client", "cursor") == ["client", "cursor", 5]
    assert (erp_variants.is_incremental, erp_variants.resource_names) == (True, {"erp", "limit"})


def test_options_of_one_decorator_do_not_leak_into_the_next():
    decorate = table_sync(target=Variant, key="sku", fields={"stock": "quantity"})

    def first() -> list[Any]:
        """First."""
        return []

    def second() -> list[Any]:
        """Second."""
        return []

    assert [decorate(function).description for function in (first, second)] == ["First.", "Second."]


def test_parameters_are_names_without_the_starred_ones():
    assert parameters(lambda a, /, b, *c, d=1, **e: None) == ["a", "b", "d"]


class Callbacks(SyncJob[dict[str, Any], Variant]):
    name = "variants"
    masked_fields = frozenset({"secret"})

    def fetch_external(self, source: Any) -> Any:
        return source

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def find_local(self, session: Session, external_id: str) -> Variant | None:
        return session.scalar(sa.select(Variant).where(Variant.sku == external_id))

    def create(self, session: Session, record: dict[str, Any]) -> None:
        session.add(Variant(**record))

    def update(self, session: Session, row: Variant, record: dict[str, Any]) -> None:
        for name, value in record.items():
            setattr(row, name, value)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("name", "No", "a name must match"),
        ("on_missing", "delete", "on_missing needs local_external_ids()"),
        ("timezone", "Nowhere", "timezone 'Nowhere' is unknown"),
        ("every", "13m", "every='13m'"),
        ("cron", "bogus", "cron='bogus' is no cron expression"),
        ("verify", "x", "verify is str"),
        ("sample_size", -1, "sample_size is -1"),
        ("webhook", "s3cret", "webhook is str; give Webhook(...), or None"),
    ],
)
def test_a_wrong_callback_job_is_refused_before_anything_is_fetched(attribute, value, message):
    wrong = Callbacks()
    setattr(wrong, attribute, value)
    with pytest.raises(ConfigurationError) as caught:
        run_sync(wrong, database="sqlite:///never-opened/here.db", resources={"source": []})
    assert message in str(caught.value)


def test_a_callback_job_without_a_name_is_refused():
    class Nameless(Callbacks):
        name = None

    with pytest.raises(ConfigurationError, match="job name None"):
        Nameless().validate()


@pytest.fixture
def variants(migrated_url: str) -> Iterator[Database]:
    with Database(migrated_url) as database:
        with database.write() as connection:
            Base.metadata.create_all(connection)
        yield database


def history(database: Database) -> list[Any]:
    name = "sync_defs.sync_changes" if database.dialect.schema else "sync_changes"
    with database.read() as connection:
        rows = connection.exec_driver_sql(f"SELECT old_values, new_values FROM {name} ORDER BY id").all()
    return [tuple(None if text is None else json.loads(text) for text in row) for row in rows]


def stored(database: Database) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        return [
            tuple(row)
            for row in connection.execute(sa.select(TABLE.c.sku, TABLE.c.stock, TABLE.c.secret).order_by(TABLE.c.sku))
        ]


def test_a_convert_that_raises_rejects_its_record_with_the_field(variants):
    fields = {"stock": Field(source="quantity", convert=lambda value: 100 // value)}
    records = [{"sku": "A", "quantity": 20}, {"sku": "B", "quantity": 0}, {"sku": "C", "quantity": "s3cret"}]
    results = run_sync(job(fields=fields), database=variants, resources={"source": records})
    assert results.created == 1
    assert [(e.external_id, e.code, e.field, e.message) for e in results.errors] == [
        ("B", "convert_failed", "quantity", "quantity: convert raised ZeroDivisionError"),
        ("C", "convert_failed", "quantity", "quantity: convert raised TypeError"),
    ]
    assert stored(variants) == [("A", 5, None)]


def test_a_convert_of_the_key_that_raises_rejects_its_record_alone(variants):
    key = {"sku": Field(source="number", convert=lambda value: f"{value:03d}")}
    records = [{"number": 7, "quantity": 1}, {"number": "x", "quantity": 1}]
    results = run_sync(job(key=key), database=variants, resources={"source": records})
    assert [(e.external_id, e.code, e.field) for e in results.errors] == [(None, "convert_failed", "number")]
    assert stored(variants) == [("007", 1, None)]


def test_convert_is_applied_to_the_default_too(variants):
    fields = {"stock": Field(source="quantity", default="4", convert=lambda value: int(value) * 2)}
    run_sync(job(fields=fields), database=variants, resources={"source": [{"sku": "A"}]})
    assert stored(variants) == [("A", 8, None)]


@pytest.mark.parametrize("kind", ["table", "callbacks"])
def test_masked_values_are_in_neither_samples_nor_history(variants, kind):
    sync_job: Any = Callbacks() if kind == "callbacks" else job(fields={"stock": "stock", "secret": Field(mask=True)})
    record = {"sku": "A", "stock": 1, "secret": "s3cret-1"}
    for number, secret in ((1, "s3cret-1"), (2, "s3cret-2"), (2, "s3cret-3")):
        source = [{**record, "stock": number, "secret": secret}]
        results = run_sync(sync_job, database=variants, resources={"source": source})
    assert [sample.changes for sample in results.samples] == [{"secret": ("***", "***")}]
    sync_single_item(sync_job, {**record, "secret": "s3cret-4"}, database=variants)
    found = history(variants)
    assert len(found) >= 3
    assert "s3cret" not in json.dumps([results.to_dict(), found])
    assert (found[-1][0]["secret"], found[-1][1]["secret"]) == ("***", "***")
    assert (found[-1][0]["stock"], found[-1][1]["stock"]) in ((2, 1), ("2", "1"))
    assert stored(variants) == [("A", 1, "s3cret-4")]


def test_parameters_are_injected_by_name(variants):
    given: list[Any] = []

    @table_sync(target=Variant, key="sku", fields={"stock": "quantity"})
    def items(erp: str, *, shop: str = "default", cursor: Cursor) -> Iterator[Any]:
        given.append((erp, shop, cursor.value))
        cursor.advance("c1")
        yield {"sku": "A", "quantity": 1}

    run_sync(items, database=variants, resources={"erp": "client", "shop": "north", "unused": 1})
    run_sync(items, database=variants, resources={"erp": "client", "shop": "south"})
    assert given == [("client", "north", None), ("client", "south", "c1")]


def test_a_missing_resource_is_named_before_anything_starts(variants):
    with pytest.raises(ConfigurationError, match="needs the resource 'source'; given: 'erp'") as caught:
        run_sync(job(), database=variants, resources={"erp": 1})
    assert caught.value.code == "missing_resource"


def test_chosen_ids_are_asked_of_fetch_items(variants):
    asked: list[Any] = []

    def fetch_items(external_ids: list[str], erp: str) -> list[Any]:
        asked.append((external_ids, erp))
        return [{"sku": "A", "quantity": 1}, {"sku": "C", "quantity": 1}]

    results = run_sync(
        job(fetch_items=fetch_items),
        database=variants,
        resources={"source": [], "erp": "client"},
        external_ids=["A", "B"],
    )
    assert (asked, results.fetched, results.full) == ([(["A", "B"], "client")], 1, False)


@pytest.mark.parametrize(
    ("payload", "items"),
    [
        ({"sku": "A"}, [{"sku": "A"}]),
        ({"type": "item.updated", "data": {"sku": "A"}}, [{"sku": "A"}]),
        ({"data": [{"sku": "A"}, {"sku": "B"}]}, [{"sku": "A"}, {"sku": "B"}]),
        ({"data": []}, []),
        ({"type": "item.deleted", "data": {"sku": "A"}}, [Deletion(external_id="A", record={"sku": "A"})]),
        ({"type": "item.deleted", "sku": "A"}, [{"type": "item.deleted", "sku": "A"}]),
    ],
)
def test_items_of_a_payload(payload, items):
    assert list(job().extract_items(payload)) == items


@pytest.mark.parametrize("payload", [None, [], "text", 7])
def test_a_payload_that_is_no_object_is_refused(payload):
    with pytest.raises(MessageError):
        job().extract_items(payload)


def test_a_cursor_takes_text_only():
    cursor = Cursor("a")
    cursor.advance("b")
    assert (cursor.value, cursor.advanced_to) == ("a", "b")
    with pytest.raises(TypeError, match="use isoformat"):
        cursor.advance(7)  # pyright: ignore[reportArgumentType] - on purpose


def test_a_python_default_of_an_unmapped_column_is_refused():
    table = sa.Table(
        "t",
        sa.MetaData(),
        sa.Column("sku", sa.String(10), primary_key=True),
        sa.Column("stock", sa.Integer),
        sa.Column("token", sa.String(10), default=lambda: "x"),
    )
    with pytest.raises(ConfigurationError, match=r"'token'.*server_default"):
        table_sync(target=table, key="sku", fields={"stock": "stock"}, name="t")(list)
