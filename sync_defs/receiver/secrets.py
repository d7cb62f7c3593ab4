"""Where the signing secrets of a job come from: environment variables, several live ones separated by blanks."""

from collections.abc import Mapping

from sync_defs.job import Job

SHARED_VARIABLE = "SYNC_WEBHOOK_SECRET"


def secret_variables(job: Job) -> list[str]:
    """Return the variables that may hold a job's secrets, the first one that is set counts."""
    if job.webhook is not None and job.webhook.secret_env is not None:
        return [job.webhook.secret_env]
    return [f"{SHARED_VARIABLE}_{job.name.upper()}", SHARED_VARIABLE]


def webhook_secrets(job: Job, environ: Mapping[str, str]) -> list[str]:
    """Return a job's live secrets, in the order given; empty where no variable holds one.

    For rotation, add the new secret, let the sender change over, and take the old one away.
    """
    for variable in secret_variables(job):
        found = environ.get(variable, "").split()
        if found:
            return found
    return []
