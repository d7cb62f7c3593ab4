"""Guards: how many missing rows one run may delete or mark."""

from collections.abc import Callable

from sync_defs.job import Job


def delete_guard(job: Job, allow_deletes: int | None) -> Callable[[int, int], str | None]:
    """Return the judge of deletes: given (missing, rows) it returns the reason to withhold them, or None.

    Without a ceiling for the run, deletes over `max_delete_rows` **and** over `max_delete_fraction` of the rows are
    withheld. `allow_deletes` takes the place of both: at most that many.
    """

    def judge(missing: int, rows: int) -> str | None:
        if allow_deletes is not None:
            if missing <= allow_deletes:
                return None
            return f"{missing} missing rows are over allow_deletes={allow_deletes}"
        if missing <= job.max_delete_rows or missing <= job.max_delete_fraction * rows:
            return None
        return (
            f"{missing} of {rows} rows are missing, over {job.max_delete_rows} rows and over "
            f"{job.max_delete_fraction:.0%}; check the source, then allow them with allow_deletes={missing}"
        )

    return judge
