"""What is loaded: the list of definitions, and what a wrong deployment is told."""

import subprocess
import sys
import warnings
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.remote_representation.external_data import RepositorySnap

from sync_defs import ConfigurationError, TableSync
from sync_defs.jobs import load_jobs
from sync_defs.orchestration import build_sync_definitions
from tests.orchestration.conftest import stock

ROOT = Path(__file__).parents[2]

# People's links, alerts and launch scripts name these: a change here is a change for them.
EXPECTED = {
    "assets": ["erp_customers", "erp_inventory", "erp_prices"],
    "checks": [
        "erp_customers:fetched_as_many_as_usual",
        "erp_customers:inbox_has_no_dead_messages",
        "erp_customers:inbox_keeps_up",
        "erp_customers:no_rejected_records",
        "erp_customers:no_withheld_deletes",
        "erp_customers:outcomes_add_up",
        "erp_customers:synced_on_time",
        "erp_inventory:inbox_has_no_dead_messages",
        "erp_inventory:inbox_keeps_up",
        "erp_inventory:no_rejected_records",
        "erp_inventory:no_withheld_deletes",
        "erp_inventory:outcomes_add_up",
        "erp_inventory:synced_on_time",
        "erp_prices:no_rejected_records",
        "erp_prices:outcomes_add_up",
        "erp_prices:synced_on_time",
    ],
    "jobs": [
        "check_inboxes",
        "erp_customers_inbox",
        "erp_inventory_inbox",
        "inbox_discard",
        "inbox_retry",
        "inbox_show",
        "prune_bookkeeping",
        "sync_erp_customers",
        "sync_erp_inventory",
        "sync_erp_prices",
    ],
    "schedules": {
        "erp_customers_schedule": ("30 3 * * *", "Europe/Berlin", "RUNNING"),
        "erp_inventory_schedule": ("0 * * * *", "UTC", "RUNNING"),
        "erp_prices_schedule": ("0 0 * * *", "Europe/Berlin", "RUNNING"),
        "prune_bookkeeping_daily": ("17 2 * * *", "UTC", "RUNNING"),
    },
    "sensors": {
        "erp_customers_inbox_sensor": ("erp_customers_inbox", 1, "RUNNING"),
        "erp_inventory_inbox_sensor": ("erp_inventory_inbox", 1, "RUNNING"),
        "sync_watch": (None, 59, "RUNNING"),
    },
    "resources": ["erp", "sync_database", "sync_handoff"],
}


@pytest.fixture(scope="module")
def defs():
    """The definitions of the example jobs; no database is opened for them."""
    return build_sync_definitions(
        load_jobs(), database_url="postgresql://shop:s3cret@nowhere.invalid/shop", resources={"erp": object()}
    )


@pytest.fixture(scope="module")
def repository(defs):
    return defs.get_repository_def()


def test_the_definitions_are_the_stored_ones(defs, repository):
    graph = defs.resolve_asset_graph()
    assert {
        "assets": sorted(key.to_user_string() for key in graph.get_all_asset_keys()),
        "checks": sorted(f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys),
        "jobs": sorted(name for name in repository.job_names if not name.startswith("__")),
        "schedules": {
            s.name: (s.cron_schedule, s.execution_timezone, s.default_status.value) for s in repository.schedule_defs
        },
        "sensors": {
            s.name: (s.job_name if s.targets else None, s.minimum_interval_seconds, s.default_status.value)
            for s in repository.sensor_defs
        },
        "resources": sorted(repository.get_top_level_resources()),
    } == EXPECTED


