"""What the errors of MariaDB and MySQL say about a record."""

import re
from typing import Any

from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError

from sync_defs.errors import RecordError

_UNIQUE = ("unique", "another row has this value already")
_NOT_NULL = ("not_null", "a value is required")
_CHECK = ("check", "a check constraint refuses the value")
_FOREIGN_KEY = ("foreign_key", "the row that it refers to does not exist, or a row refers to it")
_BAD_TEXT = ("bad_text", "the column cannot hold a character of the text")
# What one record can cause, by the server's own number; everything else is the database's trouble.
_CODES = {
    1022: _UNIQUE,
    1048: _NOT_NULL,
    1062: _UNIQUE,
    1216: _FOREIGN_KEY,
    1217: _FOREIGN_KEY,
    1264: ("out_of_range", "the number does not fit the column"),
    1265: ("constraint", "the column would keep a part of the value only"),
    1292: ("constraint", "the column does not take the value"),
    1366: _BAD_TEXT,
    1364: _NOT_NULL,
    1406: ("too_long", "the text is too long for the column"),
    1451: _FOREIGN_KEY,
    1452: _FOREIGN_KEY,
    1557: _FOREIGN_KEY,
    1586: _UNIQUE,
    1761: _FOREIGN_KEY,
    1762: _FOREIGN_KEY,
    3819: _CHECK,
    4025: _CHECK,
}
_REFUSED = (1118, 1136, 1241, 1263, 1367, 1369, 1411, 1425, 1426, 1441, 1526, 1644, 1690, 3140, 3156, 3903, 4078, 4079)
# The server writes names in these places; values stand in others.
_NAMES = {
    1048: re.compile(r"^Column '([^']*)'"),
    1062: re.compile(r" for key '([^']*)'$"),
    1264: re.compile(r" for column '([^']*)' at row"),
    1364: re.compile(r"^Field '([^']*)'"),
    1406: re.compile(r"^Data too long for column '([^']*)'"),
    1451: re.compile(r"CONSTRAINT `([^`]*)` FOREIGN KEY"),
    1452: re.compile(r"CONSTRAINT `([^`]*)` FOREIGN KEY"),
    3819: re.compile(r"^Check constraint '([^']*)'"),
    4025: re.compile(r"^CONSTRAINT `([^`]*)` failed"),
}
_COLUMN_NAMES = (1048, 1264, 1364, 1406)


def record_error(error: DBAPIError) -> RecordError | None:
    """Return what is wrong with the record; the message is read for names only, since the rest of it holds values."""
    arguments: tuple[Any, ...] = getattr(error.orig, "args", ()) or ("",)
    number = arguments[0]
    if not isinstance(number, int):
        is_value = isinstance(error, DataError | ProgrammingError) and not error.connection_invalidated
        return RecordError("the driver cannot store a value of this kind", code="bad_value") if is_value else None
    if number not in _CODES and number not in _REFUSED:
        return None
    code, reason = _CODES.get(number, ("constraint", f"the database refuses the row (error {number})"))
    found = _NAMES[number].search(str(arguments[1])) if number in _NAMES else None
    if found is None:
        return RecordError(reason, code=code)
    if number in _COLUMN_NAMES:
        return RecordError(reason, code=code, field=found[1])
    return RecordError(f"{reason} (constraint {found[1]})", code=code)
