"""`up` as a newcomer meets it: real processes, a real web interface, a real webhook."""

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import httpx
import pytest

from tests.cli.conftest import ROOT, environment
from tests.cli.test_run import wait_for
from tests.cli.test_serve import free_port
from tests.conftest import TRACED_VARIABLE

MATERIALIZATIONS = """
query {
  assetOrError(assetKey: {path: ["erp_inventory"]}) {
    ... on Asset {
      assetMaterializations(limit: 20) {
        metadataEntries { label ... on TextMetadataEntry { text } }
      }
    }
  }
}
"""


START = f"""
import os
os.environ.pop("{TRACED_VARIABLE}", None)
from sync_defs.cli import main
raise SystemExit(main())
"""
"""Coverage is measured in `up` itself, not in the parts that it starts."""


class Up:
    """A running `sync-defs up` in a folder with the project's own two files."""

    def __init__(self, folder):
        for name in ("workspace.yaml", "dagster.yaml"):
            shutil.copy(ROOT / name, folder)
        self.folder = folder
        self.ports = {name: free_port() for name in ("--port", "--receiver-port", "--erp-port")}
        words = [word for name, port in self.ports.items() for word in (name, str(port))]
        self.output = folder / "up.out"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, "up", "--no-browser", "--tick", "0", *words],
                cwd=folder,
                env=environment() | {"PYTHONWARNINGS": "default"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text()

    def wait_for(self, condition, seconds):
        """Wait until a condition holds; fail with all output and logs if it ends or takes too long."""
        give_up = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > give_up:
                logs = (log.read_text()[-3000:] for log in (self.folder / ".sync_defs" / "logs").glob("*.log"))
                pytest.fail("\n".join([self.text, *logs]))
            time.sleep(0.1)

    def members(self) -> dict[int, str]:
        """Return the living processes of its children's groups, by process id."""
        listed = subprocess.run(
            ["ps", "-ww", "-eo", "pid=,ppid=,pgid=,stat=,args="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split(None, 4) for line in listed.splitlines()]
        self.groups = getattr(self, "groups", set()) | {row[2] for row in rows if int(row[1]) == self.process.pid}
        return {int(row[0]): row[4] for row in rows if row[2] in self.groups and not row[3].startswith("Z")}

    def stock(self, sku):
        """Return an item's stock in the target."""
        with contextlib.closing(sqlite3.connect(self.folder / "sync_defs.db")) as connection:
            [found] = connection.execute("SELECT stock FROM variants WHERE sku = ?", (sku,)).fetchone()
        return found

    def triggers(self) -> list[str]:
        """Return what triggered each materialization of the inventory, the newest first."""
        answer = httpx.post(
            f"http://127.0.0.1:{self.ports['--port']}/graphql",
            json={"query": MATERIALIZATIONS},
            timeout=30,
            trust_env=False,
        )
        events = answer.json()["data"]["assetOrError"].get("assetMaterializations", [])
        entries = [entry for event in events for entry in event["metadataEntries"]]
        return [entry["text"] for entry in entries if entry["label"] == "sync_defs/trigger"]


@pytest.fixture
def up(tmp_path):
    """A running `up`; whatever the test does, nothing of it is left."""
    started = Up(tmp_path)
    yield started
    started.members()
    if started.process.poll() is None:
        started.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.process.wait(60)
    for pid in started.members():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(480)
def test_first_sync_webhook_and_end(up):
    """The parts start, syncs happen, a change arrives by webhook, and Ctrl-C leaves nothing."""
    up.wait_for(lambda: "Ctrl-C    stops everything\n" in up.text, 240)
    assert "first     sync of erp_customers, erp_inventory, erp_prices\n" in up.text
    up.wait_for(lambda: "  manual: erp_inventory: 999 fetched = 999 created\n" in up.text, 120)
    up.wait_for(lambda: "  manual: erp_customers: 120 fetched = 120 created\n" in up.text, 120)
    up.wait_for(lambda: "manual" in up.triggers(), 60)

    [command] = [line for line in up.text.splitlines() if line.startswith("  curl ")]
    assert up.stock("SKU-0001") != 7
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    up.wait_for(lambda: up.stock("SKU-0001") == 7, 60)
    up.wait_for(lambda: "webhook" in up.triggers(), 60)

    assert len(up.members()) > 5
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0
    assert up.text.endswith("stopping\nstopped\n")
    assert up.members() == {}


@pytest.mark.e2e
@pytest.mark.fault
@pytest.mark.timeout(180)
def test_part_that_ends_takes_the_others_with_it(up):
    log = up.folder / ".sync_defs" / "logs" / "receiver.log"
    up.wait_for(lambda: log.exists() and "Uvicorn running" in log.read_text(), 90)
    [pid] = [pid for pid, command in up.members().items() if "sync_defs.cli serve" in command]
    os.kill(pid, signal.SIGKILL)
    assert up.process.wait(90) == 1
    expected = f"sync-defs: [child_ended] the receiver was killed by signal 9; the end of its log is above ({log})"
    assert up.text.splitlines()[-1] == expected
    assert re.search("^  INFO: +Uvicorn running", up.text, re.MULTILINE)
    assert up.members() == {}


@pytest.mark.e2e
def test_ctrl_c_while_the_parts_are_starting(up):
    wait_for(lambda: "starting  " in up.text, 60)
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(60) == 0
    assert up.members() == {}
