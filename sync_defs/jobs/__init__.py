"""This deployment's own sync jobs, a folder each; a module-level `Job` in a folder's `__init__` is found by itself.

In reading order: `loading` (finding the jobs), `resources` (what their fetches need), `erp_resource` (the same for
Dagster), then the jobs: `erp_inventory` (a `table_sync`) and `erp_customers` (a `SyncJob` with callbacks). Only
`erp_resource` imports Dagster, so that the CLI loads jobs without it.
"""

from sync_defs.jobs.loading import load_jobs
from sync_defs.jobs.resources import open_resources

__all__ = ["load_jobs", "open_resources"]