def test_the_page_of_an_asset_tells_what_the_job_does(defs, as_plain):
    [spec] = [spec for spec in defs.resolve_all_asset_specs() if spec.key == dg.AssetKey("erp_inventory")]
    metadata = as_plain(spec.metadata)
    assert (spec.group_name, list(spec.owners), spec.kinds) == ("erp", ["team:shop"], {"postgres", "rest"})
    assert spec.tags["domain"] == "catalogue"
    assert spec.description == (
        "Name, stock and price of every variant, from the ERP; hourly, only what changed since the last run."
    )
    assert len(spec.code_version or "") == 12
    columns = {column.name: column.type for column in metadata["dagster/column_schema"].columns}
    assert (columns["sku"], columns["price"]) == ("varchar(64)", "numeric(12, 2)")
    fields = {row["column"]: row["field"] for row in metadata["sync_defs/fields"]}
    assert (fields["sku"], fields["stock"], fields["updated_at"]) == ("sku (key)", "quantity", "updated_at (version)")
    assert {row["policy"]: row["value"] for row in metadata["sync_defs/policies"]} == {
        "schedule": "0 * * * * (UTC)",
        "fetch": "what changed since the cursor",
        "on_missing": "mark: active = False",
        "deletes": "withheld above 10 rows and 10%",
        "rejected": "the run stops above 50% of at least 20 records",
        "retries": "3 times, first after 10 s, or as the source asks",
        "verify": "where the target may have drifted",
        "history": "each change",
        "checks": "outcomes_add_up, no_rejected_records, no_withheld_deletes, synced_on_time, "
        "inbox_has_no_dead_messages, inbox_keeps_up",
        "webhook": "/webhooks/erp_inventory, signed by standard, applied in a run",
    }


def test_every_run_has_a_maximum_runtime_and_one_process(repository):
    for name in EXPECTED["jobs"]:
        job = repository.get_job(name)
        assert int(job.tags["dagster/max_runtime"]) in (3600, 21600)
        assert job.executor_def.name == "in_process"


def pools_of(graph):
    inner = [node for node in graph.node_defs if isinstance(node, dg.GraphDefinition)]
    found = [node.pool for node in graph.node_defs if isinstance(node, dg.OpDefinition)]
    return sorted(found + [pool for node in inner for pool in pools_of(node)], key=lambda pool: (pool is None, pool))


def test_full_syncs_of_a_job_queue_and_messages_do_not_wait_for_them(repository):
    """Runs of one pool wait for each other in Dagster's queue; `dagster.yaml` gives each pool one run at a time."""
    pools = {name: pools_of(repository.get_job(name).graph) for name in EXPECTED["jobs"]}
    assert pools["sync_erp_inventory"] == ["sync_erp_inventory"] * 3 + [None]  # the checks may run beside
    assert pools["erp_inventory_inbox"] == [None]
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    assert settings["concurrency"]["pools"] == {"granularity": "run", "default_limit": 1}


def test_the_schedule_asks_for_a_run_that_says_so(defs, instance):
    schedule = defs.resolve_schedule_def("erp_inventory_schedule")
    [request] = schedule.evaluate_tick(dg.build_schedule_context(instance=instance)).run_requests
    assert request.tags["sync_defs/trigger"] == "schedule"


def test_a_graph_hands_no_value_to_a_pickling_io_manager(repository):
    for name in EXPECTED["assets"]:
        job = repository.get_job(f"sync_{name}")
        ops = job.graph.node_dict[name].definition.node_defs
        assert {output.io_manager_key for op in ops for output in op.output_defs} == {"sync_handoff"}


def test_no_password_is_in_what_dagster_keeps_of_the_definitions(repository):
    with warnings.catch_warnings(action="ignore"):  # Dagster reads its own deprecated properties here
        kept = dg.serialize_value(RepositorySnap.from_def(repository))
    assert "s3cret" not in kept
    assert "nowhere.invalid" in kept


def test_loading_opens_nothing_and_leaves_the_heavy_packages_out(tmp_path):
    code = (
        "import sys; opened = set(); "
        "sys.addaudithook(lambda event, _: event in ('socket.connect', 'sqlite3.connect') and opened.add(event)); "
        "import sync_defs.definitions; "
        "print(sorted({'alembic', 'numpy', 'pandas', 'psycopg', 'uvicorn'} & set(sys.modules)), sorted(opened))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "SYNC_DATABASE_URL": "sqlite:///made_by_nobody.db"},
    )
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ("[] []\n", "", [])


def test_an_absent_resource_is_named():
    with pytest.raises(ConfigurationError, match="job 'erp_customers' needs the resource 'erp'; pass it in resources="):
        build_sync_definitions(load_jobs(), database_url="sqlite:///shop.db")


def test_a_reserved_resource_name_is_refused():
    with pytest.raises(ConfigurationError, match="'sync_database' is reserved"):
        build_sync_definitions(
            load_jobs(), database_url="sqlite:///shop.db", resources={"erp": object(), "sync_database": object()}
        )


