"""The process that applies messages at once: what hangs or kills it costs its own item alone."""

import importlib
import json
import os
import signal
import sys
import time

import pytest
import sqlalchemy as sa

from sync_defs import ConfigurationError, Database
from sync_defs.inbox import Inbox, MessageState, read_message
from sync_defs.inbox.inline import InlineWorker
from sync_defs.inbox.places import job_at, places_of
from sync_defs.store.schema import queue, runs

MODULE = """
import os, time
from sqlalchemy import Column, Integer, MetaData, String, Table
from sync_defs import table_sync

table = Table("stock", MetaData(), Column("sku", String(40), primary_key=True), Column("quantity", Integer))

def skip(record):
    print("said by a job on the standard output")
    if record["sku"] == "HANG":
        while True:
            pass
    if record["sku"] == "DIE":
        os._exit(7)
    return False

@table_sync(target=table, key="sku", fields={"quantity": "qty"}, should_skip=skip, create_table=True, delivery="inline")
def stock():
    return []
"""

pytestmark = [pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(240)]


@pytest.fixture
def job(tmp_path, monkeypatch, request):
    """A job in a module of its own that another process can import."""
    name = f"inline_jobs_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(name).stock
    del sys.modules[name]


@pytest.fixture
def url(request):
    return request.getfixturevalue("migrated_sqlite_url")


@pytest.fixture
def database(url):
    with Database(url) as database:
        yield database


@pytest.fixture
def worker(job, url):
    worker = InlineWorker([job], database_url=url, apply_s=1.0)
    yield worker
    worker.close()


@pytest.fixture
def send(job, database):
    def enqueue(*skus):
        data = [{"sku": sku, "qty": 1} for sku in skus]
        body = json.dumps({"data": data}).encode()
        message = read_message(job, message_id=str(time.monotonic_ns()), body=body, now=database.now())
        Inbox(database).enqueue(message)

    return enqueue


@pytest.fixture
def until(worker, database):
    """Give orders until something is so; leases of processes that died are not waited for."""

    def wait(is_so, *, within_s=60):
        give_up = time.monotonic() + within_s
        while not is_so():
            assert time.monotonic() < give_up, "not so in time"
            worker.order(["stock"], 2.0)
            if worker.pid not in pids:
                pids.append(worker.pid)
                run_out(database)
            time.sleep(0.05)

    pids = []
    wait.pids = pids
    return wait


def run_out(database):
    with database.write() as connection:
        connection.execute(sa.update(queue).where(queue.c.token.is_not(None)).values(due_at=database.now()))


def rows(job, database):
    with database.read() as connection:
        if not sa.inspect(connection).has_table("stock"):
            return set()
        return set(connection.execute(sa.select(job.target.c.sku)).scalars())


def test_messages_become_rows_and_wait_to_be_told_of(job, database, worker, send, until):
    send("A", "B")
    until(lambda: rows(job, database) == {"A", "B"})
    send("C")
    until(lambda: rows(job, database) == {"A", "B", "C"}, within_s=10)
    assert len(until.pids) == 1
    with database.read() as connection:
        told = connection.execute(sa.select(runs.c.trigger, runs.c.report_due_at)).all()
    assert {row.trigger for row in told} == {"webhook"}
    assert all(row.report_due_at is not None for row in told)


@pytest.mark.parametrize("bad", ["HANG", "DIE"])
def test_an_item_that_hangs_or_kills_becomes_dead_and_the_others_land(job, database, worker, send, until, bad):
    send("A", bad, "B")
    inbox = Inbox(database)
    until(lambda: rows(job, database) == {"A", "B"}, within_s=120)
    until(lambda: inbox.state("stock", bad) is MessageState.DEAD, within_s=120)
    [dead] = inbox.list_messages(dead_only=True)
    assert (dead.external_id, dead.code, dead.deaths) == (bad, "worker_died", 5)
    send("C")
    until(lambda: "C" in rows(job, database), within_s=30)


def test_a_process_that_was_killed_is_replaced(job, database, worker, send, until):
    send("A")
    until(lambda: "A" in rows(job, database))
    os.kill(worker.pid, signal.SIGKILL)
    send("B")
    until(lambda: "B" in rows(job, database))
    assert len(until.pids) == 2


def test_nothing_is_applied_without_an_order(job, database, worker, send, until):
    send("A")
    until(lambda: "A" in rows(job, database))
    pid = worker.pid
    worker.order(["stock"], 0.0)
    worker.order(["another"], 5.0)
    send("B")
    os.kill(pid, signal.SIGCONT)
    assert Inbox(database).state("stock", "B") is MessageState.PENDING


def test_a_job_is_found_again_by_its_place(job):
    place = places_of([job])["stock"]
    assert (place["attribute"], job_at(place)) == ("stock", job)


def test_a_job_that_is_gone_is_named(job):
    with pytest.raises(ConfigurationError, match="has no job 'gone' any more"):
        job_at({**places_of([job])["stock"], "attribute": "gone"})
