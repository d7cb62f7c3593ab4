"""The example project in Dagster's web interface, as a newcomer sees it, and a job with partitions beside it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from sync_defs import Database
from sync_defs.inbox import Inbox, read_message
from sync_defs.jobs import load_jobs

playwright_api = pytest.importorskip("playwright.sync_api")
expect = playwright_api.expect

ROOT = Path(__file__).parents[2]
LOAD_S = 100
DRY_RUN = "ops:\n  erp_inventory:\n    config:\n      dry_run: true\n"
TWO_ITEMS = "ops:\n  erp_inventory:\n    config:\n      external_ids: [SKU-0001, SKU-0002]\n"
# A package of jobs that are the examples and one more; no file of theirs is copied.
JOBS = "import sync_defs.jobs\n\n__path__ += sync_defs.jobs.__path__\n"
OFFERS = '''
import dagster as dg
from sync_defs import table_sync
from sqlalchemy import Column, MetaData, String, Table

offers = Table("offers", MetaData(), Column("sku", String(40), primary_key=True), Column("shop", String(2)))


@table_sync(
    target=offers,
    key="sku",
    fields={"shop": "shop"},
    on_missing="delete",
    in_partition=lambda table, key: table.c.shop == key,
    partitions_def=dg.StaticPartitionsDefinition(["at", "de", "fr"]),
    create_table=True,
    webhook=None,
)
def shop_offers(partition: str):
    """The offers of each shop."""
    yield [{"sku": f"{partition}-{number}", "shop": partition} for number in range(3)]
'''
WRONG = "ops:\n  erp_inventory:\n    config:\n      allow_deletes: five\n"

pytestmark = [pytest.mark.ui, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


class Project:
    """A running `dagster dev` in a folder of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, query: str, **variables: object) -> dict:
        answer = httpx.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=30)
        return answer.raise_for_status().json()["data"]

    def is_loaded(self) -> bool:
        query = "{repositoriesOrError{... on RepositoryConnection{nodes{name}}}}"
        try:
            return bool(self.ask(query)["repositoriesOrError"].get("nodes"))
        except httpx.HTTPError:
            return False

    def run(self, job: str) -> str:
        """Launch a job with its default config and return the run's id once it has succeeded."""
        launch = "mutation($p:ExecutionParams!){launchRun(executionParams:$p){... on LaunchRunSuccess{run{runId}}}}"
        selector = {"repositoryName": "__repository__", "repositoryLocationName": "sync_defs", "jobName": job}
        params = {"selector": selector, "runConfigData": "{}", "mode": "default"}
        run_id = self.ask(launch, p=params)["launchRun"]["run"]["runId"]
        status = "query($r:ID!){runOrError(runId:$r){... on Run{status}}}"
        wait_until(lambda: self.ask(status, r=run_id)["runOrError"]["status"] == "SUCCESS", within_s=60)
        return run_id

    def materializations(self) -> int:
        query = """{assetOrError(assetKey:{path:["erp_inventory"]}){... on Asset{assetMaterializations{runId}}}}"""
        return len(self.ask(query)["assetOrError"]["assetMaterializations"])


def wait_until(is_done, *, within_s):
    give_up = time.monotonic() + within_s
    while not is_done():
        assert time.monotonic() < give_up, f"not done within {within_s} s"
        time.sleep(0.25)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def dagster_dev(folder: Path):
    """Run `dagster dev` in a process group of its own, and stop that group at the end."""
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(ROOT / name, folder)
    jobs = folder / "shop_jobs"
    (jobs / "shop_offers").mkdir(parents=True)
    (jobs / "__init__.py").write_text(JOBS, encoding="utf-8")
    (jobs / "shop_offers" / "__init__.py").write_text(OFFERS, encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port)]
    path = os.pathsep.join([str(ROOT), str(folder)])
    environment = os.environ | {"PYTHONPATH": path, "SYNC_JOBS_MODULE": "shop_jobs"}
    with (folder / "dev.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        project = Project(folder, port)
        wait_until(lambda: process.poll() is not None or project.is_loaded(), within_s=LOAD_S)
        assert process.poll() is None, (folder / "dev.log").read_text(encoding="utf-8")[-4000:]
        yield project
    finally:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    """Stop the group, and kill what of it is left: the code servers outlive `dagster dev` by up to 45 s."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(timeout=60)  # a busy machine takes its time
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The example project, loaded."""
    with dagster_dev(tmp_path_factory.mktemp("project")) as running:
        yield running


@pytest.fixture(scope="module")
def browser(chromium):
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1500, "height": 1400})
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    yield page
    page.close()


def test_launchpad_asset_and_run_pages(project, page):
    """One tour, so that the services start once: a dry run by hand, a real run, a webhook."""
    a_backfill_of_all_partitions_is_launched_from_the_asset_page(project, page)
    a_dry_run_is_launched_from_the_launchpad(project, page)
    run_id = project.run("sync_erp_inventory")
    the_asset_page_shows_the_run(project, page)
    the_run_page_shows_the_three_ops(project, page, run_id)
    two_chosen_items_are_launched_from_the_launchpad(project, page)
    a_wrong_config_is_refused(project, page)
    a_webhook_message_is_applied(project, page)
    a_rejected_message_fails_its_check_as_a_warning(project, page)
    the_watch_ticks(project, page)
    the_three_partitions_are_materialized(project, page)


