"""The options of a job and what is wrong with them, as far as that needs neither a database nor Dagster."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Final, cast
from zoneinfo import ZoneInfo

from sync_defs.checks import Checks
from sync_defs.errors import ConfigurationError
from sync_defs.fields import Field
from sync_defs.policies import Delivery, MissingAction, OnMissing, Retries, Webhook, every_to_cron

CRON_HINT: Final = (
    "is no cron expression; give five fields (minute, hour, day, month, weekday) such as '30 4 * * *', or every="
)
_OWNER = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+|team:[A-Za-z0-9_]+")
_TAG = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
_KIND = re.compile(r"[a-z0-9_]{1,30}")
_CRON_WORD = re.compile(r"@(annually|yearly|monthly|weekly|daily|midnight|hourly)", re.IGNORECASE)
_CRON_FIELD = re.compile(r"[\d*/,#?a-z-]+", re.IGNORECASE)
_CRON_VALUE = re.compile(r"(?<![\d/#])\d+")
_CRON_HIGHEST = (59, 23, 31, 12, 7)


class Options:
    """The options that every kind of job has: attributes of a `SyncJob`, arguments of `table_sync`."""

    name: str
    """`[a-z][a-z0-9_]{0,62}`; names the asset, the schedule, the sensor and the webhook route."""
    description: str = ""
    every: str | timedelta | None = None
    """Interval of the schedule: `15m`, `1h`, `6h`, `1d`; must divide an hour or a day. Not together with `cron`."""
    cron: str | None = None
    """Schedule as a cron expression."""
    timezone: str = "UTC"
    """Zone in which the schedule is read."""
    on_missing: str | OnMissing = "keep"
    """`keep`, `delete` or `mark(...)`."""
    max_delete_rows: int = 10
    """Missing rows above this number **and** above `max_delete_fraction` are withheld."""
    max_delete_fraction: float = 0.10
    """Fraction of the target's rows, 0 to 1."""
    sample_size: int = 20
    """Changed rows shown old → new in results and metadata; 0 for none."""
    history: bool = True
    """Write each change to `sync_changes`."""
    verify: int | None = None
    """Compare every record with its row in every so-manieth run, 1 for each, 0 for none; None: as soon as the target
    is not what the last run left, where the database can tell by a checksum, and in every 24th run elsewhere."""
    webhook: Webhook | None = Webhook()
    """How messages are verified; None: the job takes no webhooks."""
    refetch: bool = False
    """A message only names an item: the source is asked for it by `fetch_items`, and the rest of the message is not
    used. One that says delete is believed once the source has the item no longer."""
    delivery: str = "run"
    """Where messages are applied: `run`, in a Dagster run, or `inline`, by the sensor at once."""
    group: str | None = None
    """Asset group in Dagster."""
    partitions_def: object = None
    """The partitions of the asset in Dagster, of a job whose fetch has a parameter `partition`."""
    owners: Sequence[str] = ()
    """Who answers for the asset: e-mail addresses, and teams as `team:name`."""
    tags: Mapping[str, str] = MappingProxyType({})
    """Tags of the asset, by which Dagster's pages can be searched."""
    source_kind: str | None = None
    """What the source is, such as `rest` or `shopify`: shown at the asset beside the kind of the database."""
    checks: Checks = Checks()
    """The checks of the asset in Dagster."""
    max_rejected_fraction: float = 0.5
    """Fraction of a run's records, of 20 at least, above which rejected ones stop it; 1 for never."""
    retries: Retries = Retries()
    """How Dagster repeats an op whose source or database is broken."""

    @property
    def missing_policy(self) -> OnMissing:
        """Return `on_missing` as a policy object."""
        if isinstance(self.on_missing, OnMissing):
            return self.on_missing
        return OnMissing(action=MissingAction(self.on_missing))

    @property
    def cron_schedule(self) -> str | None:
        """Return the schedule as a cron expression, or None for a job that is only started by hand or message."""
        if self.cron is not None:
            return self.cron
        return None if self.every is None else every_to_cron(self.every)


def options_problem(options: Mapping[str, object]) -> str | None:
    """Return what is wrong with a job's options and what is allowed, or None.

    Takes all of `JobOptions`. Values that may be secrets, or long, are told by their kind.
    """
    checks = (_schedule_problem, _missing_problem, _kind_problem, _delivery_problem, _label_problem)
    return next((problem for check in checks if (problem := check(options)) is not None), None)


