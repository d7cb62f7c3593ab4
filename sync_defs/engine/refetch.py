"""Messages as hints: what the source has now of the items that they name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from sync_defs.engine.chosen import ask_for, told_id
from sync_defs.engine.external_id import external_id_text
from sync_defs.engine.ports import Shaper, Store
from sync_defs.engine.records import is_older, pages
from sync_defs.errors import ConfigurationError, FetchError, RecordError, SyncError
from sync_defs.fields import Deletion
from sync_defs.job import Job
from sync_defs.results import Action, ItemResult

REST_S: Final = 30.0
"""For how long a source that fails altogether is left alone, where it does not say so itself."""
# Trouble of the source or the way there: asking for fewer ids would not help.
_OF_THE_SOURCE = frozenset({"not_authorized", "rate_limited", "unreachable"})


@dataclass(slots=True, kw_only=True)
class Refetched:
    """What the source has of the hinted items, each by its place among the hints and in one of two groups."""

    items: dict[int, Any] = field(default_factory=dict[int, Any])
    """Records as the source has them now, and `Deletion`s of what it has no longer."""
    refused: dict[int, ItemResult] = field(default_factory=dict[int, ItemResult])
    """Items that there is nothing to apply of, all `rejected`."""
    failure: FetchError | None = None
    """Why the source was not heard of some of them; None: it answered for all."""
    rest_s: float | None = None
    """For how long the source is to be left alone, in seconds; None: it works."""


def refetch(job: Job, store: Store, hints: Sequence[Any], *, resources: Mapping[str, object]) -> Refetched:
    """Ask the source for the items that records or `Deletion`s name, all in one call, and tell what it has.

    Writes nothing and opens no transaction while the source answers. If the call fails, halves are asked, so that one
    id that the source stumbles over holds back no other; it ends once everything fails, or the source is away.

    An item that the source lacks is a `Deletion` only where its hint was one and the call ended well. Else it is
    refused as `not_in_source`: a message may be here before the source shows what it tells of.

    Raises:
        ConfigurationError: the job or its target is wrong, or a resource is not there.
    """
    store.prepare(job)
    shaper = store.shaper(job)
    result = Refetched()
    given: dict[int, str] = {}
    for place, hint in enumerate(hints):
        try:
            given[place] = _hinted_id(job, shaper, hint)
        except Exception as error:  # noqa: BLE001 - user code reads what somebody sent
            reason = f"get_external_id raised {type(error).__name__}"
            told = error if isinstance(error, RecordError) else RecordError(reason, code="external_id_missing")
            result.refused[place] = _refused(None, told)
    keys = {place: shaper.id_text(external_id) for place, external_id in given.items()}
    asked = _Asked(job=job, store=store, shaper=shaper, resources=resources)
    asked.ask_all({keys[place]: external_id for place, external_id in given.items()})
    for place, key in keys.items():
        if key in asked.failed:
            result.refused[place] = _refused(given[place], asked.failed[key])
        elif key in asked.found:
            result.items[place] = asked.found[key]
        elif isinstance(hints[place], Deletion):
            result.items[place] = Deletion(external_id=given[place])
        else:
            absent = FetchError(f"the source of {job.name!r} has no such record", code="not_in_source")
            result.refused[place] = _refused(given[place], absent)
    result.failure = next(iter(asked.failed.values()), None)
    if asked.outage is not None:
        result.rest_s = asked.outage.retry_after_s or REST_S
    return result


@dataclass(slots=True, kw_only=True)
class _Asked:
    """The answers of the source, by the id in the form that the target's key has."""

    job: Job
    store: Store
    shaper: Shaper
    resources: Mapping[str, object]
    found: dict[str, Any] = field(default_factory=dict[str, Any])
    failed: dict[str, FetchError] = field(default_factory=dict[str, FetchError])
    outage: FetchError | None = None
    """Set once it is of no use to ask on."""
    failures: int = 0
    """Calls that failed since the last one that did not."""
    most_failures: int = 0

    def ask_all(self, wanted: Mapping[str, str]) -> None:
        """Ask for ids, by key; from then on each key is found, failed, or not in the source."""
        if wanted:
            # So many calls lead to a single bad id; one more that fails is the source itself.
            self.most_failures = len(wanted).bit_length() + 1
            self._ask(wanted)

    def _ask(self, wanted: Mapping[str, str]) -> None:
        if self.outage is not None:
            self.failed.update(dict.fromkeys(wanted, self.outage))
            return
        try:
            self._take(ask_for(self.job, list(wanted.values()), self.resources))
            self.failures = 0
            return
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - user code: whatever the fetch raised
            reason = _told(error)
        self.failures += 1
        if reason.retry_after_s is not None or reason.code in _OF_THE_SOURCE or self.failures > self.most_failures:
            self.outage = reason
        if self.outage is not None or len(wanted) == 1:
            self.failed.update(dict.fromkeys(wanted, reason))
            return
        pairs = list(wanted.items())
        for half in (pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]):
            self._ask(dict(half))

    def _take(self, answer: Any) -> None:
        unidentified = 0
        for page in pages(answer, self.store.frame_pages):
            for record in chain.from_iterable(page):
                key = told_id(self.job, self.shaper, record)
                if key is None:
                    unidentified += 1
                elif key not in self.found or not is_older(self._version(record), self._version(self.found[key])):
                    self.found[key] = record
        if unidentified:
            # One of them may be the item that is then not in the source, and must not be deleted for it.
            raise FetchError(f"the answer holds {unidentified:,} records without a usable id", code="bad_fetch_result")

    def _version(self, record: Any) -> Any:
        try:
            return self.shaper.version_of(self.shaper.revive(record), None)
        except Exception:  # noqa: BLE001 - user code: the apply will tell what is wrong with the record
            return None


def _hinted_id(job: Job, shaper: Shaper, hint: Any) -> str:
    if isinstance(hint, Deletion) and (hint.external_id is not None or hint.record is None):
        return external_id_text(hint.external_id)
    record = hint.record if isinstance(hint, Deletion) else hint
    try:
        record = shaper.revive(record)
    except Exception:  # noqa: BLE001 - user code: a hint need not hold more than its id
        return external_id_text(job.get_external_id(record))
    return external_id_text(job.get_external_id(record))


def _told(error: Exception) -> FetchError:
    """Return what `fetch_items` raised as an error whose text holds no values."""
    if isinstance(error, FetchError):
        return error
    if isinstance(error, SyncError):
        told = FetchError(error.message, code=error.code)
    else:
        told = FetchError(f"fetch_items raised {type(error).__name__}")
    told.__cause__ = error
    return told


def _refused(external_id: str | None, error: SyncError) -> ItemResult:
    return ItemResult(action=Action.REJECTED, external_id=external_id, message=error.message, code=error.code)
