"""The filter: what is known from the last run is neither read nor staged, and every outcome is as without it."""

import json
import math
import uuid
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.orm import Session, registry

from sync_defs import Database, Deletion, Field, SyncJob, TableSync, mark, plan_sync, run_sync
from sync_defs.engine import RunRequest, StageHandle, diff, fetch, upsert
from sync_defs.engine.items import sync_items
from sync_defs.engine.records import PAGE
from sync_defs.errors import ConfigurationError
from sync_defs.policies import MissingAction
from sync_defs.results import Action
from sync_defs.store import SqlStore, open_rejects
from sync_defs.store.fingerprint import Fingerprinter, RecordFingerprinter, key_hash, plain_digest, plain_dump
from sync_defs.store.mapping import RecordShaper, TableMapping
from sync_defs.store.record_text import encode_record
from sync_defs.store.retention import prune_history
from sync_defs.store.schema import rejects, state_parts, states
from sync_defs.store.state import State, entries_of, fingerprints, joined, unknown
from tests.examples import few


class Items:
    """A table of its own, and a job that fetches everything each time."""

    def __init__(self, database: Database, **options: Any) -> None:
        self.database = database
        self.name = f"items_{uuid.uuid4().hex[:8]}"
        self.table = sa.Table(
            self.name,
            sa.MetaData(),
            sa.Column("sku", sa.String(40), primary_key=True),
            sa.Column("stock", sa.Integer, sa.CheckConstraint("stock < 1000")),
            sa.Column("active", sa.Boolean),
        )
        with database.write() as connection:
            self.table.create(connection)
        self.options = {"on_missing": "delete", "fields": {"stock": "quantity"}} | options
        self.records: list[Any] = []

    def job(self, **options: Any) -> TableSync:
        given = self.options | options
        return TableSync(
            lambda source: source(),
            name=self.name,
            target=self.table,
            key="sku",
            **given,
        )

    def run(self, *, full: bool = False, **options: Any) -> Any:
        return run_sync(self.job(**options), database=self.database, resources=self.source(), full=full)

    def source(self) -> dict[str, Any]:
        return {"source": lambda: [dict(record) for record in self.records]}

    def message(self, *items: Any) -> None:
        sync_items(self.job(), SqlStore(self.database), items)

    def rows(self) -> dict[str, Any]:
        with self.database.read() as connection:
            return {row.sku: (row.stock, row.active) for row in connection.execute(sa.select(self.table))}

    def execute(self, statement: Any) -> None:
        with self.database.write() as connection:
            connection.execute(statement)


class CallbackItems(Items):
    """The same by callbacks that depend on the record alone."""

    def __init__(self, database: Database, **options: Any) -> None:
        super().__init__(database, **options)
        self.options.pop("fields")
        self.item: Any = type("Item", (), {})
        registry().map_imperatively(self.item, self.table)
        self.called: list[str] = []

    def job(self, **options: Any) -> Any:
        return ItemJob(self, **self.options | options)


class ItemJob(SyncJob[dict[str, Any], Any]):
    """Sets the stock."""

    depends_on_record_alone = True

    def __init__(self, items: CallbackItems, **options: Any) -> None:
        self.items = items
        self.name = items.name
        for name, value in options.items():
            setattr(self, name, value)

    def fetch_external(self, source: Any) -> Any:
        return source()

    def get_external_id(self, record: dict[str, Any]) -> object:
        return record["sku"]

    def find_local(self, session: Session, external_id: str) -> Any:
        return session.scalar(sa.select(self.items.item).where(self.items.table.c.sku == external_id))

    def create(self, session: Session, record: dict[str, Any]) -> None:
        self.items.called.append(record["sku"])
        row = self.items.item()
        row.sku, row.stock = record["sku"], record["quantity"]
        if self.missing_policy.restores:
            row.active = self.missing_policy.otherwise
        session.add(row)

    def update(self, session: Session, row: Any, record: dict[str, Any]) -> None:
        self.items.called.append(record["sku"])
        row.stock = record["quantity"]

    def local_external_ids(self, session: Session) -> Any:
        t = self.items.table
        marks = self.missing_policy.action is MissingAction.MARK
        yield from session.scalars(sa.select(t.c.sku).where(t.c.active.is_not(False) if marks else sa.true()))


