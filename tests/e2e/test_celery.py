"""The ops of one run on Celery workers in processes of their own, by the files of `docs/deploy`."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from sync_defs import Database
from sync_defs.store.schema import handoffs

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
STEPS = ("stock.fetch", "stock.diff", "stock.upsert")
JOB = '''
import os
import time
from pathlib import Path

from sync_defs import table_sync
from sqlalchemy import Column, Integer, MetaData, String, Table

stock_table = Table("stock", MetaData(), Column("sku", String(40), primary_key=True), Column("n", Integer))


@table_sync(target=stock_table, key="sku", fields={"n": "n"}, create_table=True, webhook=None)
def stock():
    """Stock; the second page comes once the worker has been told to stop."""
    yield [{"sku": f"A-{number}", "n": number} for number in range(100)]
    Path("worker").write_text(str(os.getppid()), encoding="utf-8")
    give_up = time.monotonic() + 30
    while not Path("go").exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    yield [{"sku": "B-1", "n": 1}, {"sku": "B-2", "n": "many"}]
'''

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]


def wait_for(find, *, within_s=90):
    give_up = time.monotonic() + within_s
    while not (found := find()):
        assert time.monotonic() < give_up, f"not there within {within_s} s"
        time.sleep(0.05)
    return found


@contextmanager
def process(folder, environment, *command):
    """Run a command in a process group of its own, and end that group with the block."""
    with (folder / "log").open("ab") as log:
        started = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield started
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(started.pid, number)
            with suppress(subprocess.TimeoutExpired):
                started.wait(timeout=10)


@pytest.fixture
def environment(tmp_path, broker_url, migrated_postgresql_url):
    """What all processes of the deployment are started with: Dagster's storage and the target share a database."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(DEPLOY / "dagster.yaml", home)
    package = tmp_path / "shop_jobs" / "stock"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text(JOB, encoding="utf-8")
    url = sa.make_url(migrated_postgresql_url)
    return os.environ | {
        "DAGSTER_HOME": str(home),
        "DAGSTER_POSTGRES_URL": url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
        "SYNC_CELERY_BROKER_URL": broker_url,
        "SYNC_EXECUTOR": "celery",
        "SYNC_DATABASE_URL": migrated_postgresql_url,
        "SYNC_JOBS_MODULE": "shop_jobs",
    }


def counts_of(record):
    assert record.asset_materialization is not None
    metadata = record.asset_materialization.metadata
    return {name: metadata[f"sync_defs/{name}"].value for name in ("fetched", "created", "rejected")}


def places_of(entries):
    """The names of the workers that took the steps, and the ids of the processes that ran them."""
    workers, pids = {}, {}
    for event in (entry.dagster_event for entry in entries if entry.dagster_event):
        if event.event_type is dg.DagsterEventType.STEP_START:
            pids[event.step_key] = event.pid
        elif event.is_engine_event and "Celery worker" in event.engine_event_data.metadata:
            place = str(event.engine_event_data.metadata["Celery worker"].value)
            workers[event.step_key] = place.partition("@")[0]
    return workers, pids


def test_a_run_goes_on_at_another_worker_when_its_own_is_told_to_stop(
    tmp_path, environment, migrated_postgresql_url, monkeypatch
):
    """Fetch at one worker, which then ends as at a deployment; diff and upsert at the other one."""
    log = tmp_path / "log"
    worker = "dagster-celery", "worker", "start", "-A", "dagster_celery.app", "-y", str(DEPLOY / "celery.yaml")
    run = sys.executable, "-m", "dagster", "job", "execute", "-m", "sync_defs.definitions", "-j", "sync_stock"
    with ExitStack() as running:
        for name in ("one", "two"):
            running.enter_context(process(tmp_path, environment, *worker, "-n", name, "--", "-c", "1"))
        syncing = running.enter_context(process(tmp_path, environment, *run))
        pid = int(wait_for(lambda: (tmp_path / "worker").exists() and (tmp_path / "worker").read_text()))
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: "Warm shutdown" in log.read_text(encoding="utf-8"))
        (tmp_path / "go").touch()
        assert syncing.wait(timeout=60) == 0, log.read_text(encoding="utf-8")[-4000:]
    with Database(migrated_postgresql_url) as database, database.read() as connection:
        rows = connection.execute(sa.text("SELECT count(*), count(*) FILTER (WHERE sku = 'B-1') FROM stock")).one()
        assert tuple(rows) == (101, 1)
        assert connection.execute(sa.select(sa.func.count()).select_from(handoffs)).scalar_one() == 0
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", environment["DAGSTER_POSTGRES_URL"])
    with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
        [record] = instance.fetch_materializations(dg.AssetKey("stock"), limit=2).records
        entries = instance.all_logs(record.run_id)
    assert counts_of(record) == {"fetched": 102, "created": 101, "rejected": 1}
    workers, pids = places_of(entries)
    assert {workers[step] for step in STEPS} == {"one", "two"}
    assert workers["stock.diff"] == workers["stock.upsert"] != workers["stock.fetch"]
    assert pids["stock.diff"] == pids["stock.upsert"] != pids["stock.fetch"]
    assert syncing.pid not in pids.values()
    assert environment["SYNC_CELERY_BROKER_URL"] not in "".join(map(str, entries))
    files = [path for path in Path(environment["DAGSTER_HOME"]).rglob("*") if path.is_file()]
    assert {path.parent.name for path in files if "dagster_celery" not in path.parts} == {"home", "compute_logs"}