def whole_number_problem(name: str, value: object, way_out: str) -> str | None:
    """Return what is wrong with a value that should be an integer of 0 or more, or None; true is no number."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return None
    return f"{name} is {_shown(value)}; {way_out}"


def callable_problem(name: str, value: object) -> str | None:
    """Return what is wrong with a value that should be a function or None, or None."""
    return None if value is None or callable(value) else f"{name} is {_shown(value)}; give a function, or leave it out"


def mapping_problem(name: str, value: object) -> str | None:
    """Return what is wrong with a value that should map columns to fields of the source, or None."""
    if not isinstance(value, Mapping):
        return f"{name} is {_shown(value)}; give {{column: field of the record}}, such as {{'stock': 'quantity'}}"
    for column, spec in cast("Mapping[object, object]", value).items():
        if not isinstance(column, str):
            return f"{name} has a column that is {_shown(column)}; give its name as text"
        if not isinstance(spec, str | Field):
            return f"{name}[{column!r}] is {_shown(spec)}; give the name of the record's field, or a Field"
    return None


def read_mapping(
    job: str, key: str | Mapping[str, str | Field], fields: Mapping[str, str | Field], version: str | None
) -> tuple[dict[str, Field], dict[str, Field], str | None]:
    """Return the key, the fields and the version column of a declarative job, each column with its `Field`.

    Raises:
        ConfigurationError: something in it is not a field, or the key is not one column.
    """
    problem = mapping_problem("key", {key: key} if isinstance(key, str) else key) or mapping_problem("fields", fields)
    if problem is not None:
        raise ConfigurationError(f"job {job!r}: {problem}")
    keys = {key: key} if isinstance(key, str) else dict(key)
    if len(keys) != 1:
        raise ConfigurationError(
            f"job {job!r}: key= names exactly one column; for a compound key, keep the joined parts in one column"
        )
    key_fields = {column: _field(column, spec) for column, spec in keys.items()}
    field_fields = {column: _field(column, spec) for column, spec in fields.items() if column not in key_fields}
    version_column = None
    if version is not None:
        columns = [column for column, field in field_fields.items() if field.source == version]
        version_column = columns[0] if columns else version
        field_fields.setdefault(version_column, Field(source=version))
    return key_fields, field_fields, version_column


def _field(column: str, spec: str | Field) -> Field:
    if isinstance(spec, str):
        return Field(source=spec)
    if spec.source is None:
        return Field(source=column, convert=spec.convert, default=spec.default, mask=spec.mask)
    return spec


def _schedule_problem(options: Mapping[str, object]) -> str | None:
    cron, every, timezone = options["cron"], options["every"], options["timezone"]
    if cron is not None and every is not None:
        return "cron= and every= exclude each other"
    if cron is not None and not _may_be_cron(cron):
        return f"cron={cron!r} {CRON_HINT}"
    if every is not None:
        try:
            every_to_cron(cast("str | timedelta", every))
        except ConfigurationError as error:
            return error.message
    try:
        ZoneInfo(cast("str", timezone))
    except (KeyError, ValueError, OSError, TypeError):
        return f"timezone {timezone!r} is unknown; use a name such as Europe/Berlin"
    return None


def _may_be_cron(cron: object) -> bool:
    """Tell whether a value has the form of a cron expression, with numbers in range; Dagster judges the rest."""
    if not isinstance(cron, str):
        return False
    if _CRON_WORD.fullmatch(cron):
        return True
    fields = cron.split()
    return len(fields) == len(_CRON_HIGHEST) and all(
        _CRON_FIELD.fullmatch(field) and all(int(value) <= highest for value in _CRON_VALUE.findall(field))
        for field, highest in zip(fields, _CRON_HIGHEST, strict=True)
    )


def _missing_problem(options: Mapping[str, object]) -> str | None:
    on_missing = options["on_missing"]
    if not isinstance(on_missing, OnMissing) and on_missing not in ("keep", "delete"):
        return f"on_missing={on_missing!r}; use 'keep', 'delete' or mark(column=value)"
    for name in ("max_delete_fraction", "max_rejected_fraction"):
        fraction = options[name]
        if not isinstance(fraction, int | float) or isinstance(fraction, bool) or not 0 <= fraction <= 1:
            return f"{name} is {_shown(fraction)}; give a number between 0 and 1"
    return None


def _kind_problem(options: Mapping[str, object]) -> str | None:
    for name in ("max_delete_rows", "sample_size"):
        problem = whole_number_problem(name, options[name], "give an integer, 0 or more")
        if problem:
            return problem
    for name in ("history", "refetch"):
        if not isinstance(options[name], bool):
            return f"{name} is {_shown(options[name])}; give True or False"
    if not isinstance(options["checks"], Checks):
        return f"checks is {_shown(options['checks'])}; give Checks(...)"
    if not isinstance(options["retries"], Retries):
        return f"retries is {_shown(options['retries'])}; give Retries(...)"
    verify = options["verify"]
    return None if verify is None else whole_number_problem("verify", verify, "give an integer, 0 or more, or None")


def _delivery_problem(options: Mapping[str, object]) -> str | None:
    webhook = options["webhook"]
    if webhook is not None and not isinstance(webhook, Webhook):
        return f"webhook is {_shown(webhook)}; give Webhook(...), or None for a job that takes no webhooks"
    delivery = options["delivery"]
    if delivery not in tuple(Delivery):
        return f"delivery={delivery!r}; use {' or '.join(repr(str(known)) for known in Delivery)}"
    if delivery == Delivery.INLINE and options["refetch"]:
        return "delivery='inline' has no resources to ask the source with, so refetch=True needs delivery='run'"
    return None


def _label_problem(options: Mapping[str, object]) -> str | None:
    owners, tags, kind = options["owners"], options["tags"], options["source_kind"]
    if isinstance(owners, str) or not isinstance(owners, Iterable):
        return f"owners is {_shown(owners)}; give a list, such as ['data@example.com', 'team:shop']"
    for owner in cast("Iterable[object]", owners):
        if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
            return f"owner {owner!r} is neither an e-mail address nor a team such as 'team:shop'"
    if not isinstance(tags, Mapping):
        return f"tags is {_shown(tags)}; give a mapping, such as {{'domain': 'shop'}}"
    for name, value in cast("Mapping[object, object]", tags).items():
        if not isinstance(name, str) or not isinstance(value, str) or not _TAG.fullmatch(name):
            return f"tag {name!r} is none; give text for text, names of letters, digits, '_', '-', '.' and one '/'"
    if kind is not None and not (isinstance(kind, str) and _KIND.fullmatch(kind)):
        return f"source_kind={kind!r}; give one word in small letters, such as 'rest', or None"
    return None


def _shown(value: object) -> str:
    """Return a number as it is, and of everything else the kind."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else type(value).__name__
