"""What an unchanged sync costs the database: few statements, of a number that does not grow, and no write."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from sync_defs import Database, TableSync
from sync_defs.engine import RunRequest, diff, fetch, upsert
from sync_defs.store import SqlStore

TARGET = sa.Table(
    "items",
    sa.MetaData(),
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("stock", sa.Integer),
    sa.Column("price", sa.Numeric(12, 2)),
    sa.Column("version", sa.Integer),
)
WRITES = re.compile(r"\s*(WITH\b.*)?\b(INSERT|UPDATE|DELETE|REPLACE|TRUNCATE|COPY)\b", re.IGNORECASE | re.DOTALL)
WRITTEN = re.compile(r"\b(?:INSERT INTO|UPDATE|DELETE FROM|REPLACE INTO|COPY) (?:\S+\.)?\"?(\w+)", re.IGNORECASE)
SIZES = (10, 1_000)
MOST_STATEMENTS = 60
"""A ceiling, so that a step that is added by mistake is seen; raise it for a good reason only."""


def records(size: int) -> list[dict[str, Any]]:
    return [{"id": f"I{number:05}", "stock": number, "price": number / 4, "version": 1} for number in range(size)]


def job(**options: Any) -> TableSync:
    fields = {name: name for name in ("stock", "price")}
    return TableSync(
        lambda source: source,
        name="items",
        target=TARGET,
        key="id",
        fields=fields,
        version="version",
        create_table=True,
        **options,
    )


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    with Database(migrated_url) as database:
        yield database


def statements(database: Database, source: list[dict[str, Any]], **options: Any) -> tuple[list[str], Any]:
    """The statements of diff and upsert, as the driver gets them, and the results."""
    store, sync_job = SqlStore(database), job(**options)
    handle = fetch(sync_job, store, RunRequest(), resources={"source": source})
    sent: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", listen)
    try:
        diff(sync_job, store, handle)
        results = upsert(sync_job, store, handle)
    finally:
        event.remove(database.engine, "before_cursor_execute", listen)
    return sent, results


def written_tables(sent: list[str]) -> set[str]:
    """The tables that the statements name as the one to write, whatever is in them."""
    return {re.sub(r"^(sync_stage)_\w+$", r"\1", name) for text in sent for name in WRITTEN.findall(text)}


def test_the_patterns_of_this_module_see_writes():
    seen = [
        "INSERT INTO items (id)",
        "UPDATE main.items SET x=1",
        'WITH w AS (UPDATE "items" SET x) SELECT',
        "DELETE FROM a.b",
    ]
    assert all(WRITES.match(text) for text in seen)
    assert written_tables(seen) == {"items", "b"}


@pytest.mark.parametrize("policy", ["keep", "delete"])
def test_an_unchanged_sync_sends_as_many_statements_for_10_records_as_for_1000(database, policy):
    """Set-based: no statement for a record, a page or a chunk."""
    sent: dict[int, list[str]] = {}
    for size in SIZES:
        statements(database, records(size), on_missing=policy)
        sent[size], results = statements(database, records(size), on_missing=policy)
        assert (results.unchanged, results.fetched) == (size, size)
    assert len(sent[10]) == len(sent[1_000])
    assert len(sent[10]) <= MOST_STATEMENTS


def test_a_changed_sync_sends_as_many_statements_for_10_records_as_for_1000(database):
    sent: dict[int, list[str]] = {}
    for size in SIZES:
        source = records(size)
        statements(database, source)
        changed = [{**record, "stock": -1 - record["stock"]} for record in source]
        sent[size], results = statements(database, changed)
        assert results.updated == size
    assert len(sent[10]) == len(sent[1_000])


def touched_rows(database: Database) -> int:
    with database.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM touched").scalar_one())


FUNCTION = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO touched VALUES (1); RETURN NULL; END $$
"""
TRIGGERS = {
    "mariadb": [
        f"CREATE TRIGGER touch_{what} AFTER {what} ON items FOR EACH ROW INSERT INTO touched VALUES (1)"
        for what in ("insert", "update", "delete")
    ],
    "sqlite": [
        f"CREATE TRIGGER touch_{what} AFTER {what} ON items BEGIN INSERT INTO touched VALUES (1); END"
        for what in ("insert", "update", "delete")
    ],
    "postgresql": [
        FUNCTION,
        "CREATE TRIGGER touch AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION touch()",
    ],
}


def test_an_unchanged_sync_writes_no_row_of_the_target(database):
    """By the database's own account: a trigger on each row."""
    source = records(50)
    statements(database, source)
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE touched (x INTEGER)")
        for statement in TRIGGERS[database.dialect.name]:
            connection.exec_driver_sql(statement)
    statements(database, source)
    assert touched_rows(database) == 0
    statements(database, [{**source[0], "stock": -1}, *source[1:]])
    assert touched_rows(database) == 1


def test_the_diff_writes_to_its_stage_alone(database):
    source = records(10)
    statements(database, source)
    store, sync_job = SqlStore(database), job()
    handle = fetch(sync_job, store, RunRequest(), resources={"source": records(12)[1:]})
    sent: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda _c, _cursor, text, *_: sent.append(text))
    diff(sync_job, store, handle)
    assert written_tables([text for text in sent if WRITES.match(text)]) <= {"sync_stage"}