KINDS = {"table": Items, "callbacks": CallbackItems}


@pytest.fixture
def items(database):
    """A table job."""
    return Items(database)


@pytest.fixture(params=KINDS)
def either(database, request):
    """A job of each kind."""
    return KINDS[request.param](database)


def record(sku: Any, quantity: Any = 1, **more: Any) -> dict[str, Any]:
    return {"sku": sku, "quantity": quantity} | more


def counts(results: Any) -> dict[str, int]:
    names = ("created", "updated", "unchanged", "skipped", "stale", "rejected", "deleted", "marked", "withheld")
    return {name: count for name in (*names, "missing") if (count := getattr(results, name))}


def staged(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Collect the ids that reach a stage."""
    seen: list[str | None] = []
    stage = SqlStore.stage

    def watched(self: Any, job: Any, run: Any, page: Any, expected: Any = None) -> None:
        seen.extend(record.external_id for record in page)
        stage(self, job, run, page, expected)

    monkeypatch.setattr(SqlStore, "stage", watched)
    return seen


def test_only_what_is_not_known_reaches_the_stage(items, monkeypatch):
    items.records = [record(f"S{number}", number, etag=number) for number in range(50)]
    assert counts(items.run()) == {"created": 50}
    items.records = [dict(item, etag="other") for item in items.records]
    items.records[7]["quantity"] = 999
    items.records.append(record("new"))
    seen = staged(monkeypatch)
    assert counts(items.run()) == {"created": 1, "updated": 1, "unchanged": 49}
    assert seen == ["S7", "new"]
    assert items.rows()["S7"] == (999, None)


def test_the_few_changes_of_many_pages_are_staged_together(either, monkeypatch):
    """Of each page one record is changed; a stage that is loaded once a page takes a transaction for each."""
    pages = 4
    either.records = [record(f"S{number}") for number in range(pages * PAGE)]
    either.run()
    loads: list[int] = []
    stage = SqlStore.stage

    def counted(self: Any, job: Any, run: Any, page: Any, *rest: Any) -> None:
        loads.append(len(page))
        stage(self, job, run, page, *rest)

    monkeypatch.setattr(SqlStore, "stage", counted)
    for number in range(pages):
        either.records[number * PAGE]["quantity"] = 7
    results = either.run()
    assert (results.updated, results.unchanged, loads) == (pages, pages * (PAGE - 1), [pages])
    assert sum(stock == 7 for stock, _ in either.rows().values()) == pages


def test_a_row_that_was_inserted_or_deleted_by_others_is_put_right_at_once(either):
    either.records = [record("A"), record("B")]
    either.run()
    either.execute(sa.delete(either.table).where(either.table.c.sku == "A"))
    assert counts(either.run()) == {"created": 1, "unchanged": 1}
    either.execute(sa.insert(either.table).values(sku="C", stock=1))
    assert counts(either.run()) == {"unchanged": 2, "deleted": 1, "missing": 1}
    assert set(either.rows()) == {"A", "B"}


@pytest.mark.each_database
def test_a_row_that_others_changed_is_put_right(items):
    items.records = [record("A"), record("B")]
    items.run()
    items.execute(sa.update(items.table).where(items.table.c.sku == "A").values(stock=7))
    # PostgreSQL tells by a checksum, elsewhere everything is compared in every 24th run.
    runs = 1 if items.database.dialect.name == "postgresql" else 24
    found = [counts(items.run()) for _ in range(runs)]
    assert found[-1] == {"updated": 1, "unchanged": 1}
    assert all(each == {"unchanged": 2} for each in found[:-1])


def test_verify_says_how_often_everything_is_compared(either):
    either.records = [record("A"), record("B")]
    changed = sa.update(either.table).where(either.table.c.sku == "A").values(stock=7)
    either.run(verify=3)
    either.execute(changed)
    assert [counts(either.run(verify=3)).get("updated", 0) for _ in range(4)] == [0, 0, 1, 0]
    either.execute(changed)
    assert counts(either.run(verify=0)) == {"unchanged": 2}
    assert counts(either.run(verify=1)) == {"updated": 1, "unchanged": 1}
    either.execute(changed)
    assert counts(either.run(verify=0, full=True)) == {"updated": 1, "unchanged": 1}


@pytest.mark.parametrize(
    "spoil",
    [
        sa.delete(state_parts),
        sa.update(state_parts).values(entries=b"x"),
        sa.update(states).values(digest="of another mapping"),
        sa.delete(states),
    ],
    ids=["no-parts", "short", "foreign", "none"],
)
def test_a_state_that_cannot_be_read_costs_time_only(either, spoil):
    either.records = [record("A"), record("B")]
    either.run()
    either.execute(spoil)
    either.execute(sa.update(either.table).where(either.table.c.sku == "A").values(stock=7))
    assert counts(either.run()) == {"updated": 1, "unchanged": 1}
    assert counts(either.run()) == {"unchanged": 2}


def test_another_mapping_compares_everything(items):
    items.records = [record("A", 1, half=2)]
    items.run()
    doubled = {"stock": Field(source="quantity", convert=lambda value: value * 2)}
    assert counts(items.run(fields=doubled)) == {"updated": 1}
    tripled = {"stock": Field(source="quantity", convert=lambda value: value * 3)}
    assert counts(items.run(fields=tripled)) == {"updated": 1}
    assert items.rows()["A"] == (3, None)


def test_a_dry_run_keeps_nothing_and_a_chosen_id_is_always_compared(either):
    either.records = [record("A")]
    run_sync(either.job(), database=either.database, resources={"source": lambda: either.records})
    either.records = [record("A", 5)]
    source = {"source": lambda: either.records}
    assert run_sync(either.job(), database=either.database, resources=source, dry_run=True).updated == 1
    assert counts(either.run()) == {"updated": 1}
    either.execute(sa.update(either.table).values(stock=7))
    chosen = run_sync(either.job(verify=0), database=either.database, resources=source, external_ids=["A"])
    assert chosen.updated == 1
    assert counts(either.run()) == {"unchanged": 1}


def test_chosen_ids_that_change_nothing_leave_what_is_known(either, monkeypatch):
    either.records = [record("A"), record("B")]
    either.run()
    source = {"source": lambda: either.records}
    for quantity, expected in ((1, []), (5, ["A", "B"])):
        either.records = [record("A", quantity), record("B")]
        run_sync(either.job(), database=either.database, resources=source, external_ids=["A"])
        seen = staged(monkeypatch)
        assert counts(either.run()) == {"unchanged": 2}
        assert seen == expected


def test_a_bad_record_whose_row_is_there_is_neither_missing_nor_known(either):
    either.records = [record("A"), record("B")]
    either.run()
    for bad in ("many", math.nan, 5000):
        either.records = [record("A"), record("B", bad)]
        for _ in range(2):
            assert counts(either.run()) == {"unchanged": 1, "rejected": 1}
    either.records = [record("A"), record("B")]
    assert counts(either.run()) == {"unchanged": 2}
    assert either.rows() == {"A": (1, None), "B": (1, None)}


def test_pruning_the_history_drops_states_that_need_it(either):
    either.records = [record("A")]
    either.run()
    later = Database(either.database.engine.url.render_as_string(hide_password=False))
    later.clock = lambda: either.database.now() + timedelta(days=100)
    with later:
        prune_history(later, older_than=timedelta(days=90))
    with either.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(states)).scalar_one() == 0
    assert counts(either.run()) == {"unchanged": 1}


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        (sa.Integer(), ["1", "02", 3]),
        (sa.BigInteger(), [2**40, 2**40 + 1, "007"]),
        (sa.Numeric(10, 0), ["1", "20", 300]),
        (sa.Date(), ["2026-01-01", "2026-02-10", "1999-12-31"]),
        (sa.Uuid(), [str(uuid.UUID(int=number)) for number in (1, 2, 3)]),
        (sa.CHAR(10), ["a", "b", "c d"]),
        (sa.Enum("A1", "B1", "C1", name="some_letters"), ["A1", "B1", "C1"]),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, sa.types.TypeEngine) else "",
)
def test_rows_are_told_by_their_keys_of_every_type(database, kind, ids):
    table = sa.Table("keyed", sa.MetaData(), sa.Column("id", kind, primary_key=True), sa.Column("v", sa.Integer))
    records = [{"id": external_id, "v": 1} for external_id in ids]
    job = TableSync(
        lambda: list(records),
        name="keyed",
        target=table,
        key="id",
        fields={"v": "v"},
        on_missing="delete",
        create_table=True,
    )
    found = [counts(run_sync(job, database=database)) for _ in range(2)]
    del records[2]
    found.append(counts(run_sync(job, database=database, dry_run=True)))
    found += [counts(run_sync(job, database=database)) for _ in range(2)]
    gone = {"unchanged": 2, "deleted": 1, "missing": 1}
    assert found == [{"created": 3}, {"unchanged": 3}, gone, gone, {"unchanged": 2}]


@pytest.mark.parametrize(
    "kind",
    [
        sa.Numeric(10, 2),
        sa.Float(),
        sa.DateTime(),
        sa.DateTime(timezone=True),
        sa.Time(),
        sa.Boolean(),
        sa.Enum(Action),
    ],
    ids=repr,
)
def test_a_key_whose_values_have_many_texts_is_refused(sqlite_url, kind):
    table = sa.Table("keyed", sa.MetaData(), sa.Column("id", kind, primary_key=True), sa.Column("v", sa.Integer))
    job = TableSync(lambda: [{"id": 1}], name="keyed", target=table, key="id", fields={"v": "v"}, create_table=True)
    with pytest.raises(ConfigurationError, match="key column 'id' has the type"):
        run_sync(job, database=sqlite_url)


@pytest.mark.parametrize("verify", [None, 1])
def test_an_id_in_another_case_is_another_row_also_where_the_column_disagrees(sqlite_url, verify):
    """The column's collation takes B and b for one: the row goes before the new one comes, with and without filter."""
    key = sa.Column("id", sa.String(20, collation="NOCASE"), primary_key=True)
    table = sa.Table("folded", sa.MetaData(), key, sa.Column("v", sa.Integer))
    options = {"key": "id", "fields": {"v": "v"}, "on_missing": "delete", "create_table": True, "verify": verify}
    records = [{"id": external_id, "v": 1} for external_id in "ABC"]
    job = TableSync(lambda: list(records), name="folded", target=table, **options)
    run_sync(job, database=sqlite_url)
    records[1] = {"id": "b", "v": 1}
    assert counts(run_sync(job, database=sqlite_url)) == {"created": 1, "unchanged": 2, "deleted": 1, "missing": 1}


@pytest.mark.each_database
@pytest.mark.parametrize(
    "kind",
    [sa.String(20, collation="NOCASE"), sa.String(20).with_variant(sa.String(20, collation="NOCASE"), "sqlite")],
    ids=["collation", "variant"],
)
def test_of_ids_that_the_column_takes_for_one_the_last_counts(sqlite_url, kind):
    """Their hashes differ, but not their keys."""
    table = sa.Table("keyed", sa.MetaData(), sa.Column("id", kind, primary_key=True), sa.Column("v", sa.Integer))
    records = [{"id": "a", "v": 1}, {"id": "A", "v": 2}]
    job = TableSync(lambda: records, name="keyed", target=table, key="id", fields={"v": "v"}, create_table=True)
    with Database(sqlite_url) as database:
        database.upgrade()
        assert counts(run_sync(job, database=database)) == {"created": 1, "skipped": 1}
        with database.read() as connection:
            assert connection.execute(sa.select(table)).all() == [("A", 2)]


def test_a_row_changed_by_others_while_a_run_goes_on_is_put_right_by_the_next(items):
    """Where there is a checksum, it moves by what the run wrote, and by nothing else."""
    items.records = [record("A"), record("B"), record("C")]
    items.run()
    records = [record("A", 2), record("B"), record("C")]
    edit = sa.update(items.table).where(items.table.c.sku == "C").values(stock=777)
    for full in (False, True):

        def fetch(full=full) -> Any:
            yield list(records)
            items.execute(edit)

        records[0]["quantity"] += 1
        assert (
            run_sync(items.job(), database=items.database, resources={"source": fetch}, full=full).updated == 1 + full
        )
        items.records = records
        if not full:
            expected = (
                {"updated": 1, "unchanged": 2} if items.database.dialect.name == "postgresql" else {"unchanged": 3}
            )
            assert counts(items.run()) == expected
    assert items.rows()["A"] == (4, None)


def test_what_messages_wrote_costs_the_others_nothing(either, monkeypatch):
    either.records = [record("A"), record("B"), record("C")]
    either.run()
    either.message(record("A", 5), record("D", 1), Deletion(external_id="C"))
    either.records = [record("A", 5), record("B"), record("D")]
    seen = staged(monkeypatch)
    assert counts(either.run()) == {"unchanged": 3}
    assert seen == ["A", "D"]
    assert counts(either.run()) == {"unchanged": 3}
    assert seen == ["A", "D"]


def test_an_open_reject_closes_when_its_record_is_what_it_was(either):
    """The fetch is not complete, since a record without an id might be any: so nothing else closes it."""
    nameless = {"quantity": 1}
    either.records = [record("A"), record("B"), nameless]
    either.run()
    either.records = [record("A", "many"), record("B"), nameless]
    assert counts(either.run()) == {"unchanged": 1, "rejected": 2}
    either.records = [record("A"), record("B"), nameless]
    assert counts(either.run()) == {"unchanged": 2, "rejected": 1}
    with either.database.read() as connection:
        still_open = sa.select(rejects.c.external_id).where(rejects.c.closed_at.is_(None))
        assert list(connection.execute(still_open).scalars()) == [None]


def test_a_run_without_news_makes_no_stage(either):
    either.records = [record("A"), record("B")]
    either.run()
    sent: list[str] = []
    event.listen(either.database.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    results = either.run()
    assert (counts(results), results.row_count) == ({"unchanged": 2}, 2)
    assert counts(plan_sync(either.job(), database=either.database, resources=either.source()).results) == {
        "unchanged": 2
    }
    assert [text for text in sent if text.lstrip().startswith(("CREATE", "DROP"))] == []
    either.records[0] = record("A", 2)
    assert counts(either.run()) == {"updated": 1, "unchanged": 1}
    assert [text for text in sent if "CREATE" in text] != []


def test_a_run_without_news_goes_on_in_other_processes_and_sees_messages(either):
    either.records = [record("A"), record("B")]
    either.run()
    job, store = either.job(), partial(SqlStore, either.database)
    handle = fetch(job, store(), RunRequest(), resources=either.source())
    assert not handle.has_stage
    either.message(record("A", 5))
    handle = StageHandle.from_dict(json.loads(json.dumps(handle.to_dict() | {"of a later version": 1})))
    assert diff(job, store(), handle).unchanged == 2
    results = upsert(job, store(), handle)
    assert counts(results) == {"unchanged": 2}
    assert upsert(job, store(), handle) == results
    assert either.rows()["A"][0] == 5
    assert counts(either.run()) == {"updated": 1, "unchanged": 1}


def test_a_fetch_tried_again_without_news_leaves_nothing_of_its_first_try(either):
    either.records = [record("A")]
    either.run()
    job, store, request = either.job(), SqlStore(either.database), RunRequest(run_id="again")
    either.records = [record("A", 2)]
    assert fetch(job, store, request, resources=either.source()).has_stage
    either.records = [record("A")]
    handle = fetch(job, store, request, resources=either.source())
    assert not handle.has_stage
    with either.database.read() as connection:
        names = sa.inspect(connection).get_table_names(schema=either.database.dialect.schema)
    assert [name for name in names if name.startswith("sync_stage_")] == []
    assert counts(upsert(job, store, handle)) == {"unchanged": 1}
    assert either.rows()["A"][0] == 1


def test_an_empty_fetch_deletes_nothing_and_makes_no_stage(either):
    either.records = [record("A")]
    either.run()
    either.records = []
    results = either.run()
    assert (counts(results), set(either.rows())) == ({}, {"A"})


def test_a_reject_whose_record_is_gone_is_closed_by_a_run_without_news(either):
    either.records = [record("A"), record("B", 1_000)]
    assert counts(either.run()) == {"created": 1, "rejected": 1}
    either.records = [record("A")]
    assert counts(either.run()) == {"unchanged": 1}
    assert open_rejects(either.database) == []


def test_a_known_record_that_comes_again_in_another_form_is_a_repetition(either):
    either.records = [record(f"S{number}") for number in range(2_500)]
    either.run()
    either.records.append(record("S0", 2))
    assert counts(either.run()) == {"updated": 1, "unchanged": 2_499, "skipped": 1}
    assert either.rows()["S0"] == (2, None)


@pytest.mark.parametrize("migrated_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("way", ["another option", "a checksum that fails"])
def test_a_checksum_that_was_not_kept_all_along_proves_nothing(items, monkeypatch, way):
    """What others changed meanwhile is put right by the first run that can tell."""
    items.records = [record("A"), record("B")]
    items.run()
    with monkeypatch.context() as patched:
        if way == "a checksum that fails":
            patched.setattr(type(items.database.dialect), "checksum", lambda *_: None)
            items.run()
            items.run()
        else:
            items.run(verify=50)
            items.run(verify=50)
        with items.database.write() as connection:
            connection.execute(sa.update(items.table).where(items.table.c.sku == "A").values(stock=99))
    assert counts(items.run()) == {"updated": 1, "unchanged": 1}
    assert counts(items.run()) == {"unchanged": 2}


def test_should_skip_is_asked_with_the_record_type(database):
    @dataclass
    class Stock:
        sku: str
        quantity: int

    def skips(stock: Stock) -> bool:
        return stock.quantity < 0

    def of(stock: Any) -> str:
        return stock.sku

    def fill(row: Any, stock: Any) -> Any:
        row.sku, row.stock = stock.sku, stock.quantity
        return row

    either = CallbackItems(database, record_type=Stock, should_skip=skips, get_external_id=of)
    either.options["create"] = lambda session, stock: session.add(fill(either.item(), stock))
    either.options["update"] = lambda session, row, stock: either.called.append(fill(row, stock).sku)
    either.records = [record("A"), record("B", -1)]
    assert counts(either.run()) == {"created": 1, "skipped": 1}
    assert counts(either.run()) == {"unchanged": 1, "skipped": 1}
    assert either.called == []


KEYS = st.sampled_from(["A", "B", "C", "a"])
VALUES = st.sampled_from([1, 2, 3, None, "many", 2000])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fetch"), st.lists(st.tuples(KEYS, VALUES), max_size=5)),
        st.tuples(st.just("message"), KEYS, VALUES),
        st.tuples(st.just("gone"), KEYS),
    ),
    max_size=8,
)
POLICIES = ["keep", "delete", mark(active=False, otherwise=True), mark(active=False)]


@pytest.mark.parametrize(
    ("migrated_url", "kind", "policy"),
    [
        *(("sqlite", "table", policy) for policy in POLICIES),
        ("postgresql", "table", "delete"),  # with a checksum
        ("postgresql", "table", POLICIES[-1]),
        ("sqlite", "callbacks", "delete"),
    ],
    ids=["keep", "delete", "mark-restores", "mark", "postgresql-delete", "postgresql-mark", "callbacks-delete"],
    indirect=["migrated_url"],
)
@example([("fetch", [("A", 1)]), ("message", "A", 2), ("fetch", [("A", 1)]), ("fetch", [("A", 1)])])
@example([("fetch", [("A", 1), ("B", 1)]), ("fetch", [("A", 1)]), ("fetch", [("A", 1), ("B", 1)])])
@example([("fetch", [("A", 1)]), ("fetch", [("A", 2), ("A", 1)]), ("fetch", [("A", 1), ("A", 1)])])
@few(2)
@given(steps=STEPS)
def test_every_outcome_is_as_without_the_filter(database, policy, kind, steps):
    sifted, whole = KINDS[kind](database, on_missing=policy), KINDS[kind](database, on_missing=policy, verify=1)
    for what, *details in steps:
        for each in (sifted, whole):
            each.records = [
                record("Z"),
                *(record(sku, value) for sku, value in (details[0] if what == "fetch" else ())),
            ]
            if what == "message":
                each.message(record(*details))
            elif what == "gone":
                each.message(Deletion(external_id=details[0]))
        if what == "fetch":
            assert counts(sifted.run()) == counts(whole.run())
        assert sifted.rows() == whole.rows()


RAW = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.decimals(allow_nan=False, places=2),
    st.datetimes(),
    st.dictionaries(st.text(max_size=2), st.one_of(st.none(), st.floats()), max_size=2),
)


