"""A run's life: hooks, failures, dry runs, cursors, leases and kills."""

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from sync_defs import (
    BusyError,
    ConfigurationError,
    Cursor,
    Database,
    FetchError,
    Observer,
    RunStatus,
    TableSync,
    plan_sync,
    run_sync,
)
from sync_defs.engine import RunRequest, diff, fetch, upsert
from sync_defs.errors import LeaseLostError
from sync_defs.store import SqlStore, open_rejects
from sync_defs.store.database import utc_now
from tests.engine.conftest import FIELDS, Variant
from tests.examples import few


def record(sku: str, quantity: Any = 1, **more: Any) -> dict[str, Any]:
    return {"sku": sku, "quantity": quantity, **more}


def failing(*pages: Any, error: BaseException | None = None) -> Any:
    yield from pages
    raise error or ConnectionError("password=hunter2")


def test_a_failed_fetch_is_recorded_and_raised(world):
    heard: list[Any] = []
    job = world.job()
    job.on_complete = heard.append
    world.records = failing([record("A"), {"quantity": 1}])
    with pytest.raises(ConnectionError):
        world.sync(job)
    [results] = heard
    assert (results.status, results.fetched, results.rejected) == (RunStatus.FAILED, 2, 1)
    assert results.error == "ConnectionError; nothing was written or deleted"
    assert [error.external_id for error in results.errors] == [None]
    assert SqlStore(world.database).recent_results("variants") == heard
    assert world.rows() == {}


def test_after_a_failure_the_job_can_run_at_once(world):
    world.records = failing()
    with pytest.raises(ConnectionError):
        world.sync()
    world.records = [record("A")]
    assert world.sync().created == 1


def test_on_start_and_on_complete_run_in_order(world):
    heard: list[str] = []
    job = world.job()
    job.on_start = lambda: heard.append("start")
    job.on_complete = lambda results: heard.append(results.summary())
    world.records = [record("A")]
    world.sync(job)
    assert heard == ["start", "variants: 1 fetched = 1 created"]


@pytest.mark.parametrize("fails", [True, False])
def test_an_exception_in_on_complete_hides_nothing(world, fails, caplog):
    job = world.job()

    def broken(results: Any) -> None:
        raise ValueError("in the hook")

    job.on_complete = broken
    world.records = failing() if fails else [record("A")]
    if fails:
        with pytest.raises(ConnectionError):
            world.sync(job)
    else:
        assert world.sync(job).created == 1
    assert "raised ValueError after run" in caplog.text


def test_a_failing_on_start_fails_the_run(world):
    job = world.job()

    def broken() -> None:
        raise FetchError("not today")

    job.on_start = broken
    with pytest.raises(FetchError):
        world.sync(job)
    assert world.seen_cursors == []


@pytest.mark.parametrize("value", [None, 7, "text", {"sku": "A"}])
def test_a_fetch_that_returns_no_records_is_an_error(world, value):
    world.records = value
    with pytest.raises(FetchError, match="the fetch returned"):
        world.sync()


def test_a_missing_resource_is_named(world):
    with pytest.raises(ConfigurationError, match="needs the resource 'source'; given: 'other'"):
        run_sync(world.job(), database=world.database, resources={"other": 1})


def test_a_dry_run_writes_nothing(world):
    world.records = [record("A"), record("B")]
    world.sync()
    world.log_writes()
    before = world.rows()
    world.records = [record("A", 2), record("C"), record("D", "bad")]
    results = world.sync(world.job(on_missing="delete"), dry_run=True)
    assert (results.created, results.updated, results.rejected, results.deleted) == (1, 1, 1, 1)
    assert results.summary().endswith("dry run, nothing written")
    assert (world.rows(), world.written(), open_rejects(world.database)) == (before, [], [])


RECORDS = st.lists(
    st.builds(
        record,
        st.sampled_from(["A", "B", "C", "D"]),
        st.sampled_from([0, 1, 2, -1, "bad", None]),
        version=st.sampled_from([None, 1, 2]),
        brand=st.sampled_from([None, "acme", "nobody"]),
    ),
    max_size=6,
)


@pytest.mark.parametrize("migrated_url", ["sqlite", "postgresql"], indirect=True)
@few(4)
@given(before=RECORDS, after=RECORDS)
def test_a_dry_run_counts_what_the_real_run_does_and_twice_is_once(world, before, after):
    world.execute("DELETE FROM variants")
    job = world.job(on_missing="delete")
    world.records = before
    world.sync(job)
    world.records = after
    dry, real, again = world.sync(job, dry_run=True), world.sync(job), world.sync(job)
    assert (dry.outcomes, dry.deleted, dry.missing) == (real.outcomes, real.deleted, real.missing)
    assert (again.created, again.updated, again.deleted) == (0, 0, 0)


