"""Runs whose process is gone are reported as failed, and no others."""

import os
import socket
import subprocess
import sys
import time
from datetime import timedelta

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from sync_defs.orchestration.ghosts import (
    LOOK_AGAIN_S,
    NEVER_SEEN_S,
    QUEUED_S,
    UNSEEN_S,
    Ghosts,
    sign_of_life,
    sign_of_waiting,
)
from sync_defs.store.presence import PRESENCE_S
from sync_defs.store.schema import leases

STARTED = dg.DagsterRunStatus.STARTED
STARTING = dg.DagsterRunStatus.STARTING
OURS = RegisteredCodeLocationOrigin("sync_defs")


@pytest.fixture
def start(shop):
    """Make a run that Dagster holds to be at work."""

    def create(job="stock_inbox", status=STARTED, location="sync_defs", **options):
        origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__"), job)
        definition = shop.defs.resolve_job_def(job)
        return shop.instance.create_run_for_job(definition, status=status, remote_job_origin=origin, **options).run_id

    return create


@pytest.fixture
def look(shop, database):
    """Look for ghosts twice, 10 s apart; call what is given in between."""

    def report(between=lambda: None, **options):
        context = dg.SensorEvaluationContext(
            instance_ref=None,
            last_tick_completion_time=None,
            last_run_key=None,
            cursor=None,
            instance=shop.instance,
            repository_name=None,
            code_location_origin=OURS,
        )
        now = [0.0]
        ghosts = Ghosts([shop.job], monotonic=lambda: now[0], **options)
        ghosts.report(context, database)
        between()
        now[0] = LOOK_AGAIN_S
        ghosts.report(context, database)

    return report


@pytest.fixture
def status_of(shop):
    return lambda run_id: shop.instance.get_run_by_id(run_id).status


def leave_sign(database, run_id, holder):
    """Leave the sign of life of a process that is elsewhere, or gone."""
    with sign_of_life(database, run_id):
        pass
    with database.write() as connection:
        connection.execute(sa.update(leases).where(leases.c.name == f"run:{run_id}").values(holder=holder))