@given(one=RAW, other=RAW)
def test_equal_fingerprints_are_of_equal_values(one, other):
    job = TableSync(
        lambda source: source,
        name="items",
        target=sa.Table("t", sa.MetaData(), sa.Column("sku", sa.String(40), primary_key=True), sa.Column("v", sa.JSON)),
        key="sku",
        fields={"v": "value"},
    )
    fingerprinter = Fingerprinter(TableMapping(job, Database("sqlite://")))

    def prints(records: Any) -> Any:
        return fingerprints(entries_of(fingerprinter.page(records)))

    first, second = prints([{"sku": "A", "value": one}, {"sku": "A", "value": other}])
    alone = [prints([{"sku": "A", "value": value}])[0] for value in (one, other)]
    assert [first, second] == alone
    if first is not None and first == second:
        assert repr(one) == repr(other) or one == other or {type(one), type(other)} & {bytes}
    if isinstance(one, float) and not math.isfinite(one):
        assert first is None


def test_the_fallback_of_the_standard_library_works_alike():
    assert len(plain_digest(b"a")) == 16
    assert plain_digest(b"a") != plain_digest(b"b")
    assert plain_dump(("A", Decimal("1.10"), None)) == b'["A",{"$decimal":"1.10"},null]'
    assert key_hash("a") != key_hash("A")