def test_a_dry_run_on_sqlite_survives_the_drivers_own_commits(sqlite_url):
    """The sqlite3 module commits inside savepoints unless its transaction handling is off."""
    with Database(sqlite_url) as database:
        with database.write() as connection:
            connection.exec_driver_sql("CREATE TABLE t (a INTEGER)")
        connection = database.connect(writes=True)
        connection.begin()
        with connection.begin_nested():
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        connection.exec_driver_sql("CREATE TABLE u (a INTEGER)")
        connection.rollback()
        connection.close()
        with database.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == 0
            assert connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE name = 'u'").scalar() == 0


def test_the_cursor_moves_to_the_newest_version_and_only_after_success(world):
    world.records = [record("A", version=3), record("B", version=7)]
    first = world.sync(full=False)
    assert (first.cursor_before, first.cursor_after, first.full) == (None, "7", True)
    world.records = failing([record("C", version=9)])
    with pytest.raises(ConnectionError):
        world.sync(full=False)
    world.records = [record("B", 5, version=8)]
    second = world.sync(full=False)
    assert (second.cursor_before, second.cursor_after, second.full) == ("7", "8", False)
    world.sync(full=True)
    world.sync(dry_run=True, full=False)
    assert world.seen_cursors == [None, "7", "7", None, "8"]


def test_a_fetch_may_set_the_cursor_itself(world):
    def source(cursor: Cursor) -> Any:
        cursor.advance("page-9")
        return [record("A")]

    run_sync(world.job(), database=world.database, resources={"source": source})
    world.records = [record("B")]
    assert world.sync(full=False).cursor_before == "page-9"


def test_an_incremental_fetch_of_nothing_keeps_the_cursor(world):
    world.records = [record("A", version=3)]
    world.sync(full=False)
    world.records = []
    assert world.sync(full=False).cursor_after == "3"


def test_two_runs_of_one_job_never_overlap(world):
    store = SqlStore(world.database)
    fetch(world.job(), store, RunRequest(holder="the first"), resources={"source": world.source})
    with pytest.raises(BusyError, match="the first"):
        world.sync()


def test_a_killed_runs_lease_frees_itself_and_its_stage_goes(world):
    store = SqlStore(world.database)
    world.records = [record("A")]
    handle = fetch(world.job(), store, RunRequest(), resources={"source": world.source})
    later = Database(world.database.engine.url.render_as_string(hide_password=False))
    later.clock = lambda: utc_now() + timedelta(seconds=61)
    with later:
        assert run_sync(world.job(), database=later, resources={"source": lambda _: [record("B")]}).created == 1
    assert store.load_run(handle.run_id).status is RunStatus.FAILED
    with pytest.raises(LeaseLostError):
        upsert(world.job(), store, handle)
    assert set(world.rows()) == {"B"}


