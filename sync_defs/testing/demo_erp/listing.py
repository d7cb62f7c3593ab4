"""Pages of a listing: the query's meaning, the page token, and the faults that damage items."""

import base64
import json
from dataclasses import dataclass
from typing import cast

from starlette.datastructures import QueryParams

from sync_defs.testing.demo_erp.faults import malform
from sync_defs.testing.demo_erp.records import (
    InvalidRecordError,
    Kind,
    Record,
    parse_instant,
    to_microseconds,
)
from sync_defs.testing.demo_erp.state import ErpState

DEFAULT_LIMIT = 200
MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """What a list request asks for."""

    ids: tuple[str, ...] = ()
    """Only these records, in one page; all if empty."""
    since_us: int | None = None
    """Only records changed at this time or later; microseconds since 1970, UTC."""
    limit: int = DEFAULT_LIMIT
    """The most records in a page."""
    after: tuple[int, str] | None = None
    """The last record of the page before, by time and id."""
    page_number: int = 0
    """How many pages came before."""
    place: int = 0
    """How many records came before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One page of an answer."""

    items: list[Record]
    """Records by (updated_at, id)."""
    next_page_token: str | None
    """Asks for the page behind this one; None on the last."""


def page_request(kind: Kind, query: QueryParams) -> PageRequest:
    """Return what the query of a list request asks for.

    Raises:
        InvalidRecordError: A parameter has no meaning.
    """
    ids = tuple(query.getlist(kind.id_field))
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdigit() and 1 <= float(limit) <= MAX_LIMIT) or len(ids) > MAX_LIMIT:
        message = f"limit must be 1 to {MAX_LIMIT}, and at most so many ids are given"
        raise InvalidRecordError(message)
    since, token = query.get("since"), query.get("page_token")
    after, page_number, place = (None, 0, 0) if not token else _read_token(token)
    return PageRequest(
        ids=ids,
        since_us=to_microseconds(parse_instant(since)) if since else None,
        limit=int(limit),
        after=after,
        page_number=page_number,
        place=place,
    )


def list_records(state: ErpState, kind: Kind, wanted: PageRequest, *, malformed: int) -> Listing:
    """Return the page asked for, its records below ``malformed`` in the whole listing damaged."""
    if wanted.ids:
        items, token = state.find(kind, wanted.ids), None
    else:
        # One more than the page holds tells whether there is another page.
        stored = state.page(kind, since_us=wanted.since_us, after=wanted.after, limit=wanted.limit + 1)
        has_more = len(stored) > wanted.limit
        stored = stored[: wanted.limit]
        items = [one.record for one in stored]
        place = wanted.place + len(items)
        last = stored[-1] if has_more else None
        token = last and _write_token((last.updated_us, last.record_id), wanted.page_number + 1, place)
    damaged = [
        malform(kind, item, wanted.place + index) if wanted.place + index < malformed else item
        for index, item in enumerate(items)
    ]
    return Listing(items=damaged, next_page_token=token)


def _write_token(after: tuple[int, str], page_number: int, place: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([*after, page_number, place]).encode()).decode()


def _read_token(token: str) -> tuple[tuple[int, str], int, int]:
    try:
        values = cast("list[object]", json.loads(base64.urlsafe_b64decode(token)))
        updated_us, record_id, page_number, place = values
    except (ValueError, TypeError) as error:
        message = "page_token is not one of ours"
        raise InvalidRecordError(message) from error
    if not isinstance(record_id, str) or any(type(n) is not int for n in (updated_us, page_number, place)):
        message = "page_token is not one of ours"
        raise InvalidRecordError(message)
    return (cast("int", updated_us), record_id), cast("int", page_number), cast("int", place)
