"""Sync jobs as Dagster definitions; with `jobs` and `definitions` the only place that imports Dagster.

Dagster holds no truth here: it starts runs, shows them, and rings the bell for the inbox. In reading order: `names`,
`config` (the launchpad), `handoff` (what ops pass on), `failures`, `progress`, `metadata`, `stages` (the three ops),
`asset`, `doorbell` (the sensor), `inbox_job`, `build` (all of it together).
"""

from sync_defs.orchestration.build import build_sync_definitions
from sync_defs.orchestration.names import CHECK_NAME, DATABASE_KEY, SyncNames

__all__ = ["CHECK_NAME", "DATABASE_KEY", "SyncNames", "build_sync_definitions"]
