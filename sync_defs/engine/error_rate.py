"""Where too many records are rejected, the fault is not theirs: the run stops before it does harm."""

from typing import Final

from sync_defs.errors import TooManyRejectsError
from sync_defs.job import Job

LEAST: Final = 20
"""A rate of fewer records says nothing."""


def stop_if_most_fail(job: Job, *, rejected: int, judged: int) -> None:
    """Stop the run where more than the job's fraction of the records judged so far was rejected.

    Kept rejects that are tried again are not to be counted: they would hold up a small incremental fetch for ever.

    Raises:
        TooManyRejectsError: that is so.
    """
    if judged >= LEAST and rejected > job.max_rejected_fraction * judged:
        raise TooManyRejectsError(job.name, rejected, judged, job.max_rejected_fraction)