def a_backfill_of_all_partitions_is_launched_from_the_asset_page(project, page):
    page.goto(f"{project.url}/assets/shop_offers?view=partitions")
    expect(page.get_by_text("Missing (3)", exact=True)).to_be_visible()
    page.get_by_role("button", name="Materialize…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="All", exact=True).click()
    expect(dialog.get_by_text("3 partitions", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Launch backfill").click()
    expect(dialog).to_be_hidden()


def the_three_partitions_are_materialized(project, page):
    page.goto(f"{project.url}/assets/shop_offers?view=partitions&partition=de")
    expect(page.get_by_text("Materialized (3)", exact=True)).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Missing (0)", exact=True)).to_be_visible()
    expect(page.get_by_text("shop_offers: 3 fetched = 3 created").first).to_be_visible()


def a_dry_run_is_launched_from_the_launchpad(project, page):
    page.goto(f"{project.url}/locations/sync_defs/jobs/sync_erp_inventory/playground")
    editor = page.locator(".CodeMirror").first
    for line in ("erp_inventory:", "dry_run: false", "external_ids: []", "full: false"):
        expect(editor).to_contain_text(line)
    expect(editor).not_to_contain_text("resources:")
    editor.evaluate("(element, text) => element.CodeMirror.setValue(text)", DRY_RUN)
    page.get_by_role("button", name="Launch Run").click()
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=60_000)
    page.goto(f"{project.url}/assets/erp_inventory?view=events")
    expect(page.get_by_text("Observed in run").first).to_be_visible()
    summary = "erp_inventory: 999 fetched = 999 created; dry run, nothing written"
    expect(page.get_by_text(summary).first).to_be_visible()


def the_asset_page_shows_the_run(project, page):
    page.goto(f"{project.url}/assets/erp_inventory?view=overview")
    expect(page.get_by_text("Row count")).to_be_visible()
    expect(page.get_by_text("erp_inventory: 999 fetched = 999 created", exact=True)).to_be_visible()
    expect(page.get_by_text("Every hour")).to_be_visible()
    for label in ("Freshness policy", "Latest check results", "rest", "shop"):
        expect(page.get_by_text(label, exact=True).first).to_be_visible()
    for key in ("sync_defs/policies", "sync_defs/created", "sync_defs/withheld", "sync_defs/cursor_after"):
        expect(page.get_by_text(key, exact=True)).to_be_visible()
    page.get_by_text("Plots", exact=True).click()
    expect(page.get_by_text("sync_defs/rows_per_second", exact=True)).to_be_visible()


def the_run_page_shows_the_three_ops(project, page, run_id):
    page.goto(f"{project.url}/runs/{run_id}")
    for op in ("fetch", "diff", "upsert"):
        expect(page.get_by_text(f"erp_inventory.{op}").first).to_be_attached()


def two_chosen_items_are_launched_from_the_launchpad(project, page):
    page.goto(f"{project.url}/locations/sync_defs/jobs/sync_erp_inventory/playground")
    editor = page.locator(".CodeMirror").first
    expect(editor).to_contain_text("erp_inventory:")  # the launchpad remembers the last config
    editor.evaluate("(element, text) => element.CodeMirror.setValue(text)", TWO_ITEMS)
    page.get_by_role("button", name="Launch Run").click()
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=60_000)
    page.goto(f"{project.url}/assets/erp_inventory?view=events")
    expect(page.get_by_text("erp_inventory: 2 fetched = 2 unchanged").first).to_be_visible()


def a_wrong_config_is_refused(project, page):
    page.goto(f"{project.url}/locations/sync_defs/jobs/sync_erp_inventory/playground")
    editor = page.locator(".CodeMirror").first
    expect(editor).to_contain_text("erp_inventory:")
    editor.evaluate("(element, text) => element.CodeMirror.setValue(text)", WRONG)
    refusal = """Value "five" of type "<class 'str'>" is not valid for expected type "Int"."""
    expect(page.get_by_text(refusal).first).to_be_visible()
    expect(page.get_by_role("button", name="Launch Run")).to_be_disabled()


def send(database, message_id, **values):
    """Put a message in the inbox, as the receiver does."""
    item = {"sku": "SKU-0001", "name": "By webhook", "price": "1.10", "active": True, **values}
    item["updated_at"] = database.now().isoformat()
    body = json.dumps({"type": "inventory.changed", "data": item}).encode()
    message = read_message(load_jobs()["erp_inventory"], message_id=message_id, body=body, now=database.now())
    Inbox(database).enqueue(message)


def a_rejected_message_fails_its_check_as_a_warning(project, page):
    with Database(f"sqlite:///{project.folder / 'sync_defs.db'}") as database:
        send(database, "m2", quantity="many")
        wait_until(lambda: Inbox(database).counts("erp_inventory").later == 1, within_s=60)
    page.goto(f"{project.url}/assets/erp_inventory?view=checks&checkDetail=no_rejected_records")
    expect(page.get_by_text("1 of 1 rejected, 1 open").first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Warning").first).to_be_visible()
    expect(page.get_by_text("No record of the source waits for retry").first).to_be_visible()


def the_watch_ticks(project, page):
    page.goto(f"{project.url}/locations/sync_defs/sensors/sync_watch")
    expect(page.get_by_text("Reports syncs that are late").first).to_be_visible()
    expect(page.get_by_text("0 runs requested").first).to_be_visible(timeout=90_000)


def a_webhook_message_is_applied(project, page):
    with Database(f"sqlite:///{project.folder / 'sync_defs.db'}") as database:
        send(database, "m1", quantity=5)
        wait_until(lambda: Inbox(database).depth() == {}, within_s=60)
    wait_until(lambda: project.materializations() == 3, within_s=60)
    page.goto(f"{project.url}/assets/erp_inventory?view=events")
    expect(page.get_by_text("erp_inventory: 1 message applied = 1 updated").first).to_be_visible()
