"""What is MariaDB's own: how a table is made, targets that somebody else made, LOAD DATA, errors, migrations."""

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime, time
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy import event
from sqlalchemy.dialects import mysql

from sync_defs import ConfigurationError, Database, SyncResults, TableSync, Trigger, run_sync
from sync_defs.engine import sync_items
from sync_defs.store import SqlStore
from sync_defs.store.database import REVISION
from sync_defs.store.dialects import GenericDialect
from sync_defs.store.schema import leases, metadata


@pytest.fixture
def database(migrated_mariadb_url: str) -> Iterator[Database]:
    with Database(migrated_mariadb_url) as database:
        yield database


def make(database: Database, *statements: str) -> None:
    with database.write() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def read(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def job_of(name: str, *columns: sa.Column[Any], **options: Any) -> TableSync:
    table = sa.Table(name, sa.MetaData(), *columns)
    fields = {column.name: column.name for column in columns[1:]}
    return TableSync(lambda source: source, name="job", target=table, key=columns[0].name, fields=fields, **options)


def sync(database: Database, job: TableSync, *records: dict[str, Any], **options: Any) -> SyncResults:
    return run_sync(job, database=database, resources={"source": list(records)}, **options)


def counts(results: SyncResults) -> dict[str, int]:
    return {str(outcome): count for outcome, count in results.outcomes.items() if count}


def test_sessions_are_strict_exact_and_in_utc(database):
    [(mode, zone, collation, isolation)] = read(
        database, "SELECT @@sql_mode, @@time_zone, @@collation_connection, @@tx_isolation"
    )
    assert {"STRICT_ALL_TABLES", "NO_AUTO_VALUE_ON_ZERO", "SIMULTANEOUS_ASSIGNMENT"} <= set(mode.split(","))
    assert (zone, collation, isolation) == ("+00:00", "utf8mb4_nopad_bin", "READ-COMMITTED")


def test_a_table_that_a_job_creates_keeps_every_value(database):
    """Where SQLAlchemy's own types would cut: seconds, 7 digits, 64 KB, letters of one kind."""
    table = sa.Table(
        "made",
        sa.MetaData(),
        sa.Column("id", sa.String(20), primary_key=True),
        sa.Column("at", sa.DateTime),
        sa.Column("hour", sa.Time),
        sa.Column("ratio", sa.Float),
        sa.Column("amount", sa.Numeric),
        sa.Column("note", sa.String),
        sa.Column("raw", sa.LargeBinary),
        sa.Column("digest", sa.LargeBinary(32), unique=True),
        sa.Column("size", sa.Enum("s", "S", name="size")),
        sa.Column("given", mysql.DATETIME(fsp=3)),
    )
    with database.write() as connection:
        table.create(connection)
    query = "SELECT column_name, column_type FROM information_schema.columns WHERE table_schema = DATABASE()"
    types = dict(read(database, f"{query} AND table_name = 'made'"))
    assert types == {
        "id": "varchar(20)",
        "at": "datetime(6)",
        "hour": "time(6)",
        "ratio": "double",
        "amount": "decimal(65,30)",
        "note": "longtext",
        "raw": "longblob",
        "digest": "varbinary(32)",
        "size": "enum('s','S')",
        "given": "datetime(3)",
    }


LEGACY = """
CREATE TABLE legacy (
    id VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY,
    at DATETIME, stamp TIMESTAMP(3) NULL, hour TIME, ratio FLOAT, amount DECIMAL(10, 1), whole DECIMAL(10),
    tiny TINYINT UNSIGNED, latin VARCHAR(20) CHARACTER SET latin1, padded CHAR(10) COLLATE utf8mb4_bin,
    size ENUM('s', 'l') COLLATE utf8mb4_unicode_ci, data JSON, ref UUID, raw BLOB, fixed BINARY(4)
)
"""


def legacy_job() -> TableSync:
    kinds: dict[str, Any] = {
        "at": sa.DateTime(timezone=True),
        "stamp": sa.DateTime(timezone=True),
        "hour": sa.Time,
        "ratio": sa.Float,
        "amount": sa.Numeric,
        "whole": sa.Numeric,
        "tiny": sa.SmallInteger,
        "latin": sa.String(20),
        "padded": sa.String(10),
        "size": sa.Enum("s", "l"),
        "data": sa.JSON,
        "ref": sa.Uuid,
        "raw": sa.LargeBinary,
        "fixed": sa.LargeBinary,
    }
    key = sa.Column("id", sa.String(20), primary_key=True)
    return job_of("legacy", key, *[sa.Column(name, kind) for name, kind in kinds.items()])


RECORD: dict[str, Any] = {
    "id": "a",
    "at": datetime(2026, 3, 29, 1, 2, 3, 999_999),
    "stamp": datetime(2026, 3, 29, 1, 2, 3, 123_456),
    "hour": time(1, 2, 3, 999_999),
    "ratio": 0.1,
    "amount": Decimal("1.26"),
    "whole": "2.5",
    "tiny": 255,
    "latin": "caf\u00e9",
    "padded": "x ",
    "size": "l",
    "data": {"b": 1, "a": [1.5, "\u00e9"]},
    "ref": uuid.UUID(int=7),
    "raw": b"\x00\t\\N\n",
    "fixed": b"ab",
}


def test_what_a_target_cannot_keep_is_not_a_difference_for_ever(database):
    """Whole seconds, floats of 7 digits, fewer digits, blanks of CHAR: the stage loses what the target loses."""
    make(database, LEGACY)
    job = legacy_job()
    for expected in ({"created": 1}, {"unchanged": 1}):
        results = sync(database, job, RECORD)
        assert (counts(results), results.errors) == (expected, [])
    items = sync_items(job, SqlStore(database), [RECORD], trigger=Trigger.WEBHOOK)
    assert [str(item.action) for item in items] == ["unchanged"]
    [row] = read(database, "SELECT at, stamp, hour, amount, whole, tiny, latin, padded, size, raw FROM legacy")
    assert row[:2] == (datetime(2026, 3, 29, 1, 2, 3), datetime(2026, 3, 29, 1, 2, 3, 123_000))
    assert row[3:] == (Decimal("1.3"), Decimal(3), 255, "caf\u00e9", "x", "l", b"\x00\t\\N\n")
    changes = [("ratio", 0.2), ("amount", "1.2"), ("latin", "CAF\u00c9"), ("size", "s"), ("data", {"b": 1})]
    for name, value in changes:
        assert counts(sync(database, job, RECORD | {name: value})) == {"updated": 1}
        assert counts(sync(database, job, RECORD)) == {"updated": 1}


REFUSED = [
    ({"tiny": 256}, "out_of_range", "tiny"),
    ({"latin": "\u65e5"}, "bad_text", None),
    ({"stamp": datetime(1, 1, 1)}, "constraint", None),
    ({"amount": "12345678901"}, "out_of_range", "amount"),
]


@pytest.mark.parametrize(("change", "code", "field"), REFUSED)
def test_what_only_the_target_refuses_costs_its_record_alone(database, change, code, field):
    """The code and the column are the server's, the values of its message are not repeated."""
    make(database, LEGACY)
    records = [RECORD | {"id": "good"}, RECORD | {"id": "bad"} | change, RECORD | {"id": "fine"}]
    results = sync(database, legacy_job(), *records)
    assert [(error.external_id, error.code, error.field) for error in results.errors] == [("bad", code, field)]
    assert not any(str(value) in results.errors[0].message for value in change.values())
    assert read(database, "SELECT id FROM legacy ORDER BY id") == [("fine",), ("good",)]


def test_keys_that_the_targets_collation_takes_for_one_do_not_overwrite_each_other(database):
    """Two ids of one row: the second is rejected, however the first came in."""
    make(database, LEGACY)
    job = job_of("legacy", sa.Column("id", sa.String(20), primary_key=True), sa.Column("tiny", sa.SmallInteger))
    results = sync(database, job, {"id": "a", "tiny": 1}, {"id": "A", "tiny": 2}, {"id": "\u00e1", "tiny": 3})
    assert (results.created, [error.code for error in results.errors]) == (1, ["unique", "unique"])
    results = sync(database, job, {"id": "A", "tiny": 2}, {"id": "a", "tiny": 5})
    assert (results.updated, [(error.external_id, error.code) for error in results.errors]) == (1, [("A", "unique")])
    assert read(database, "SELECT id, tiny FROM legacy") == [("a", 5)]


def test_a_single_item_finds_its_row_by_the_targets_index(database):
    """Also where the target's collation is not the exact one: no statement reads the whole table."""
    make(database, "CREATE TABLE plain (id VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, n INT)")
    make(database, "INSERT INTO plain SELECT CONCAT('K', seq), seq FROM seq_1_to_5000")
    job = job_of("plain", sa.Column("id", sa.String(20), primary_key=True), sa.Column("n", sa.Integer))
    reads: list[tuple[int, str]] = []

    def look(connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if "plain" in text and "count(*)" not in text and not text.startswith(("SHOW", "DESCRIBE")):
            driver = connection.connection.cursor()
            driver.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
            reads.append((sum(int(value) for _, value in driver.fetchall()), text))

    event.listen(database.engine, "before_cursor_execute", look)
    event.listen(database.engine, "after_cursor_execute", look)
    sync_items(job, SqlStore(database), [{"id": "K77", "n": 1}], trigger=Trigger.WEBHOOK)
    event.remove(database.engine, "before_cursor_execute", look)
    event.remove(database.engine, "after_cursor_execute", look)
    assert read(database, "SELECT n FROM plain WHERE id = 'K77'") == [(1,)]
    assert len(reads) == 2 * 3  # classify, history, update
    for (before, text), (after, _) in zip(reads[::2], reads[1::2], strict=True):
        assert after - before < 100, text


@pytest.mark.parametrize("option", ["", "?local_infile=0"], ids=["load data", "inserts"])
def test_texts_of_every_kind_reach_the_stage(migrated_mariadb_url, option):
    texts = ["", "NULL", "\\N", "\\", "a\tb", "a\nb\r\n", "'\"`;--", "\x08\x1a%s%%", "\u00e9\U0001f600", "x" * 100_000]
    job = job_of(
        "texts",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("text", sa.Text),
        sa.Column("raw", sa.LargeBinary),
        create_table=True,
    )
    records = [{"id": number, "text": text, "raw": text.encode()} for number, text in enumerate(texts)]
    with Database(migrated_mariadb_url + option) as database:
        assert counts(sync(database, job, *records)) == {"created": len(texts)}
        assert counts(sync(database, job, *records)) == {"unchanged": len(texts)}
        rows = read(database, "SELECT id, text, raw FROM texts ORDER BY id")
    assert rows == [(number, text, text.encode()) for number, text in enumerate(texts)]


@pytest.mark.parametrize("option", ["", "?local_infile=0"], ids=["load data", "inserts"])
def test_a_number_that_no_column_can_hold_costs_its_record_alone(migrated_mariadb_url, option):
    job = job_of(
        "numbers", sa.Column("id", sa.String(9), primary_key=True), sa.Column("n", sa.Numeric), create_table=True
    )
    records = [{"id": "a", "n": 1}, {"id": "b", "n": 10**40}, {"id": "c", "n": "0.5"}]
    with Database(migrated_mariadb_url + option) as database:
        results = sync(database, job, *records)
        assert [(error.external_id, error.code) for error in results.errors] == [("b", "out_of_range")]
        assert read(database, "SELECT id FROM numbers ORDER BY id") == [("a",), ("c",)]


def test_json_that_another_program_wrote_is_compared_as_a_value(database):
    job = job_of("docs", sa.Column("id", sa.String(9), primary_key=True), sa.Column("data", sa.JSON), create_table=True)
    record = {"id": "a", "data": {"a": 1.5, "b": [1, {"c": None}], "n": 9007199254740993}}
    sync(database, job, record)
    make(database, """UPDATE docs SET data = '{"n":9007199254740993,"b" : [1, {"c":null}],\\n"a":1.50}'""")
    assert counts(sync(database, job, record)) == {"unchanged": 1}
    record["data"]["n"] = 9007199254740992
    assert counts(sync(database, job, record)) == {"updated": 1}


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_either_scheme_is_the_same_database(migrated_mariadb_url, scheme):
    """SQLAlchemy keeps a UUID as 32 digits under one, and as a UUID under the other."""
    url = sa.make_url(migrated_mariadb_url).set(drivername=scheme).render_as_string(hide_password=False)
    columns = (sa.Column("id", sa.Uuid, primary_key=True), sa.Column("ref", sa.Uuid), sa.Column("zero", sa.Integer))
    job = job_of("ids", *columns, create_table=True, on_missing="delete")
    records = [{"id": str(uuid.UUID(int=n)), "ref": uuid.UUID(int=n + 1), "zero": 0} for n in range(3)]
    with Database(url) as database:
        assert counts(sync(database, job, *records)) == {"created": 3}
        assert counts(sync(database, job, *records)) == {"unchanged": 3}
        assert sync(database, job, *records[1:], allow_deletes=9).deleted == 1
        items = sync_items(job, SqlStore(database), [records[0]], trigger=Trigger.WEBHOOK)
        assert [(item.external_id, str(item.action)) for item in items] == [(records[0]["id"], "created")]


def test_a_key_of_zero_is_a_key(database):
    job = job_of("numbered", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))
    with database.write() as connection:
        job.target.create(connection)
    assert counts(sync(database, job, {"id": 0, "n": 1}, {"id": 5, "n": 1})) == {"created": 2}
    assert read(database, "SELECT id FROM numbered ORDER BY id") == [(0,), (5,)]


def test_an_absent_row_is_inserted_once_and_no_error_is_hidden(database):
    dialect = database.dialect
    with database.write() as connection:
        assert dialect.insert_absent(connection, leases, {"name": "a", "holder": "first"})
        assert not dialect.insert_absent(connection, leases, {"name": "a", "holder": "second"})
        assert dialect.insert_absent(connection, leases, {"name": "A"})
        with pytest.raises(sqlalchemy.exc.DataError):
            dialect.insert_absent(connection, leases, {"name": "b", "token": "x" * 65})
    with database.read() as connection:
        rows = connection.execute(sa.select(leases.c.name, leases.c.holder).order_by(leases.c.name)).all()
    assert [tuple(row) for row in rows] == [("A", None), ("a", "first")]


def test_a_failed_item_leaves_no_stage_in_the_session(database):
    job = job_of("plain", sa.Column("id", sa.String(9), primary_key=True), create_table=True)

    def settle(connection: Any, _results: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sync_items(job, SqlStore(database), [{"id": "a"}], trigger=Trigger.WEBHOOK, settle=settle)
    assert read(database, "SELECT * FROM plain") == []
    with database.read() as connection:
        assert [key for key in connection.info if "stage" in key] == []


KILLED = """
import os, signal, sys
from sqlalchemy import event
from sync_defs import Database

database, left = Database(sys.argv[1]), [int(sys.argv[2])]

def kill(_connection, _cursor, text, *_):
    if "sync_" in text and text.split()[0] in ("CREATE", "INSERT", "UPDATE"):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

event.listen(database.engine, "before_cursor_execute", kill)
database.upgrade()
"""


@pytest.mark.fault
@pytest.mark.parametrize("point", [1, 4, 12])
def test_an_upgrade_that_was_killed_is_gone_on_with(mariadb_url, point):
    """CREATE TABLE commits; the lock goes with the connection."""
    killed = subprocess.run([sys.executable, "-c", KILLED, mariadb_url, str(point)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    with Database(mariadb_url) as database:
        assert database.revision() is None
        database.upgrade()
        assert database.revision() == REVISION
        with database.read() as connection:
            inspector = sa.inspect(connection)
            found = {index["name"] for name in inspector.get_table_names() for index in inspector.get_indexes(name)}
        assert found == {index.name for table in metadata.tables.values() for index in table.indexes}


def test_a_database_without_row_locks_is_refused():
    with pytest.raises(ConfigurationError, match="cannot lock rows"):
        Database("sqlite://", dialect=GenericDialect("other")).ensure_ready()
