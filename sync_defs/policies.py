"""The policies of a job: its schedule, what happens to missing rows, how its webhooks are verified."""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypedDict

from sync_defs.errors import ConfigurationError

_EVERY = re.compile(r"([1-9]\d{0,3})(m|h|d)")
_UNSET: Final = object()


class MissingAction(StrEnum):
    """What happens to a row whose record was not in a full fetch."""

    KEEP = "keep"
    DELETE = "delete"
    MARK = "mark"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnMissing:
    """The policy for missing rows; make one with `mark` or by the words "keep" and "delete"."""

    action: MissingAction = MissingAction.KEEP
    column: str | None = None
    value: object = None
    """What `column` becomes when the record is missing."""
    otherwise: object = None
    """What `column` becomes when the record is there (again); only where `restores` is set."""
    restores: bool = False


def mark(*, otherwise: object = _UNSET, **column_and_value: object) -> OnMissing:
    """Return the policy that marks a missing row, such as `mark(active=False, otherwise=True)`.

    Args:
        otherwise: the column's value for rows whose record is there; left out, the engine never sets it back.
        **column_and_value: exactly one target column and the value that says "missing".

    Raises:
        ConfigurationError: not exactly one column was named.
    """
    if len(column_and_value) != 1:
        raise ConfigurationError("mark() takes exactly one column, such as mark(active=False)")
    [(column, value)] = column_and_value.items()
    restores = otherwise is not _UNSET
    return OnMissing(
        action=MissingAction.MARK,
        column=column,
        value=value,
        otherwise=otherwise if restores else None,
        restores=restores,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """How webhooks of a job are verified; secrets come from environment variables, never from code."""

    scheme: str = "standard"
    """`standard` (Standard Webhooks) or `hmac` (hex HMAC-SHA256 of the body in a header)."""
    secret_env: str | None = None
    """Variable that holds the secrets, separated by blanks; default `SYNC_WEBHOOK_SECRET_<JOB>`, then
    `SYNC_WEBHOOK_SECRET`."""
    signature_header: str = "x-signature-256"
    """For `hmac`: the header; a prefix `sha256=` of its value is allowed."""
    id_header: str = "x-webhook-id"
    """For `hmac`: the header with the message id; without one the id is the SHA-256 of the body."""


class JobOptions(TypedDict, total=False):
    """The options that every kind of job has; see `Job` for what each means and its default."""

    description: str
    every: str | timedelta | None
    cron: str | None
    timezone: str
    on_missing: str | OnMissing
    max_delete_rows: int
    max_delete_fraction: float
    sample_size: int
    history: bool
    webhook: Webhook | None
    group: str | None


def every_to_cron(every: str | timedelta) -> str:
    """Return the cron expression for an interval such as `15m`, `1h` or `1d`.

    Raises:
        ConfigurationError: the interval is not understood, or does not divide an hour or a day, so that cron
            cannot say it evenly.
    """
    if isinstance(every, timedelta):
        is_whole = every > timedelta(0) and every.total_seconds() % 60 == 0
        minutes = int(every.total_seconds() // 60) if is_whole else 0
    else:
        match = _EVERY.fullmatch(every)
        minutes = int(match[1]) * {"m": 1, "h": 60, "d": 1440}[match[2]] if match else 0
    if minutes == 1440:
        return "0 0 * * *"
    if minutes and minutes < 60 and 60 % minutes == 0:
        return f"*/{minutes} * * * *" if minutes > 1 else "* * * * *"
    if minutes and minutes % 60 == 0 and 1440 % minutes == 0:
        return f"0 */{minutes // 60} * * *" if minutes > 60 else "0 * * * *"
    raise ConfigurationError(
        f"every={every!r}: use minutes that divide an hour, hours that divide a day, or '1d'; else give cron="
    )