@given(
    held=st.dictionaries(st.integers(0, 40), st.integers(1, 9)),
    put=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9))),
    removed=st.sets(st.integers(0, 40)),
)
def test_a_state_is_a_mapping_of_hashes(held, put, removed):
    def content(value: int) -> bytes:
        return value.to_bytes(16)

    def packed(pairs: Any) -> Any:
        return joined(key.to_bytes(8, "little") + content(value) for key, value in pairs)

    state = State.empty().changed(packed(held.items()), unknown([])["key"])
    after = state.changed(packed(put), unknown(sorted(removed))["key"])
    wanted = {key: value for key, value in held.items() if key not in removed} | dict(put)
    assert after.keys.tolist() == sorted(wanted)
    assert [entry.tobytes()[8:] for entry in after.entries] == [content(wanted[key]) for key in sorted(wanted)]


def test_a_row_that_changed_by_a_record_without_a_fingerprint_is_not_known(either):
    outcomes = []
    for quantity in (1, np.int64(2), 1):
        either.records = [record("A", quantity)]
        outcomes.append(counts(either.run(verify=0)))
    assert outcomes == [{"created": 1}, {"updated": 1}, {"updated": 1}]
    assert either.rows() == {"A": (1, None)}


@pytest.fixture
def calls(database):
    """A job of callbacks."""
    return CallbackItems(database)


