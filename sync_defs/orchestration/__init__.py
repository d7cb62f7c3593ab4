"""Sync jobs as Dagster definitions; with `jobs` and `definitions` the only place that imports Dagster.

Dagster holds no truth here: it starts runs, shows them, and rings the bell for the inbox. In reading order: `names`,
`config` (the launchpad), `handoff` (what ops pass on), `retries`, `failures`, `progress`, `metadata` (of runs),
`description` (of jobs), `ticks` (of schedules), `verdicts` and `job_checks`, `telling` (of messages), `ghosts` (runs
without a process), `stages` (the three ops), `asset`, `translator`, `inbox_job`, `bell_cursor` and `doorbell` (the
sensors), `run_ends`, `watch_cursor`, `pools` and `watch` (of all jobs, once a minute), `operator_jobs`, `prune_job`,
`build` (all of it together), `executors`, `component` (of `dg`).
"""

from sync_defs.orchestration.build import build_sync_definitions
from sync_defs.orchestration.executors import executor_for
from sync_defs.orchestration.names import CHECK_NAME, DATABASE_KEY, INBOX_CHECK_NAME, SyncNames
from sync_defs.orchestration.translator import SyncTranslator, SyncTranslatorData
from sync_defs.orchestration.watch import Alerting

__all__ = [
    "CHECK_NAME",
    "DATABASE_KEY",
    "INBOX_CHECK_NAME",
    "Alerting",
    "SyncNames",
    "SyncTranslator",
    "SyncTranslatorData",
    "build_sync_definitions",
    "executor_for",
]
