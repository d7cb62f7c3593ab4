"""`db`: the bookkeeping tables."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sync_defs.store.database import REVISION, Database, utc_now
from sync_defs.store.schema import changes, runs
from tests.cli.conftest import Done


@pytest.fixture
def empty(project_at, database_url):
    """A project over a database without any tables."""
    return project_at(database_url)


def test_status_upgrade_status(empty):
    label = Database(empty.database_url).label
    before = empty.run("db", "status")
    assert (before.code, before.out) == (
        2,
        f"{label} is at none, needed is {REVISION}; run: sync-defs db upgrade\n",
    )
    assert empty.run("db", "upgrade").out == f"{label} is now at {REVISION}, was at none\n"
    assert empty.run("db", "upgrade").out == f"{label} was at {REVISION} already\n"
    after = empty.run("db", "status", "--json")
    assert (after.code, json.loads(after.out)) == (
        0,
        {"database": label, "revision": REVISION, "needed": REVISION, "is_ready": True},
    )


def test_postgresql_without_tables_says_how_to_get_them(project_at, postgresql_url):
    done = project_at(postgresql_url).run("jobs")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("sync-defs: [database_not_ready] ")
    assert done.err.endswith("run: sync-defs db upgrade\n")


def test_unreachable_database_is_one_sentence_without_the_password(project_at):
    project = project_at("postgresql+psycopg://shop:hunter2@127.0.0.1:1/shop")
    for arguments in (["db", "status"], ["db", "upgrade"], ["jobs"]):
        done = project.run(*arguments)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert done.err.startswith("sync-defs: [database_unreachable] ")
        assert "hunter2" not in done.err


def test_malformed_url_is_a_configuration_error(project_at):
    done = project_at("hunter2").run("db", "status")
    assert (done.code, done.out) == (2, "")
    assert "hunter2" not in done.err


@pytest.fixture
def aged(any_project):
    """A project that synced twice, once in the old days: a hundred of them lie between."""
    assert any_project.run("run", "stock").code == 0
    any_project.source([{"sku": "A", "quantity": 9}])
    assert any_project.run("run", "stock", "--allow-deletes", "2").code == 0
    with Database(any_project.database_url) as database, database.write() as connection:
        first = connection.execute(sa.select(runs.c.run_id).order_by(runs.c.started_at).limit(1)).scalar_one()
        then = utc_now() - timedelta(days=100)
        old = {"started_at": then, "completed_at": then}
        connection.execute(sa.update(runs).where(runs.c.run_id == first).values(old))
        connection.execute(sa.update(changes).where(changes.c.action == "deleted").values(changed_at=then))
    return any_project


def test_prune_deletes_what_is_old_and_tells_how_much(aged):
    told = "deleted: changes {}, runs {}, message ids 0; made dead: messages of unknown jobs 0\n"
    assert aged.run("db", "prune") == Done(0, told.format(2, 1), "")
    assert aged.run("db", "prune") == Done(0, told.format(0, 0), "")


@pytest.mark.parametrize(("arguments", "setting"), [(["--days", "0"], "90"), ([], "0"), (["--days", "101"], "1")])
def test_prune_keeps_what_it_is_told_to(aged, monkeypatch, arguments, setting):
    monkeypatch.setenv("SYNC_HISTORY_DAYS", setting)
    done = aged.run("db", "prune", "--json", *arguments)
    days = int(arguments[1]) if arguments else 0
    expected = {"history_days": days, "changes": 0, "runs": 0, "message_ids": 0, "buried": 0}
    assert (done.code, json.loads(done.out)) == (0, expected)


def test_prune_follows_the_setting(aged, monkeypatch):
    monkeypatch.setenv("SYNC_HISTORY_DAYS", "99")
    expected = {"history_days": 99, "changes": 2, "runs": 1, "message_ids": 0, "buried": 0}
    assert json.loads(aged.run("db", "prune", "--json").out) == expected


@pytest.mark.parametrize("setting", ["-1", "many", "36501"])
def test_a_wrong_number_of_days_is_a_configuration_error(project, monkeypatch, setting):
    monkeypatch.setenv("SYNC_HISTORY_DAYS", setting)
    done = project.run("db", "prune")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("sync-defs: [configuration] SYNC_HISTORY_DAYS: ")


def test_prune_buries_nothing_where_the_jobs_cannot_be_loaded(aged, monkeypatch):
    monkeypatch.setenv("SYNC_JOBS_MODULE", "no_such_package")
    done = aged.run("db", "prune")
    assert (done.code, done.out) == (2, "")
    assert "there is no package 'no_such_package'" in done.err
