"""The policies of a job: its schedule, what happens to missing rows, how its webhooks are verified."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypedDict

from sync_defs.checks import Checks
from sync_defs.errors import ConfigurationError

_EVERY = re.compile(r"([1-9]\d{0,3})(m|h|d)")
_UNSET: Final = object()
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "scheme": ("standard", "github", "shopify", "stripe", "hmac"),
    "digest": ("sha256", "sha512"),
    "encoding": ("hex", "base64"),
    "on_invalid": ("keep", "reject"),
}
# Schemes that have an option; the other options are for all.
_SCHEMES_OF: Final[dict[str, tuple[str, ...]]] = {
    "id_header": ("github", "shopify", "hmac"),
    "id_field": ("github", "shopify", "stripe", "hmac"),
    "signature_header": ("hmac",),
    "signature_prefix": ("hmac",),
    "digest": ("hmac",),
    "encoding": ("hmac",),
    "timestamp_header": ("hmac",),
    "signed_text": ("hmac",),
}
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_PLACE = re.compile(r"\{[a-z]*\}")


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


class Delivery(StrEnum):
    """Where the messages of a job are applied."""

    RUN = "run"
    """In a Dagster run, which a sensor starts: seen as such, and as long as it takes."""
    INLINE = "inline"
    """In a process that the sensor keeps at hand, within some tenths of a second and without a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often an op whose source or database is broken is tried again, and after what wait.

    Raises:
        ConfigurationError: a number is none.
    """

    times: int = 3
    """Attempts after the first; 0 for none."""
    first_wait_s: float = 10.0
    """Half of it to all of it, doubled with each attempt; a source's own `Retry-After` takes its place."""
    longest_wait_s: float = 120.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if type(self.times) is not int or self.times < 0:
            raise ConfigurationError(f"Retries: times is {self.times!r}; give an integer, 0 or more")
        for name in ("first_wait_s", "longest_wait_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3600:
                raise ConfigurationError(f"Retries: {name} is {value!r}; give seconds from 0 to 3600")


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """How webhooks of a job are verified and read; secrets come from environment variables, never from code.

    Raises:
        ConfigurationError: an option is wrong, or the scheme does not have it.
    """

    scheme: str = "standard"
    """`standard` (Standard Webhooks), `github`, `shopify`, `stripe`, or `hmac`: an HMAC of the body in a header."""
    secret_env: str | None = None
    """Variable that holds the secrets, separated by blanks; default `SYNC_WEBHOOK_SECRET_<JOB>`, then
    `SYNC_WEBHOOK_SECRET`."""
    id_header: str | None = None
    """For `github`, `shopify` and `hmac`: the header with the message id, in place of the scheme's own (`hmac`:
    `x-webhook-id`); without one the id is the SHA-256 of the body."""
    id_field: str | None = None
    """For all but `standard`: the place of the message id in the body, such as `event.id`, before any header
    (`stripe`: `id`)."""
    signature_header: str = "x-signature-256"
    """For `hmac`: the header with the signature."""
    signature_prefix: str | None = None
    """For `hmac`: what stands before the signature; default: the digest and `=`, such as `sha256=`, or nothing."""
    digest: str = "sha256"
    """For `hmac`: `sha256` or `sha512`."""
    encoding: str = "hex"
    """For `hmac`: `hex` or `base64`."""
    timestamp_header: str | None = None
    """For `hmac`: the header with the time of sending in seconds since 1970, at most 300 s off; it has to be signed."""
    signed_text: str = "{timestamp}.{body}"
    """For `hmac` with a `timestamp_header`: what is signed."""
    accepts_gzip: bool = False
    """Take bodies with `content-encoding: gzip` too; the limit of 1 MiB is that of the inflated body, which is what
    has to be signed."""
    max_per_minute: int = 60_000
    """Signed messages a minute, so many at once at most; more are answered 429."""
    on_invalid: str = "keep"
    """What becomes of a signed message of no use: `keep` (202, a dead letter) or `reject` (422, nothing is stored)."""

    def __post_init__(self) -> None:
        """Check the options."""
        problem = self._choice_problem() or self._scheme_problem() or self._hmac_problem()
        if problem is None and (type(self.max_per_minute) is not int or self.max_per_minute < 1):
            problem = "max_per_minute is no whole number above 0"
        if problem:
            raise ConfigurationError(f"Webhook: {problem}")

    def _choice_problem(self) -> str | None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                return f"{name} {getattr(self, name)!r} is unknown; use {', '.join(map(repr, allowed))}"
        return None

    def _scheme_problem(self) -> str | None:
        for name, schemes in _SCHEMES_OF.items():
            default = type(self).__dataclass_fields__[name].default
            if self.scheme not in schemes and getattr(self, name) != default:
                return f"{name} is not an option of scheme {self.scheme!r}, but of {', '.join(map(repr, schemes))}"
        return None

    def _hmac_problem(self) -> str | None:
        for name in ("signature_header", "id_header", "timestamp_header"):
            value = getattr(self, name)
            if value is not None and not _HEADER.fullmatch(value):
                return f"{name} {value!r} is no name of a header"
        if self.id_field is not None and not all(self.id_field.split(".")):
            return f"id_field {self.id_field!r} is no name, or names joined by dots"
        if sorted(_PLACE.findall(self.signed_text)) != ["{body}", "{timestamp}"]:
            return "signed_text has to hold {timestamp} and {body}, each once, and no other place"
        return None


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
    verify: int | None
    webhook: Webhook | None
    refetch: bool
    delivery: str
    group: str | None
    partitions_def: object
    checks: Checks
    owners: Sequence[str]
    tags: Mapping[str, str]
    source_kind: str | None
    max_rejected_fraction: float
    retries: Retries


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
        match = _EVERY.fullmatch(str(every))
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
