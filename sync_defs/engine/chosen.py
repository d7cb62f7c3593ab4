"""Asking the source for chosen external ids: which records have them, and which of them it lacks."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from sync_defs.engine.external_id import external_id_text
from sync_defs.engine.ports import Shaper
from sync_defs.engine.records import Page
from sync_defs.errors import ConfigurationError, FetchError, RecordError
from sync_defs.job import Job

MOST_TOLD: Final = 1_000
"""Ids that the source lacks are listed up to this number; all are counted."""


def given_ids(job: Job, external_ids: Sequence[object]) -> list[str]:
    """Return the chosen ids as text, in the form in which they were given.

    Raises:
        ConfigurationError: one is no external id.
    """
    try:
        return [external_id_text(external_id) for external_id in external_ids]
    except RecordError as error:
        raise ConfigurationError(f"job {job.name!r}: external_ids: {error.reason}", code=error.code) from None


def ask_for(job: Job, external_ids: Sequence[str], resources: Mapping[str, object]) -> Any:
    """Return what the job's `fetch_items` answers for these ids.

    Raises:
        ConfigurationError: a resource that it names is not there.
        Exception: whatever it raised.
    """
    passed = named_resources(job, job.items_resource_names, resources)
    return job.fetch_items(external_ids=list(external_ids), **passed)


def named_resources(job: Job, names: Collection[str], resources: Mapping[str, object]) -> dict[str, object]:
    """Return the resources of these names, which the job's fetches have as parameters.

    Raises:
        ConfigurationError: one is not there.
    """
    absent = names - resources.keys()
    if absent:
        raise ConfigurationError(
            f"job {job.name!r} needs the resource {', '.join(map(repr, sorted(absent)))}; "
            f"given: {', '.join(map(repr, sorted(resources))) or 'none'}",
            code="missing_resource",
        )
    return {name: resources[name] for name in names}


def told_id(job: Job, shaper: Shaper, record: Any) -> str | None:
    """Return a record's external id in the one form that the target's key has; None where it does not tell it."""
    try:
        return shaper.id_text(external_id_text(job.get_external_id(shaper.revive(record))))
    except Exception:  # noqa: BLE001 - user code: a record that does not tell its id is none that was asked for
        return None


class ChosenIds:
    """Picks the records of one fetch that were asked for, by the one form of an id that the target's key has."""

    def __init__(self, job: Job, shaper: Shaper, given: Sequence[str]) -> None:
        """Choose by ids as `given_ids` returned them; none choose nothing."""
        self._job = job
        self._shaper = shaper
        self._absent: dict[str, str] = {}
        for external_id in given:
            self._absent.setdefault(shaper.id_text(external_id), external_id)
        self._chosen = frozenset(self._absent)

    @property
    def not_in_source(self) -> int:
        """Return the number of chosen ids that did not come so far."""
        return len(self._absent)

    @property
    def ids_not_in_source(self) -> list[str]:
        """Return the first of these ids, as they were given."""
        return list(islice(self._absent.values(), MOST_TOLD))

    def only(self, fetched: Iterator[Page]) -> Iterator[Page]:
        """Yield the pages with nothing but the chosen records in them."""
        for page in fetched:
            yield [[record for records in page for record in records if self._is_chosen(record)]]

    def require_some(self) -> None:
        """Make sure that the source had at least one of them.

        Raises:
            FetchError: it had none.
        """
        if not self._chosen or len(self._absent) < len(self._chosen):
            return
        source, first = f"the source of {self._job.name!r}", next(iter(self._absent.values()))
        count = len(self._chosen)
        raise FetchError(
            f"{source} has no record {first!r}"
            if count == 1
            else f"{source} has none of the {count:,} chosen ids, such as {first!r}; check them",
            code="not_in_source",
        )

    def _is_chosen(self, record: Any) -> bool:
        external_id = told_id(self._job, self._shaper, record)
        self._absent.pop(external_id or "", None)
        return external_id in self._chosen
