"""The daily job that prunes the bookkeeping."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa

from sync_defs.orchestration import build_sync_definitions
from sync_defs.store.schema import runs


@pytest.fixture
def aged(shop):
    """A shop that synced twice, the first time 100 days ago."""
    for quantity in (1, 2):
        shop.source.records = [{"sku": "A", "qty": quantity}]
        assert shop.run().success
    then = datetime.now(UTC) - timedelta(days=100)
    with shop.database.write() as connection:
        first = sa.select(runs.c.run_id).order_by(runs.c.started_at).limit(1)
        where = runs.c.run_id == connection.execute(first).scalar_one()
        connection.execute(sa.update(runs).where(where).values(started_at=then, completed_at=then))
    return shop


def run_count(shop):
    with shop.database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(runs)).scalar_one()


def definitions(shop, **options):
    url = shop.database.engine.url.render_as_string(hide_password=False)
    return build_sync_definitions({"stock": shop.job}, database_url=url, resources={"source": shop.source}, **options)


def prune(shop, **options):
    job = definitions(shop, **options).resolve_job_def("prune_bookkeeping")
    return job.execute_in_process(instance=shop.instance, raise_on_error=False)


def test_old_runs_go_and_the_log_says_how_many(aged):
    result = prune(aged)
    assert (result.success, run_count(aged)) == (True, 1)
    told = [entry.user_message for entry in aged.instance.all_logs(result.run_id)]
    expected = "deleted: changes 0, runs 1, message ids 0; made dead: messages of unknown jobs 0"
    assert [line for line in told if line.startswith("deleted: ")] == [expected]
    assert [event.step_key for event in result.all_events if event.is_step_success] == ["prune"]


@pytest.mark.parametrize("days", [0, 101])
def test_history_is_kept_as_long_as_the_deployment_says(aged, days):
    assert prune(aged, history_days=days).success
    assert run_count(aged) == 2


def test_tables_of_another_version_are_left_alone(shop):
    schema = "sync_defs." if shop.database.dialect.schema else ""
    with shop.database.write() as connection:
        connection.execute(sa.text(f"UPDATE {schema}sync_schema_version SET version_num = '9999'"))
    result = prune(shop)
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "newer than this version of sync_defs" in str(failure.step_failure_data.user_failure_data)


def test_the_schedule_starts_it(shop):
    schedule = definitions(shop).resolve_schedule_def("prune_bookkeeping_daily")
    tick = schedule.evaluate_tick(dg.build_schedule_context(instance=shop.instance))
    assert (schedule.job_name, len(tick.run_requests or [])) == ("prune_bookkeeping", 1)


@pytest.mark.parametrize("name", ["prune_bookkeeping", "bookkeeping", "prune", "inbox_show", "retry", "inbox"])
def test_a_sync_job_may_have_any_name_beside_it(shop, name):
    shop.job.name = name
    assert {"prune_bookkeeping", f"sync_{name}", f"{name}_inbox"} <= set(
        definitions(shop).get_repository_def().job_names
    )
