"""DAGSTER_HOME is deleted while a thousand messages wait: history is lost, and nothing else."""

import json
import shutil

import dagster as dg
import pytest

from sync_defs.inbox import DrainOptions, Inbox, read_message
from sync_defs.inbox.claims import LEASE_S
from sync_defs.orchestration.doorbell import Pulse, inbox_sensors
from sync_defs.orchestration.inbox_job import Pace, inbox_job
from sync_defs.orchestration.names import DATABASE_KEY, HANDOFF_KEY

MESSAGES = 1_000

pytestmark = pytest.mark.fault


@pytest.fixture
def tick(shop, database):
    """Evaluate one tick on an instance, as the daemon of it does."""

    def evaluate(instance, cursor=None):
        [sensor] = inbox_sensors([shop.job], is_shared=False, pulse=Pulse(poll_s=0))
        resources = {DATABASE_KEY: database}
        context = dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources, definitions=shop.defs)
        return sensor.evaluate_tick(context)

    return evaluate


@pytest.fixture
def execute(shop, database):
    """Execute the job that a ring is for."""

    def run(instance):
        pace = Pace(linger_s=0.0, burst=DrainOptions(linger_s=0.0))
        given = {DATABASE_KEY: database, HANDOFF_KEY: dg.mem_io_manager}
        return inbox_job(shop.job, pace=pace).execute_in_process(instance=instance, resources=given)

    return run


def test_g16_a_thousand_queued_messages_outlive_dagsters_home(shop, database, clock, tick, execute, tmp_path):
    inbox = Inbox(database)
    bodies = [json.dumps({"data": {"sku": f"S{number:04}", "qty": number}}).encode() for number in range(MESSAGES)]
    messages = [
        read_message(shop.job, message_id=f"m{number}", body=body, now=database.now())
        for number, body in enumerate(bodies)
    ]
    inbox.enqueue_all(messages)
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        first = tick(instance)
        [request] = first.run_requests
        job = shop.defs.resolve_job_def(request.job_name)
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=dict(request.tags))
        assert len(inbox.claim("stock", 20)) == 20  # what that run held when all of it was killed
    shutil.rmtree(home)
    home.mkdir()
    clock.sleep(LEASE_S)
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        [request] = tick(instance).run_requests  # the cursor is gone too
        assert request.job_name == job.name
        assert execute(instance).success
        told = instance.fetch_materializations(dg.AssetKey("stock"), limit=10).records
        events = [record.asset_materialization for record in told if record.asset_materialization]
        counts = [str(event.metadata["sync_defs/created"].value) for event in events]
    assert sum(map(int, counts)) == MESSAGES
    assert shop.rows() == {f"S{number:04}": number for number in range(MESSAGES)}
    assert inbox.depth() == {}
