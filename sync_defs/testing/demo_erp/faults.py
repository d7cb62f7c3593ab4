"""Switches that make the ERP misbehave on demand."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import cast

from sync_defs.testing.demo_erp.records import InvalidRecordError, Kind, Record

MAX_SLOW_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSwitches:
    """Which faults are on. The default is none."""

    rate_limit: int = 0
    """The next n list requests are answered 429 with ``Retry-After: 1``."""
    server_errors: int = 0
    """The next n list requests are answered 500."""
    html_login_page: int = 0
    """The next n list requests are answered 200 with a login page in HTML."""
    slow_page_s: float = 0
    """Each list request takes this many seconds longer."""
    malformed_items: int = 0
    """The first n items of each listing have no id, then a bad amount, then a bad number, and so on."""
    truncate_after_pages: int | None = None
    """Each page behind the first n of a listing is answered 500; None lets all through."""


_COUNTED = ("server_errors", "rate_limit", "html_login_page")


class Faults:
    """The switches of a running ERP; safe to use from several threads."""

    def __init__(self) -> None:
        """Start with none on."""
        self._lock = threading.Lock()
        self._switches = FaultSwitches()

    @property
    def switches(self) -> FaultSwitches:
        """Return the switches as they are now."""
        return self._switches

    def inject(self, switches: Mapping[str, object]) -> FaultSwitches:
        """Set the named switches, leave the others, and return all.

        Raises:
            InvalidRecordError: A switch is unknown or its value is not a number of the right size.
        """
        known = {field.name for field in fields(FaultSwitches)}
        for name, value in switches.items():
            if name not in known:
                message = f"unknown fault {name!r}; known: {', '.join(sorted(known))}"
                raise InvalidRecordError(message)
            _check(name, value)
        with self._lock:
            self._switches = replace(self._switches, **cast("dict[str, int]", switches))
            return self._switches

    def clear(self) -> None:
        """Switch all off."""
        with self._lock:
            self._switches = FaultSwitches()

    def take(self) -> str | None:
        """Use up one counted fault and return its name, None if none is on."""
        with self._lock:
            for name in _COUNTED:
                left: int = getattr(self._switches, name)
                if left > 0:
                    self._switches = replace(self._switches, **{name: left - 1})
                    return name
        return None


def malform(kind: Kind, record: Mapping[str, object], place: int) -> Record:
    """Return a damaged copy: by turns without id, with a bad amount, or with a value out of range."""
    result = dict(record)
    is_inventory = kind is Kind.INVENTORY
    if place % 3 == 0:
        del result[kind.id_field]
    elif place % 3 == 1:
        result["price" if is_inventory else "credit_limit"] = "abc"
    else:
        result["quantity" if is_inventory else "blocked"] = 2**40
    return result


def _check(name: str, value: object) -> None:
    if name == "slow_page_s":
        is_valid = isinstance(value, int | float) and 0 <= value <= MAX_SLOW_S
    elif name == "truncate_after_pages" and value is None:
        is_valid = True
    else:
        is_valid = isinstance(value, int) and value >= 0
    if not is_valid or isinstance(value, bool):
        message = f"{name} must be a number from 0 on"
        raise InvalidRecordError(message)
