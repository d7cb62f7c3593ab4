"""`db`: the bookkeeping tables."""

import json

import pytest

from sync_defs.store.database import REVISION, Database


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