def test_no_callback_is_called_for_a_known_record(calls):
    calls.records = [record(f"S{number}") for number in range(20)]
    calls.run()
    calls.called.clear()
    calls.records[3]["quantity"] = 2
    assert counts(calls.run()) == {"updated": 1, "unchanged": 19}
    assert set(calls.called) == {"S3"}
    calls.called.clear()
    assert counts(calls.run(depends_on_record_alone=False)) == {"unchanged": 20}
    assert len(calls.called) == 20


def test_a_row_that_others_changed_is_put_right_by_every_24th_run(calls):
    calls.records = [record("A"), record("B")]
    calls.run()
    calls.execute(sa.update(calls.table).where(calls.table.c.sku == "A").values(stock=7))
    assert [calls.run().updated for _ in range(24)] == [0] * 23 + [1]


@pytest.mark.parametrize(
    "change", [{"code_version": "2"}, {"rate": 3}, {"on_missing": "keep"}, {"update": lambda *_: None}]
)
def test_other_callbacks_know_nothing(calls, change):
    calls.records = [record("A"), record("B")]
    calls.run()
    calls.run()
    calls.called.clear()
    calls.execute(sa.update(calls.table).where(calls.table.c.sku == "A").values(stock=7))
    assert counts(calls.run(**change)) == ({"unchanged": 2} if "update" in change else {"updated": 1, "unchanged": 1})
    assert set(calls.called) == (set() if "update" in change else {"A", "B"})


