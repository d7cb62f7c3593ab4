"""The order of two versions of one item, as far as it can be told before the item is applied.

Messages may arrive in another order than they were made. The queue holds one payload per item, so accepting must
not let an older state take the place of a newer one. What cannot be compared here (free text, two kinds) counts in
the order of arrival; the version guard of the apply still has the last word.
"""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

_FUTURE: Final = timedelta(hours=24)
_DIGITS = re.compile(r"-?[0-9]{1,40}", re.ASCII)
_NUMBER, _TIME = "n:", "t:"


def version_text(value: object, *, now: datetime) -> str | None:
    """Return a version as text that `is_older` understands: a number or an instant; None for anything else.

    A time more than a day ahead gives None as well: else one wrong clock would hold back every later message.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        number = Decimal(value)
        return f"{_NUMBER}{number}" if number.is_finite() else None
    if isinstance(value, str):
        if _DIGITS.fullmatch(value):
            return f"{_NUMBER}{int(value)}"
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return _instant(value, now) if isinstance(value, datetime) else None


def is_older(version: str | None, than: str | None) -> bool:
    """Tell whether one version is certainly older than another; False where they cannot be compared."""
    if version is None or than is None or version[:2] != than[:2]:
        return False
    try:
        if version.startswith(_NUMBER):
            return Decimal(version[2:]) < Decimal(than[2:])
        return datetime.fromisoformat(version[2:]) < datetime.fromisoformat(than[2:])
    except (InvalidOperation, ValueError, TypeError):
        return False


def _instant(value: datetime, now: datetime) -> str | None:
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    try:
        if aware > now + _FUTURE:
            return None
        return f"{_TIME}{aware.astimezone(UTC).isoformat()}"
    except OverflowError:
        return None
