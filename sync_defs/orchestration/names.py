"""What a job's definitions are called; they are part of the public API, since people's links and alerts name them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import dagster as dg

CHECK_NAME: Final = "no_rejected_records"
OUTCOMES_CHECK: Final = "outcomes_add_up"
WITHHELD_CHECK: Final = "no_withheld_deletes"
FETCHED_CHECK: Final = "fetched_as_many_as_usual"
FRESHNESS_CHECK: Final = "synced_on_time"
INBOX_CHECK_NAME: Final = "inbox_has_no_dead_messages"
INBOX_LAG_CHECK: Final = "inbox_keeps_up"
INBOX_CHECKS: Final = (INBOX_CHECK_NAME, INBOX_LAG_CHECK)
DATABASE_KEY: Final = "sync_database"
"""Resource key of the database; not `database`, which a job's own fetch may want to call a source."""
HANDOFF_KEY: Final = "sync_handoff"
GRAPH_OUTPUT_KEY: Final = "io_manager"
"""What Dagster 1.13 wants for the outputs of a graph with a config, in a run of the asset alone, and never uses."""
TRIGGER_TAG: Final = "sync_defs/trigger"
MAX_RUNTIME_TAG: Final = "dagster/max_runtime"
# None of these can follow from a sync job's name: see `SyncNames`.
PRUNE_JOB: Final = "prune_bookkeeping"
PRUNE_SCHEDULE: Final = "prune_bookkeeping_daily"
INBOX_SHOW_JOB: Final = "inbox_show"
INBOX_CHECK_JOB: Final = "check_inboxes"
_RUN_ID_CHARS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncNames:
    """What the definitions of one sync job are called; `SyncNames.of` has what they are by default."""

    sync_job: str
    """The sync job's own name."""
    asset: dg.AssetKey
    job: str
    """The Dagster job that materializes the asset."""
    schedule: str
    inbox_job: str
    """The Dagster job that applies waiting messages."""
    inbox_sensor: str
    """The sensor that starts the inbox job."""
    pool: str
    """The concurrency pool of the asset's ops."""

    @classmethod
    def of(cls, name: str) -> "SyncNames":
        """Return the names that follow from a job's name."""
        return cls(
            sync_job=name,
            asset=dg.AssetKey(name),
            job=f"sync_{name}",
            schedule=f"{name}_schedule",
            inbox_job=f"{name}_inbox",
            inbox_sensor=f"{name}_inbox_sensor",
            pool=f"sync_{name}",
        )

    @property
    def standing_checks(self) -> str:
        """Return the name of the op that judges what can change without a run."""
        return f"{self.sync_job}_standing_checks"

    @property
    def graph(self) -> str:
        """Return the name of the asset's graph, which begins the keys of its steps."""
        return self.asset.to_python_identifier()

    def check_output(self, check: str) -> str:
        """Return the graph's output under which Dagster expects a check's result."""
        return f"{self.graph}_{check}"


class Names:
    """The names in one deployment: those that were given for a job, else those that follow from its name."""

    def __init__(self, given: Iterable[SyncNames] = ()) -> None:
        """Take names that are others than the default."""
        self._given = {names.sync_job: names for names in given}

    def of(self, job_name: str) -> SyncNames:
        """Return the names of a sync job's definitions."""
        return self._given.get(job_name) or SyncNames.of(job_name)


DEFAULT_NAMES: Final = Names()


def settle_job(decision: str) -> str:
    """Return the name of the Dagster job that retries or discards dead messages."""
    return f"inbox_{decision}"


def sync_run_id(dagster_run_id: str, job_name: str) -> str:
    """Return the id of a job's sync within a Dagster run, which may hold the syncs of several jobs.

    The same for each attempt of a step, so that a retried one finds its run.
    """
    room = _RUN_ID_CHARS - len(dagster_run_id) - 1
    label = job_name if len(job_name) <= room else hashlib.sha256(job_name.encode()).hexdigest()[:room]
    return f"{dagster_run_id}.{label}"
