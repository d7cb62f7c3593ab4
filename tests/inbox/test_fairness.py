"""A flood of messages for one job costs the others nothing: what each statement reads."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sync_defs.inbox import Counts
from sync_defs.store.schema import queue
from tests.inbox.conftest import START
from tests.inbox.test_statements import sent_to

pytestmark = pytest.mark.each_database

FLOOD = 50_000
INDEX = "ix_sync_queue_job_due_at"


@pytest.fixture(scope="module")
def flood():
    """Rows of a flooded job that are all due, oldest first, and ten of another job that came after them."""
    plan = [("flooded", n) for n in range(FLOOD)] + [("quiet", n) for n in range(10)]
    return [
        {
            "job": job,
            "item_key": f"{job}{number}".encode().ljust(32),
            "external_id": str(number),
            "generation": 1,
            "payload": b"{}",
            "due_at": START - timedelta(seconds=FLOOD - number if job == "flooded" else 1),
            "attempts": 0,
            "deaths": 0,
            "received_at": START,
        }
        for job, number in plan
    ]


@pytest.fixture
def flooded(inbox, database, flood):
    """The inbox under the flood, with the statistics that the server would gather by itself."""
    with database.write() as connection:
        connection.execute(sa.insert(queue), flood)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        table = f"{database.dialect.schema}.sync_queue" if database.dialect.schema else "sync_queue"
        kind = database.engine.dialect.name
        connection.exec_driver_sql(f"ANALYZE TABLE {table}" if kind in {"mysql", "mariadb"} else f"ANALYZE {table}")
    return inbox


def full_reads(database, statement, parameters):
    """Return the lines of a statement's plan that read more of the queue than a few rows by an index."""
    kind = database.engine.dialect.name
    explain = "EXPLAIN QUERY PLAN" if kind == "sqlite" else "EXPLAIN"
    with database.write() as connection:
        plan = connection.exec_driver_sql(f"{explain} {statement}", parameters).mappings().all()
    if kind == "sqlite":
        reads = [row["detail"] for row in plan if "sync_queue" in row["detail"]]
        return [line for line in reads if not line.startswith("SEARCH") or "(due_at" in line]
    if kind == "postgresql":
        lines = [row["QUERY PLAN"] for row in plan]
        return [line for line in lines if "Seq Scan on sync_queue" in line or "ix_sync_queue_due_at" in line]
    reads = [dict(row) for row in plan if row["table"] == "sync_queue"]
    return [row for row in reads if row["key"] not in {INDEX, "PRIMARY"} or int(row["rows"]) > FLOOD // 10]


WORK = {
    "has_due": lambda inbox: inbox.has_due("quiet"),
    "counts": lambda inbox: inbox.counts("quiet") == Counts(ready=10, oldest_due_age_s=1.0),
    "claim": lambda inbox: len(inbox.claim("quiet", 100)) == 10,
}


def test_no_statement_for_one_job_reads_the_flood_of_another(flooded, database):
    for name, work in WORK.items():
        with sent_to(database) as statements:
            assert work(flooded), name
        for statement, parameters in statements:
            assert full_reads(database, statement, parameters) == [], (name, statement)