@pytest.fixture
def gone():
    """A process of this machine that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return f"{socket.gethostname()}/{process.pid}@1"


def test_a_run_whose_process_is_gone_is_reported_as_failed(start, look, status_of, database, clock, gone):
    run_id = start()
    leave_sign(database, run_id, gone)
    clock.sleep(PRESENCE_S + UNSEEN_S)
    look()
    assert status_of(run_id) is STARTED
    clock.sleep(1)
    look()
    assert status_of(run_id) is dg.DagsterRunStatus.FAILURE


def test_a_process_that_lives_is_no_ghost_however_long_it_is_not_seen(start, look, status_of, database, clock):
    """A long transaction keeps others from writing to SQLite, the sign of life included."""
    run_id = start()
    with sign_of_life(database, run_id):
        pass
    clock.sleep(6 * 3600)
    look()
    assert status_of(run_id) is STARTED


def test_an_id_that_was_given_to_another_process_is_no_life(start, look, status_of, database, clock):
    run_id = start()
    leave_sign(database, run_id, f"{socket.gethostname()}/{os.getpid()}@1")
    clock.sleep(PRESENCE_S + UNSEEN_S + 1)
    look()
    assert status_of(run_id) is dg.DagsterRunStatus.FAILURE


def test_a_run_elsewhere_is_no_ghost_while_it_waits_for_its_next_attempt(start, look, status_of, database, clock):
    """A source may ask for minutes, in which nothing of the run is at work."""
    run_id = start("sync_stock")
    leave_sign(database, run_id, "elsewhere/1@1")
    sign_of_waiting(database, run_id, 1_800)
    clock.sleep(1_800 + PRESENCE_S + UNSEEN_S)
    look()
    assert status_of(run_id) is STARTED
    clock.sleep(1)
    look()
    assert status_of(run_id) is dg.DagsterRunStatus.FAILURE


def test_an_op_that_waits_for_a_worker_has_an_hour(start, look, status_of, database, clock, gone):
    """On Celery nothing of a run is at work between two ops; an inbox job stays in one process there too."""
    waiting, unseen, inbox = start("sync_stock"), start("sync_stock"), start("stock_inbox")
    for run_id in (waiting, inbox):
        leave_sign(database, run_id, gone)
    clock.sleep(QUEUED_S - 60)
    look(ops_are_queued=True)
    assert [status_of(run_id) for run_id in (waiting, unseen)] == [STARTED, STARTED]
    assert status_of(inbox) is dg.DagsterRunStatus.FAILURE
    clock.sleep(PRESENCE_S + 61)
    look(ops_are_queued=True)
    assert {status_of(run_id) for run_id in (waiting, unseen)} == {dg.DagsterRunStatus.FAILURE}


def test_a_process_elsewhere_is_judged_by_its_sign_alone(start, look, status_of, database, clock):
    run_id = start()
    leave_sign(database, run_id, "another-host/1@1")
    clock.sleep(PRESENCE_S)
    look()
    assert status_of(run_id) is STARTED
    clock.sleep(UNSEEN_S + 1)
    look()
    assert status_of(run_id) is dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize("status", [STARTED, STARTING])
def test_a_run_that_never_showed_a_sign_has_ten_minutes(start, look, status_of, clock, status):
    run_id = start(status=status)
    clock.sleep(NEVER_SEEN_S - 60)
    look()
    assert status_of(run_id) is status
    clock.sleep(120)
    look()
    assert status_of(run_id) is dg.DagsterRunStatus.FAILURE


def test_runs_of_others_are_left_alone(start, look, status_of, clock):
    elsewhere, pruning = start(location="another_project"), start(job="prune_bookkeeping")
    clock.sleep(24 * 3600)
    look()
    assert (status_of(elsewhere), status_of(pruning)) == (STARTED, STARTED)


def test_a_queued_run_is_no_ghost(start, look, status_of, clock):
    run_id = start(status=dg.DagsterRunStatus.QUEUED)
    clock.sleep(24 * 3600)
    look()
    assert status_of(run_id) is dg.DagsterRunStatus.QUEUED


def test_a_run_that_shows_itself_again_is_no_ghost(look, start, status_of, database, clock):
    """The database was away for so long that no run could renew its sign; one is back before the second look."""
    back, gone = start(), start()
    for run_id in (back, gone):
        leave_sign(database, run_id, "another-host/1@1")
    clock.now += timedelta(seconds=PRESENCE_S + UNSEEN_S + 1)
    look(between=lambda: leave_sign(database, back, "another-host/1@1"))
    assert (status_of(back), status_of(gone)) == (STARTED, dg.DagsterRunStatus.FAILURE)


def test_signs_of_runs_long_ago_are_deleted(look, database, clock):
    leave_sign(database, "run-1", "another-host/1@1")
    clock.now += timedelta(days=2)
    look()
    with database.read() as connection:
        names = connection.execute(sa.select(leases.c.name).where(leases.c.name.startswith("run:"))).scalars()
        assert list(names) == []


def test_it_looks_at_once_and_then_every_half_minute(shop, database, monkeypatch):
    now = [100.0]
    ghosts = Ghosts([shop.job], monotonic=lambda: now[0])
    looks = []
    monkeypatch.setattr(shop.instance, "get_run_records", lambda *_: looks.append(now[0]) or [])
    context = dg.build_sensor_context(instance=shop.instance)
    for now[0] in (100.0, 129.0, 130.0, 131.0, 160.0):
        ghosts.report(context, database)
    assert looks == [100.0, 130.0, 160.0]


def test_a_run_shows_a_sign(shop):
    shop.source.records = [{"sku": "A", "qty": 1}]
    before = time.time()
    result = shop.run()
    with shop.database.read() as connection:
        row = connection.execute(sa.select(leases).where(leases.c.name == f"run:{result.run_id}")).one()
    assert row.holder.startswith(f"{socket.gethostname()}/{os.getpid()}@")
    assert row.expires_at.timestamp() >= before
