"""A real Dagster daemon is killed at named points of a tick, and the next one makes good for it."""

import json
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from sync_defs import Database
from sync_defs.inbox import DrainOptions, Inbox, drain, read_message
from sync_defs.job import table_sync
from sync_defs.store import SqlStore
from sync_defs.store.schema import changes
from tests.e2e.daemons import ROOT, running_daemon, wait_until

DOOMED = Path(__file__).with_name("doomed_daemon.py")
STOCK = sa.Table(
    "stock", sa.MetaData(), sa.Column("sku", sa.String(40), primary_key=True), sa.Column("quantity", sa.Integer)
)
MODULE = """
import os
from sync_defs.orchestration import build_sync_definitions
from tests.e2e.test_killed_daemon import stock

defs = build_sync_definitions({"stock": stock}, database_url=os.environ["SHOP_URL"])
"""
SHORT = ("RUN_CREATED",)
"""What was told is stored, so is a run that nobody starts, and the cursor is not."""
SURELY = {"TICK_CREATED", "before get_sensor_execution_data", "after report_runless_asset_event", "RUN_IDS_RESERVED"}
SURELY |= {"RUN_CREATED", "RUN_LAUNCHED", "before update_instigator_state 2", "after update_instigator_state 2"}

pytestmark = [pytest.mark.e2e, pytest.mark.soak, pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(2 * 3_600)]


@table_sync(target=STOCK, key="sku", fields={"quantity": "qty"}, create_table=True)
def stock():
    """Stock levels."""
    return []


class Deployment:
    """A folder with a code location, its database, and a Dagster instance that one daemon after the other works on."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        folder.mkdir()
        (folder / "killed_jobs.py").write_text(MODULE, encoding="utf-8")
        shutil.copy(ROOT / "dagster.yaml", folder)

    def daemon(self, *point: str):
        """Run a daemon that dies at a point, or none."""
        command = [sys.executable, str(DOOMED), "stock_inbox_sensor", *point, "--", "run", "-m", "killed_jobs"]
        return running_daemon(command, folder=self.folder, variables={"SHOP_URL": self.url})

    def points(self) -> list[str]:
        """Return the names of the points that a daemon has reached which was not to die."""
        file = self.folder / "points"
        return file.read_text().splitlines() if file.exists() else []


def prepare(database):
    """Have one message applied that nobody has told of, and one that is due."""
    inbox = Inbox(database)
    for sku in ("untold", "due"):
        body = json.dumps({"sku": sku, "qty": 1}).encode()
        inbox.enqueue(read_message(stock, message_id=sku, body=body, now=database.now()))
        if sku == "untold":
            drain(stock, SqlStore(database), inbox, run_id="dead", options=DrainOptions(linger_s=0.0))


def told(instance):
    """Return the items that Dagster was told of, each as often as it was."""
    records = instance.fetch_materializations(dg.AssetKey("stock"), limit=100).records
    tables = [record.asset_materialization.metadata["sync_defs/items"] for record in records]
    return Counter(row.data["external_id"] for table in tables for row in table.records)


def applied(database):
    """Return the items that were created, each as often as it was."""
    with database.read() as connection:
        rows = connection.execute(sa.select(changes.c.external_id, changes.c.action))
        return Counter((row.external_id, row.action) for row in rows)


@pytest.fixture
def deploy(tmp_path, monkeypatch, sqlite_template):
    """Make a deployment of its own, with a database."""

    def make(name):
        database = tmp_path / f"{name}.db"
        shutil.copyfile(sqlite_template, database)
        deployment = Deployment(tmp_path / name, f"sqlite:///{database}")
        monkeypatch.chdir(deployment.folder)  # dagster.yaml names folders from where one stands
        return deployment

    return make


def die_and_recover(deployment, point):
    """Kill a daemon at a point, or none, and have the next one do what is left."""
    with Database(deployment.url) as database:
        prepare(database)
        if point is not None:
            with deployment.daemon(point) as doomed:
                assert doomed.wait(120) == -signal.SIGKILL, (deployment.folder / "daemon.log").read_text()
                # Code server and runs outlive it for a while, as they do where only the daemon is killed.
                recover(deployment, database)
        else:
            recover(deployment, database)
        assert applied(database) == {("untold", "created"): 1, ("due", "created"): 1}
        assert Inbox(database).depth() == {}


def recover(deployment, database):
    with deployment.daemon(), dg.DagsterInstance.from_config(str(deployment.folder)) as instance:
        wait_until(lambda: applied(database)["due", "created"], "the row of what was due")
        wait_until(lambda: told(instance).keys() == {"untold", "due"}, "what Dagster is told")


def test_g17_a_daemon_that_was_killed_at_a_point_of_its_tick_is_made_good_for(deploy, request):
    if request.config.getoption("--fault-long"):
        undisturbed = deploy("undisturbed")
        die_and_recover(undisturbed, None)
        points = undisturbed.points()
        assert set(points) >= SURELY
    else:
        points = SHORT
    for number, point in enumerate(points):
        die_and_recover(deploy(f"killed-{number}"), point)
