"""The Dagster entry point that `workspace.yaml` names; the only module that reads settings when imported."""

import dagster as dg

from sync_defs.jobs import load_jobs
from sync_defs.jobs.erp_resource import ErpResource
from sync_defs.orchestration import build_sync_definitions
from sync_defs.settings import Settings

_settings = Settings()

defs: dg.Definitions = build_sync_definitions(
    load_jobs(_settings.jobs_module),
    database_url=_settings.database_url.get_secret_value(),
    resources={"erp": ErpResource()},
    history_days=_settings.history_days,
)
