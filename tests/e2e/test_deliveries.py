"""A real Dagster daemon: messages by run and at once, and all of it killed in the middle."""

import json
import sys
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from sync_defs import Database
from sync_defs.inbox import Inbox, Message, MessageItem
from tests.e2e.daemons import ROOT, running_daemon, wait_until

MODULE = """
import os
from sqlalchemy import Column, Integer, MetaData, String, Table
from sync_defs import table_sync
from sync_defs.orchestration import build_sync_definitions

def table(name):
    return Table(name, MetaData(), Column("sku", String(40), primary_key=True), Column("quantity", Integer))

@table_sync(target=table("by_run"), key="sku", fields={"quantity": "qty"}, create_table=True)
def by_run():
    return []

@table_sync(target=table("at_once"), key="sku", fields={"quantity": "qty"}, create_table=True, delivery="inline")
def at_once():
    return []

defs = build_sync_definitions({"by_run": by_run, "at_once": at_once}, database_url=os.environ["SHOP_URL"])
"""
JOBS = ("by_run", "at_once")
MONITORED = "poll_interval_seconds: 30"
"""How often Dagster looks for runs whose process is gone; the test does not wait so long."""

pytestmark = [pytest.mark.e2e, pytest.mark.soak, pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(600)]


class Shop:
    """A folder with a deployment, its database and its Dagster instance."""

    def __init__(self, folder: Path, url: str, database: Database) -> None:
        self.folder = folder
        self.database = database
        self._url = url

    def daemon(self):
        """Run the daemon."""
        command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-m", "two_deliveries"]
        return running_daemon(command, folder=self.folder, variables={"SHOP_URL": self._url})

    def send(self, sku):
        for job in JOBS:
            payload = json.dumps({"sku": sku, "qty": 1}).encode()
            item = MessageItem(external_id=sku, payload=payload)
            Inbox(self.database).enqueue(Message(job=job, message_id=sku, items=(item,)))

    def has(self, sku):
        with self.database.read() as connection:
            inspector = sa.inspect(connection)
            return all(
                inspector.has_table(name)
                and connection.execute(sa.text(f"SELECT count(*) FROM {name} WHERE sku = :sku"), {"sku": sku}).scalar()
                for name in JOBS
            )

    def told(self, instance, job):
        """Return how many messages Dagster was told of."""
        records = instance.fetch_materializations(dg.AssetKey(job), limit=100).records
        return sum(int(record.asset_materialization.metadata["sync_defs/created"].value) for record in records)


@pytest.fixture
def shop(tmp_path, monkeypatch, migrated_sqlite_url):
    (tmp_path / "two_deliveries.py").write_text(MODULE, encoding="utf-8")
    settings = (ROOT / "dagster.yaml").read_text(encoding="utf-8")
    assert MONITORED in settings
    (tmp_path / "dagster.yaml").write_text(settings.replace(MONITORED, "poll_interval_seconds: 2"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # dagster.yaml names folders from where one stands
    with Database(migrated_sqlite_url) as database:
        yield Shop(tmp_path, migrated_sqlite_url, database)


def test_both_deliveries_survive_the_death_of_all_processes(shop):
    with shop.daemon():
        shop.send("A")
        wait_until(lambda: shop.has("A"), "the first rows")
        with dg.DagsterInstance.from_config(str(shop.folder)) as instance:
            wait_until(lambda: all(shop.told(instance, job) == 1 for job in JOBS), "the first events")
    shop.send("B")  # a run lingers in Dagster's eyes, and nobody is there
    with dg.DagsterInstance.from_config(str(shop.folder)) as instance:
        ghosts = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        assert "by_run_inbox" in {ghost.job_name for ghost in ghosts}
        with shop.daemon():
            wait_until(lambda: shop.has("B"), "the rows of what came meanwhile")
            wait_until(lambda: all(shop.told(instance, job) == 2 for job in JOBS), "their events")
            ended = dg.RunsFilter([ghost.run_id for ghost in ghosts], statuses=[dg.DagsterRunStatus.FAILURE])
            wait_until(lambda: len(instance.get_run_ids(ended)) == len(ghosts), "the end of the ghosts")
    assert Inbox(shop.database).depth() == {}