def test_the_stage_of_a_run_killed_after_its_commit_goes_with_the_next_run(world, monkeypatch):
    world.records = [record("A")]
    store = SqlStore(world.database)
    handle = fetch(world.job(), store, RunRequest(), resources={"source": world.source})
    diff(world.job(), store, handle)
    with monkeypatch.context() as patch:
        patch.setattr(SqlStore, "end_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            upsert(world.job(), store, handle)
    assert stages(world) != []
    later = Database(world.database.engine.url.render_as_string(hide_password=False))
    later.clock = lambda: utc_now() + timedelta(seconds=61)
    with later:
        assert run_sync(world.job(), database=later, resources={"source": world.source}).unchanged == 1
    assert stages(world) == []
    assert store.load_run(handle.run_id).status is RunStatus.SUCCEEDED


def stages(world):
    with world.database.read() as connection:
        names = sa.inspect(connection).get_table_names(schema=world.database.dialect.schema)
    return [name for name in names if name.startswith("sync_stage_")]


def test_four_runs_at_once_take_turns(world):
    """Each waits for the other; at no time do two hold the job."""
    inside, most, errors = [0], [0], []

    def source(_: Cursor) -> Any:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        yield [record("A", len(errors))]
        inside[0] -= 1

    def run() -> None:
        try:
            run_sync(world.job(), database=world.database, resources={"source": source}, wait_s=60, full=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (errors, most[0]) == ([], 1)
    assert len(SqlStore(world.database).recent_results()) == 4


def test_an_observer_hears_progress_and_may_fail(world):
    heard: list[str] = []

    class Ear(Observer):
        def on_fetched(self, records: int) -> None:
            heard.append(f"fetched {records}")

        def on_diffed(self, counts: Any) -> None:
            heard.append("diffed")

        def on_ended(self, results: Any) -> None:
            heard.append("ended")
            raise ValueError("deaf")

    world.records = [record("A")]
    assert world.sync(observer=Ear()).created == 1
    assert heard == ["fetched 1", "diffed", "ended"]


@pytest.mark.fault
@pytest.mark.parametrize("migrated_url", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("point", [1, 9, 20])
def test_killed_anywhere_and_run_again_ends_as_undisturbed(world, point):
    """SIGKILL before the n-th statement that the upsert sends; the next run ends at the same rows.

    In the changed source S0000 to S0009 are gone, S0600 to S0609 are new, and every stock is one higher.
    """
    job = world.job(on_missing="delete")
    url = world.database.engine.url.render_as_string(hide_password=False)
    world.records = [record(f"S{number:04}", number) for number in range(600)]
    world.sync(job)
    script = Path(__file__).with_name("killed_run.py")
    command = [sys.executable, script, world.kind, str(point)]
    killed = subprocess.run(command, env={**os.environ, "SYNC_DATABASE_URL": url}, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    world.records = [record(f"S{number:04}", number + 1) for number in range(10, 610)]
    with Database(url, clock=lambda: utc_now() + timedelta(seconds=61)) as later:
        run_sync(job, database=later, resources={"source": world.source}, full=True)
    assert {sku: row[0] for sku, row in world.rows().items()} == {
        f"S{number:04}": number + 1 for number in range(10, 610)
    }


def test_an_observer_that_fails_in_the_middle_does_not_end_the_run(world, caplog):
    class Broken(Observer):
        def on_diffed(self, counts: Any) -> None:
            raise BrokenPipeError

    world.records = [record("A")]
    assert world.sync(observer=Broken()).created == 1
    assert "the run goes on" in caplog.text


@pytest.mark.parametrize("function", [run_sync, plan_sync])
@pytest.mark.parametrize(
    ("options", "sentence", "code"),
    [
        ({"external_ids": "AB"}, "external_ids is str; give a list of ids", "bad_external_ids"),
        ({"external_ids": 5}, "external_ids is int; give a list of ids", "bad_external_ids"),
        ({"allow_deletes": -1}, "allow_deletes is -1; give 0 or more, or leave it out", "configuration"),
        ({"allow_deletes": "all"}, "allow_deletes is str; give 0 or more, or leave it out", "configuration"),
        ({"allow_deletes": True}, "allow_deletes is bool; give 0 or more, or leave it out", "configuration"),
        ({"since": 5}, "since is int; give text, such as the job's cursor has it", "configuration"),
        ({"since": "5", "full": True}, "since and full exclude each other; give one of them", "configuration"),
    ],
)
def test_an_option_of_a_run_that_is_of_no_use_is_refused(world, function, options, sentence, code):
    with pytest.raises(ConfigurationError) as caught:
        function(world.job(), database=world.database, resources={"source": world.source}, **options)
    assert (caught.value.message, caught.value.code) == (sentence, code)
    assert world.seen_cursors == []


def test_a_run_that_fails_half_way_tells_what_is_committed(callback_world):
    heard: list[Any] = []
    job = callback_world.job()
    job.on_complete = heard.append

    class Interrupting(Observer):
        def on_written(self, records: int) -> None:
            raise KeyboardInterrupt

    callback_world.records = [record(f"S{number}") for number in range(700)]
    with pytest.raises(KeyboardInterrupt):
        callback_world.sync(job, observer=Interrupting())
    [results] = heard
    assert (results.status, results.created, len(callback_world.rows())) == (RunStatus.FAILED, 500, 500)
    assert results.error == "interrupted; chunks of records that were already committed are kept"


def test_since_takes_the_place_of_the_cursor_for_one_run(world):
    world.records = [record("A", version=5)]
    assert world.sync(full=False).cursor_after == "5"
    world.records = [record("A", version=9)]
    results = world.sync(full=False, since="2")
    assert (results.full, results.cursor_before, results.cursor_after) == (False, "2", None)
    assert world.sync(full=False).cursor_before == "5"
    assert world.seen_cursors == [None, "2", "5"]


def test_since_is_refused_for_a_job_without_a_cursor(database):
    job = TableSync(lambda: None, name="variants", target=cast("sa.Table", Variant.__table__), key="sku", fields=FIELDS)
    with pytest.raises(ConfigurationError, match="fetches everything each time, so since= is of no use"):
        run_sync(job, database=database, since="5")