def test_a_run_without_the_filter_that_writes_leaves_nothing_known(calls):
    calls.records = [record("A"), record("B")]
    calls.run()
    calls.records = [record("A", 2), record("B")]
    assert counts(calls.run(depends_on_record_alone=False)) == {"updated": 1, "unchanged": 1}
    calls.records = [record("A"), record("B")]
    assert counts(calls.run()) == {"updated": 1, "unchanged": 1}


@pytest.mark.parametrize("full", [False, True])
def test_a_run_that_fails_on_the_way_hides_no_work(calls, full):
    """Its first chunk of 500 has landed; the source then says again what it said before."""
    before = [record(f"S{number}") for number in range(700)]
    calls.records = before
    calls.run()
    calls.records = [record(f"S{number}", 2) for number in range(700)]

    def fail(session: Session, row: Any, given: dict[str, Any]) -> None:
        if given["sku"] == "S650":
            raise KeyboardInterrupt
        row.stock = given["quantity"]

    with pytest.raises(KeyboardInterrupt):
        calls.run(update=fail, full=full)
    assert sum(stock == 2 for stock, _ in calls.rows().values()) == 500
    calls.records = before
    assert calls.run().updated == 500
    assert set(calls.rows().values()) == {(1, None)}


@dataclass
class Held:
    """A record of the source's own class."""

    sku: str
    value: Any


@given(one=RAW, other=RAW)
def test_equal_fingerprints_are_of_records_that_callbacks_cannot_tell_apart(one, other):
    job = ItemJob.__new__(ItemJob)
    job.get_external_id = lambda record: "A"
    fingerprinter = RecordFingerprinter(job, RecordShaper(job, Database("sqlite://")))
    for make in (lambda value: {"sku": "A", "value": value}, lambda value: Held("A", value)):
        first, second = fingerprints(entries_of(fingerprinter.page([make(one), make(other)])))
        if first is None or second is None:
            continue
        assert (first == second) is (encode_record(make(one)) == encode_record(make(other)))
