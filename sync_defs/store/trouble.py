"""What a database's error is that no record can cause: trouble that passes, or rights and names to be put right.

By what drivers say in codes; a message is read only where there is none, and never repeated, since it may hold values.
"""

import re
from typing import Any, Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from sync_defs.errors import ConfigurationError, DatabaseTroubleError, SyncError

_DEADLOCK = "it was a deadlock with another transaction, or could not be put in an order with one"
_LOCKED = "another transaction has held a lock for too long"
_LOST = "the connection broke, or the server stops, starts or takes no more connections"
_DENIED = ("permission_denied", "the database user lacks a right; grant it, or use another user in SYNC_DATABASE_URL")
_NO_TABLE = ("unknown_table", "a table that a statement names does not exist; create it, or correct the job")
_NO_COLUMN = ("unknown_column", "a column that a statement names does not exist; migrate the table")
# SQLSTATE of PostgreSQL, by its first characters.
_STATES: Final = {
    "40P01": _DEADLOCK,
    "40001": _DEADLOCK,
    "55P03": _LOCKED,
    "57014": _LOCKED,
    "08": _LOST,
    "57P": _LOST,
    "53": _LOST,
    "42501": _DENIED,
    "28": _DENIED,
    "42P01": _NO_TABLE,
    "42703": _NO_COLUMN,
}
# Numbers of MariaDB and MySQL: 1000 and more of the server, 2000 and more of the client.
_NUMBERS: Final = {
    **dict.fromkeys((1213, 1020), _DEADLOCK),
    **dict.fromkeys((1205, 3024, 1969), _LOCKED),
    **dict.fromkeys((1040, 1053, 1152, 1158, 1159, 1160, 1161, 1203, 2002, 2003, 2006, 2013, 2055), _LOST),
    **dict.fromkeys((1044, 1045, 1142, 1143, 1227, 1290, 1370, 1698), _DENIED),
    1146: _NO_TABLE,
    1054: _NO_COLUMN,
}
# Primary result codes of SQLite.
_RESULTS: Final = {5: _LOCKED, 6: _LOCKED, 3: _DENIED, 8: _DENIED, 10: _LOST, 14: _DENIED}
_TEXTS: Final = (
    (re.compile(r"^no such table"), _NO_TABLE),
    (re.compile(r"^no such column|has no column named"), _NO_COLUMN),
    # psycopg has no code for a connection that was never made.
    (re.compile(r"authentication failed|no pg_hba\.conf entry|(role|database) \".*\" does not exist"), _DENIED),
)


def trouble(error: DBAPIError) -> SyncError | None:
    """Return the error to be told in place of a driver's; None: it says nothing of that kind.

    A `DatabaseTroubleError` passes by itself, a `ConfigurationError` does not.
    """
    found = _found(error)
    if found is None:
        return None
    if isinstance(found, str):
        return DatabaseTroubleError(f"the database has trouble: {found}; it passes by itself, try again")
    code, reason = found
    return ConfigurationError(f"the database refuses: {reason}", code=code)


def passes(error: Exception) -> bool:
    """Tell whether an error is a driver's, of trouble that passes by itself."""
    return isinstance(error, DBAPIError) and isinstance(trouble(error), DatabaseTroubleError)


def _found(error: DBAPIError) -> str | tuple[str, str] | None:
    cause: Any = error.orig
    arguments = getattr(cause, "args", ()) or ("",)
    if isinstance(arguments[0], int):
        return _NUMBERS.get(arguments[0])
    state = getattr(cause, "sqlstate", None)
    if state:
        return next((_STATES[start] for start in (state, state[:3], state[:2]) if start in _STATES), None)
    result = getattr(cause, "sqlite_errorcode", None)
    if result is not None and (result & 0xFF) in _RESULTS:
        return _RESULTS[result & 0xFF]
    found = next((what for pattern, what in _TEXTS if pattern.search(str(arguments[0]))), None)
    if found is None and result is None and isinstance(error, OperationalError | InterfaceError):
        return _LOST
    return _LOST if found is None and error.connection_invalidated else found