WRONG_CRON = [
    ("", "is no cron expression; give five fields (minute, hour, day, month, weekday) such as '30 4 * * *', or every="),
    ("daily", "is no cron expression"),
    ("61 4 * * *", "is no cron expression"),
    ("0 25 * * *", "is no cron expression"),
    ("30 4 * *", "is no cron expression"),
    ("0 30 4 * * *", "is no cron expression"),
    ("@reboot", "is no cron expression"),
    (5, "is no cron expression"),
    (["0 4 * * *"], "is no cron expression"),
    ("0 4 31 2 *", "is no cron expression"),
    ("0 4 31 4,6 *", "names a date that never comes, such as 31 April; correct day or month"),
]


@pytest.fixture
def with_cron():
    """Build the definitions of one job that has the given schedule."""

    def fetch():
        return []

    def build(cron, timezone="UTC"):
        job = TableSync(fetch, name="stock", target=stock, key="sku", fields={"quantity": "qty"})
        job.cron, job.timezone = cron, timezone
        return build_sync_definitions({"stock": job}, database_url="sqlite:///shop.db")

    return build


@pytest.mark.parametrize(("cron", "reason"), WRONG_CRON, ids=[str(cron) or "empty" for cron, _ in WRONG_CRON])
def test_a_wrong_cron_names_the_job_the_text_and_the_way_out(with_cron, cron, reason):
    with pytest.raises(ConfigurationError) as caught:
        with_cron(cron)
    assert str(caught.value).startswith(f"job 'stock': cron={cron!r} {reason}")
    assert caught.value.code == "configuration"


@pytest.mark.parametrize("cron", ["0 4 * * *", "*/15 6-20 * * mon-fri", "0 0 1,15 * *", "0 4 29 2 *", "@daily"])
def test_a_cron_expression_is_taken_as_it_is(with_cron, cron):
    schedule = with_cron(cron, "Europe/Berlin").resolve_schedule_def("stock_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == (cron, "Europe/Berlin")


def test_an_unknown_time_zone_is_named(with_cron):
    with pytest.raises(ConfigurationError, match="job 'stock': timezone 'Europe/Atlantis' is unknown; use a name such"):
        with_cron("0 4 * * *", "Europe/Atlantis")


def test_a_job_without_schedule_or_webhook_has_neither(shop):
    shop.job.every, shop.job.webhook = None, None
    defs = build_sync_definitions(
        {"stock": shop.job}, database_url="sqlite:///shop.db", resources={"source": shop.source}
    )
    repository = defs.get_repository_def()
    assert [schedule.name for schedule in repository.schedule_defs] == ["prune_bookkeeping_daily"]
    assert [sensor.name for sensor in repository.sensor_defs] == ["sync_watch"]
    assert not {"stock_inbox", "check_inboxes"} & set(repository.job_names)
    checks = sorted(key.name for key in defs.resolve_asset_graph().asset_check_keys)
    assert checks == ["no_rejected_records", "no_withheld_deletes", "outcomes_add_up"]


def test_the_work_of_loading_grows_with_the_number_of_jobs_and_no_faster():
    """Calls of functions are counted, ours and Dagster's, until a code location has all it shows."""

    def calls(count):
        jobs = {
            f"job_{number}": TableSync(
                lambda: None, name=f"job_{number}", target=stock, key="sku", fields={"quantity": "qty"}, every="1h"
            )
            for number in range(count)
        }
        seen = [0]

        def on_event(_frame, event, _argument):
            seen[0] += event == "call"

        sys.setprofile(on_event)
        try:
            build_sync_definitions(jobs, database_url="postgresql://nowhere.invalid/shop").get_repository_def()
        finally:
            sys.setprofile(None)
        return seen[0]

    calls(1)  # fills caches
    few, some, many = (calls(count) for count in (10, 20, 40))
    assert many - some < 2.2 * (some - few)


def test_a_job_without_schedule_and_webhook_is_materialized_by_its_asset_alone():
    """As a click on Materialize and each run of a backfill do; no standing check comes along."""
    job = TableSync(lambda: (), name="bare", target=stock, key="sku", fields={"quantity": "qty"}, webhook=None)
    defs = build_sync_definitions({"bare": job}, database_url="sqlite:///x.db")
    alone = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey("bare")})
    assert alone.run_config_schema.config_type is not None
