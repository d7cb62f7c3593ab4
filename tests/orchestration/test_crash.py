"""A run whose process was killed is started again from the op that was under way, and nothing is done twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml

from sync_defs import Database, RunStatus
from sync_defs.store import SqlStore
from tests.orchestration.crashing_run import stock

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("crashing_run.py")


@pytest.fixture
def fetches(tmp_path, migrated_url, monkeypatch):
    """The file with a line for each fetch; Dagster's home and the database are the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {"DAGSTER_HOME": home, "SYNC_DATABASE_URL": migrated_url, "FETCHES": tmp_path / "log"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path / "log"


def run(*arguments):
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, check=False, timeout=60, capture_output=True, text=True, env=os.environ)


@pytest.mark.fault
@pytest.mark.parametrize("migrated_url", ["postgresql"], indirect=True)
def test_the_upsert_goes_on_from_the_stage_that_a_killed_run_left(fetches, migrated_url):
    killed = run()
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    with dg.DagsterInstance.get() as instance, Database(migrated_url) as database:
        [crashed] = instance.get_runs()
        instance.report_run_failed(crashed, "the process is gone")  # as run monitoring and the inbox sensor do
        again = run(crashed.run_id)
        assert again.stdout.split() == ["stock.upsert"], again.stderr[-2000:]
        assert fetches.read_text(encoding="utf-8") == "fetched\n"
        with database.read() as connection:
            assert connection.execute(sa.select(stock.c.sku).order_by(stock.c.sku)).scalars().all() == ["A", "B"]
        [results] = SqlStore(database).recent_results("stock")
        assert (results.status, results.created) == (RunStatus.SUCCEEDED, 2)
        assert len(instance.fetch_materializations(dg.AssetKey("stock"), limit=5).records) == 1


def test_only_a_run_whose_process_is_gone_is_started_again():
    """An op that fails has had its own attempts."""
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    assert settings["run_retries"] == {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}
    assert settings["run_monitoring"]["enabled"]
