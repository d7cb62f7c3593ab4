"""Runs in processes of their own, as Dagster launches them."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import func, select

from sync_defs import Database
from sync_defs.jobs.erp_inventory.tables import variants
from tests.conftest import broker_header

ROOT = Path(__file__).parents[2]
DEFINITIONS = """
import os
import dagster as dg
from sync_defs.jobs import load_jobs
from sync_defs.jobs.erp_resource import ErpResource
from sync_defs.orchestration import build_sync_definitions

defs = build_sync_definitions(
    load_jobs(),
    database_url=os.environ["SYNC_DATABASE_URL"],
    resources={"erp": ErpResource()},
    executor=dg.multiprocess_executor,
)
"""

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def execute(tmp_path, database_url):
    """Execute a Dagster job in a process of its own, each op in another one, and return its output."""
    (tmp_path / "shop_definitions.py").write_text(DEFINITIONS, encoding="utf-8")
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "SYNC_DATABASE_URL": database_url,
    }
    with Database(database_url) as database:
        database.upgrade()

    def run(job):
        command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "shop_definitions", "-j", job]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=240
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stderr

    run.home = home
    return run


on_a_server = pytest.mark.skipif(not broker_header().startswith("skipped"), reason="test_celery does it on a server")


@pytest.mark.parametrize("database_url", ["sqlite", pytest.param("postgresql", marks=on_a_server)], indirect=True)
def test_ops_in_processes_of_their_own_hand_on_by_reference(execute, database_url):
    output = execute("sync_erp_inventory")
    assert output.count("STEP_WORKER_STARTED") == 4  # fetch, diff, upsert, and the check of the inbox
    with Database(database_url) as database, database.read() as connection:
        assert connection.execute(select(func.count()).select_from(variants)).scalar_one() == 999
    with dg.DagsterInstance.from_config(str(execute.home)) as instance:
        [record] = instance.fetch_materializations(dg.AssetKey("erp_inventory"), limit=5).records
        assert record.asset_materialization is not None
        assert record.asset_materialization.metadata["sync_defs/created"].value == 999
        storage = Path(instance.storage_directory())
    assert [path for path in storage.rglob("*") if path.is_file() and "sync_defs" in path.parts] == []
