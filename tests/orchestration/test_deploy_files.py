"""The files in `docs/deploy` are what Dagster and its packages accept; `tests/e2e/test_celery.py` runs with them."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import validate_config
from dagster._core.instance.config import dagster_instance_config_schema

from sync_defs import ConfigurationError
from sync_defs.jobs import load_jobs
from sync_defs.orchestration import build_sync_definitions, executor_for
from sync_defs.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"


def settings(name, folder=DEPLOY):
    return yaml.safe_load((folder / name).read_text(encoding="utf-8"))


def errors_of(schema, config):
    return [error.message for error in validate_config(schema, config).errors or []]


def instance_errors(config):
    return errors_of(dg.Field(dagster_instance_config_schema()).config_type, config)


def launcher_of(name, module):
    """The config of a run launcher, and the class that it names; skips where its package is not installed."""
    launcher = settings(name)["run_launcher"]
    found = getattr(pytest.importorskip(module), launcher["class"])
    assert launcher["module"] == module
    return found, launcher["config"]


def test_a_shared_instance_differs_from_the_local_one_in_its_storage_alone():
    local, shared = settings("dagster.yaml", ROOT), settings("dagster.yaml")
    assert shared.pop("storage") == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    local_storage = {"storage", "local_artifact_storage", "compute_logs"}
    assert shared == {name: value for name, value in local.items() if name not in local_storage}
    assert instance_errors(settings("dagster.yaml")) == []


@pytest.mark.parametrize("name", ["kubernetes.yaml", "celery-runs.yaml"])
def test_what_is_added_for_a_run_launcher_fits_behind_it(name):
    whole = (DEPLOY / "dagster.yaml").read_text(encoding="utf-8") + (DEPLOY / name).read_text(encoding="utf-8")
    loaded = yaml.safe_load(whole)
    assert loaded["storage"]
    assert instance_errors(loaded) == []


def test_the_launcher_of_kubernetes_takes_its_config(monkeypatch):
    monkeypatch.setenv("SYNC_DEFS_IMAGE", "registry.example.com/sync_defs:1")
    launcher, config = launcher_of("kubernetes.yaml", "dagster_k8s")
    schema = dg.Field(launcher.config_type()).config_type
    assert errors_of(schema, config) == []
    from dagster_k8s.models import k8s_snake_case_dict
    from kubernetes.client import V1JobSpec, V1ResourceRequirements

    # What the schema lets through is read by the models of Kubernetes' own client; they refuse what they do not know.
    for model, part in (
        (V1JobSpec, config["run_k8s_config"]["job_spec_config"]),
        (V1ResourceRequirements, config["resources"]),
    ):
        assert k8s_snake_case_dict(model, part) == part
    [message] = errors_of(schema, {**config, "job_imag": "wrong"})
    assert 'unexpected config entry "job_imag"' in message


def test_the_launcher_of_celery_takes_its_config():
    launcher, config = launcher_of("celery-runs.yaml", "dagster_celery.launcher")
    assert errors_of(dg.Field(launcher.config_type()).config_type, config) == []


def test_without_a_setting_all_ops_share_a_process():
    assert executor_for(Settings().executor) is dg.in_process_executor


@pytest.mark.parametrize(
    ("url", "backend"), [("redis://:secret@broker.example.com/1", None), ("pyamqp://guest@localhost//", "rpc://")]
)
def test_answers_come_back_by_the_broker(url, backend):
    pytest.importorskip("dagster_celery")
    executor = executor_for("celery", celery_broker_url=url)
    assert executor.name == "celery"
    schema: Any = executor.config_schema
    config = schema.resolve_config({}).value["config"]
    assert (config["broker"], config["backend"]) == (url, backend or url)


def test_what_celery_lacks_is_told(monkeypatch):
    with pytest.raises(ConfigurationError, match="set SYNC_CELERY_BROKER_URL"):
        executor_for("celery")
    monkeypatch.setattr("sync_defs.orchestration.executors.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="add the extra `celery`"):
        executor_for("celery", celery_broker_url="redis://localhost")


def test_an_inbox_job_stays_in_one_process_whatever_runs_the_ops():
    defs = build_sync_definitions(
        load_jobs(), database_url="sqlite:///shop.db", resources={"erp": None}, executor=dg.multiprocess_executor
    )
    executors = [defs.resolve_job_def(name).executor_def for name in ("sync_erp_inventory", "erp_inventory_inbox")]
    assert executors == [dg.multiprocess_executor, dg.in_process_executor]
