"""The one tree of errors, cut by what the caller does next.

```
SyncError
├── ConfigurationError      fix the job or the settings; a retry does not help
│   ├── UnknownJobError
│   └── DatabaseNotReadyError
├── FetchError              the source failed; retry later
├── RecordError             one record cannot be kept; the sync goes on without it
├── MessageError            one webhook message cannot be used
├── TooManyRejectsError     most records are bad, so the fault is not theirs; look at source and job
├── DatabaseTroubleError    the database has trouble that passes; retry
├── BusyError               another run of the job is under way; wait
├── LeaseLostError          this run was taken over; stop it
├── AlertError              a notice was not delivered; it is tried again
└── OutcomeError            outcomes do not add up; a defect of ours, report it
```

Every error carries a stable ``code`` (see ``docs/errors.md``) and never a payload, a secret or a row.
"""

from typing import ClassVar, Final

CODE_CHARS: Final = 64
FIELD_CHARS: Final = 255
REASON_CHARS: Final = 2_000


def storable(text: str, *, limit: int) -> str:
    """Return a text cut to a length, without what a database refuses (NUL, halves of surrogate pairs).

    Codes and reasons may come from a job's own code; a reason that cannot be stored must not keep its record out.
    """
    return text.encode("utf-8", "replace").decode().replace("\0", "")[:limit]


class SyncError(Exception):
    """Root of everything that sync_defs raises on purpose."""

    default_code: ClassVar[str] = "sync_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        """Keep the message and the stable code."""
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


class ConfigurationError(SyncError):
    """A job or a setting is wrong; fix it, a retry does not help."""

    default_code = "configuration"


class UnknownJobError(ConfigurationError):
    """No job has the given name."""

    default_code = "unknown_job"

    def __init__(self, name: str, known: list[str]) -> None:
        """Name the job that was asked for and the ones there are."""
        super().__init__(f"there is no job {name!r}; known jobs: {', '.join(sorted(known)) or 'none'}")
        self.name = name
        self.known = known


class DatabaseNotReadyError(ConfigurationError):
    """The bookkeeping tables are absent, older or newer than this version needs."""

    default_code = "database_not_ready"

    def __init__(self, message: str, *, code: str | None = None, is_passing: bool = False) -> None:
        """Keep whether it may be ready by itself later: a server that starts, or cannot be reached."""
        super().__init__(message, code=code)
        self.is_passing = is_passing


class FetchError(SyncError):
    """The source failed or answered nonsense; nothing was deleted, retry later."""

    default_code = "fetch_failed"
    lasting_codes: ClassVar[frozenset[str]] = frozenset(
        {
            "bad_content_type",
            "bad_fetch_result",
            "bad_json",
            "bad_page",
            "not_authorized",
            "not_in_source",
            "pagination_loop",
            "redirect_refused",
            "response_too_large",
            "too_many_pages",
        }
    )
    """What another attempt would not cure."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retry_after_s: float | None = None,
        is_passing: bool | None = None,
    ) -> None:
        """Keep how long the source asked to wait, in seconds, and whether another attempt may cure it, if known."""
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s
        self.is_passing = self.code not in self.lasting_codes if is_passing is None else is_passing


class RecordError(SyncError):
    """One record cannot be kept; it is rejected and the others go on."""

    default_code = "bad_item"

    def __init__(self, reason: str, *, code: str | None = None, field: str | None = None) -> None:
        """Keep the reason, and the field (a target column or a record's field) if one is to blame.

        A job's own code may raise it with anything in it, so all three are made fit for every database.
        """
        reason = storable(str(reason), limit=REASON_CHARS)
        field = storable(str(field), limit=FIELD_CHARS) if field else None
        code = storable(str(code), limit=CODE_CHARS) if code else None
        super().__init__(f"{field}: {reason}" if field else reason, code=code)
        self.reason = reason
        self.field = field


class MessageError(SyncError):
    """A webhook message cannot be used; it is kept as a dead letter."""

    default_code = "bad_payload"


class TooManyRejectsError(SyncError):
    """More records were rejected than the job's `max_rejected_fraction` allows; the run has stopped."""

    default_code = "too_many_rejects"

    def __init__(self, job_name: str, rejected: int, judged: int, limit: float) -> None:
        """Say how many of how many."""
        super().__init__(
            f"job {job_name!r}: {rejected:,} of the first {judged:,} records were rejected, over "
            f"max_rejected_fraction={limit:g}; look at the source and the job's fields"
        )
        self.job_name = job_name
        self.rejected = rejected
        self.judged = judged


class DatabaseTroubleError(SyncError):
    """The database has trouble that passes by itself: a deadlock, a lock held for long, a lost connection."""

    default_code = "database_trouble"


class BusyError(SyncError):
    """Another run of the same job holds its lease."""

    default_code = "busy"

    def __init__(self, job_name: str, holder: str, seconds_left: float) -> None:
        """Say who holds the job and for how long at most."""
        super().__init__(
            f"job {job_name!r} is being synced by {holder}; "
            f"its lease ends in {max(seconds_left, 0):.0f} s unless it is renewed; wait or pass a longer wait"
        )
        self.job_name = job_name
        self.holder = holder
        self.seconds_left = seconds_left


class LeaseLostError(SyncError):
    """The run lost its lease, so that it may not write any more."""

    default_code = "lease_lost"


class AlertError(SyncError):
    """A notice was not delivered; the next look of the watch tries again."""

    default_code = "alert_not_delivered"


class OutcomeError(SyncError):
    """The outcomes of a run do not add up to what was fetched."""

    default_code = "outcomes_do_not_add_up"
