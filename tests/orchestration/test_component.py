"""The component of `dg`: jobs in YAML have the definitions that the same jobs in Python have."""

import re
from typing import Any, cast

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from sync_defs import SyncJobComponent
from sync_defs.declared import SyncJobAttributes, declared_job
from sync_defs.orchestration import build_sync_definitions
from sync_defs.orchestration.component import TEMPLATE, SyncJobScaffolder

# Dagster 1.13 itself calls what pydantic is to drop, and what it calls beta.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*parse_obj_as.* is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning"),
]


def attributes(name, **more):
    source = {"rest": {"base_url": "https://erp.example.com", "path": "/prices"}}
    target = "sync_defs.jobs.erp_prices.tables.prices"
    fields = {"price": "price", "updated_at": "updated_at"}
    return {"name": name, "source": source, "target": target, "key": "sku", "fields": fields, **more}


JOBS = [attributes("prices", schedule="1d"), attributes("articles", inbox=False), attributes("stock")]


def names_of(defs):
    repository = defs.get_repository_def()
    graph = defs.resolve_asset_graph()
    return {
        "assets": {key.to_user_string() for key in graph.get_all_asset_keys()},
        "checks": {f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys},
        "jobs": {name for name in repository.job_names if not name.startswith("__")},
        "schedules": {schedule.name for schedule in repository.schedule_defs},
        "sensors": {sensor.name for sensor in repository.sensor_defs},
        "resources": set(repository.get_top_level_resources()),
    }


def test_jobs_in_yaml_have_the_definitions_of_jobs_in_python():
    jobs = {plain["name"]: declared_job(SyncJobAttributes.model_validate(plain)) for plain in JOBS}
    expected = names_of(build_sync_definitions(jobs, database_url="sqlite:///x.db"))
    with create_defs_folder_sandbox() as sandbox:
        for plain in JOBS:
            sandbox.scaffold_component(
                component_cls=SyncJobComponent,
                defs_path=plain["name"],
                defs_yaml_contents={"type": "sync_defs.SyncJobComponent", "attributes": plain},
            )
        with sandbox.build_all_defs() as defs:
            assert names_of(defs) == expected


def test_a_wrong_attribute_is_told_with_file_and_line():
    with create_defs_folder_sandbox() as sandbox:
        sandbox.scaffold_component(
            component_cls=SyncJobComponent,
            defs_path="prices",
            defs_yaml_contents={"type": "sync_defs.SyncJobComponent", "attributes": attributes("prices", max_rows=5)},
        )
        with pytest.raises(Exception, match="prices") as caught, sandbox.build_all_defs():
            pass
    assert re.search(r"attributes\.max_rows at .*/prices/defs\.yaml:\d+", str(caught.value.__cause__))


def test_what_is_scaffolded_is_valid(tmp_path):
    request = dg.ScaffoldRequest(
        type_name="sync_defs.SyncJobComponent",
        target_path=tmp_path / "shop_articles",
        scaffold_format="yaml",
        project_root=tmp_path,
        params=cast("Any", None),
    )
    SyncJobScaffolder().scaffold(request)
    document = yaml.safe_load((tmp_path / "shop_articles" / "defs.yaml").read_text(encoding="utf-8"))
    assert SyncJobAttributes.model_validate(document["attributes"]).name == "shop_articles"
    assert TEMPLATE.count("NAME") == 1
