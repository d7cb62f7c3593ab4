"""From attributes to the job, by the same `table_sync` that a Python file calls."""

import re
from datetime import timedelta
from typing import Any, Final

from sync_defs.checks import SCHEDULE, Checks
from sync_defs.declared.attributes import (
    ChecksAttributes,
    FieldAttributes,
    InboxAttributes,
    MissingAttributes,
    SyncJobAttributes,
)
from sync_defs.declared.source import description_of, fetch_function, find_object
from sync_defs.fields import Field
from sync_defs.job import TableSync, table_sync
from sync_defs.policies import OnMissing, Retries, Webhook, mark

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_EVERY: Final = re.compile(r"[1-9]\d{0,3}[mhd]")


def declared_job(attributes: SyncJobAttributes) -> TableSync:
    """Return the job that attributes declare.

    Raises:
        ConfigurationError: an object is not where its name says, or `table_sync` refuses an option.
    """
    source = attributes.source if isinstance(attributes.source, str) else attributes.source.rest
    fetch = fetch_function(source)
    schedule = attributes.schedule
    is_interval = schedule is not None and _EVERY.fullmatch(schedule)
    return table_sync(
        name=attributes.name,
        description=attributes.description or description_of(fetch),
        target=find_object(attributes.target, attribute="target"),
        key=attributes.key,
        fields={column: _field(spec) for column, spec in attributes.fields.items()},
        version=attributes.version,
        on_missing=_missing(attributes.on_missing),
        max_delete_rows=attributes.max_delete_rows,
        max_delete_fraction=attributes.max_delete_fraction,
        max_rejected_fraction=attributes.max_rejected_fraction,
        every=schedule if is_interval else None,
        cron=None if is_interval else schedule,
        timezone=attributes.timezone,
        webhook=_webhook(attributes.inbox),
        checks=_checks(attributes.checks),
        retries=Retries(**attributes.retries.model_dump()),
        create_table=attributes.create_table,
        group=attributes.group,
        owners=attributes.owners,
        tags=attributes.tags,
        source_kind=attributes.source_kind or ("rest" if not isinstance(attributes.source, str) else None),
    )(fetch)


def _field(spec: str | FieldAttributes) -> str | Field:
    if isinstance(spec, str):
        return spec
    options: dict[str, Any] = {"source": spec.source, "mask": spec.mask}
    if "default" in spec.model_fields_set:
        options["default"] = spec.default
    if spec.convert is not None:
        options["convert"] = find_object(spec.convert, attribute="convert")
    return Field(**options)


def _missing(on_missing: str | MissingAttributes) -> str | OnMissing:
    if isinstance(on_missing, str):
        return on_missing
    wanted = on_missing.mark
    if "otherwise" in wanted.model_fields_set:
        return mark(otherwise=wanted.otherwise, **{wanted.column: wanted.value})
    return mark(**{wanted.column: wanted.value})


def _webhook(inbox: bool | InboxAttributes) -> Webhook | None:
    if isinstance(inbox, InboxAttributes):
        return Webhook(scheme=inbox.scheme, secret_env=inbox.secret_env)
    return Webhook() if inbox else None


def _checks(checks: ChecksAttributes) -> Checks:
    given = checks.model_dump()
    given["inbox_lag"] = _span(checks.inbox_lag)
    given["freshness"] = SCHEDULE if checks.freshness == SCHEDULE else _span(checks.freshness)
    return Checks(**given)


def _span(text: str | None) -> timedelta | None:
    return None if text is None else timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
