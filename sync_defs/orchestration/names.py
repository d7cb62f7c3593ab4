"""What a job's definitions are called; they are part of the public API, since people's links and alerts name them."""

import hashlib
from dataclasses import dataclass
from typing import Final

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
TRIGGER_TAG: Final = "sync_defs/trigger"
MAX_RUNTIME_TAG: Final = "dagster/max_runtime"
# None of these can follow from a sync job's name: see `SyncNames`.
PRUNE_JOB: Final = "prune_bookkeeping"
PRUNE_SCHEDULE: Final = "prune_bookkeeping_daily"
INBOX_SHOW_JOB: Final = "inbox_show"
INBOX_CHECK_JOB: Final = "check_inboxes"
_RUN_ID_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class SyncNames:
    """The names that follow from a job's name."""

    asset: str
    """The job's own name."""

    @property
    def job(self) -> str:
        """Return the name of the Dagster job that materializes the asset."""
        return f"sync_{self.asset}"

    @property
    def schedule(self) -> str:
        """Return the name of the schedule."""
        return f"{self.asset}_schedule"

    @property
    def inbox_job(self) -> str:
        """Return the name of the Dagster job that applies waiting messages."""
        return f"{self.asset}_inbox"

    @property
    def inbox_sensor(self) -> str:
        """Return the name of the sensor that starts the inbox job."""
        return f"{self.asset}_inbox_sensor"

    @property
    def pool(self) -> str:
        """Return the concurrency pool of the asset's ops."""
        return f"sync_{self.asset}"

    @property
    def standing_checks(self) -> str:
        """Return the name of the op that judges what can change without a run."""
        return f"{self.asset}_standing_checks"

    def check_output(self, check: str) -> str:
        """Return the graph's output under which Dagster expects a check's result."""
        return f"{self.asset}_{check}"


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
