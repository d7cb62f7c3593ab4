"""Values of numpy and pandas as plain ones, without importing either."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any, cast

# Looked up by type, so that most values cost no look at their module.
_BUILT_IN: frozenset[type] = frozenset([str, int, bool, float, dict, list, Decimal, datetime, date, bytes])


def plain_value(value: Any) -> Any:
    """Return a scalar of numpy or pandas as the plain value that it holds, and anything else as it is.

    What says "absent" (pd.NA, NaT) is None; an array is a list; times keep microseconds.
    """
    kind = cast("type[Any]", type(value))
    if kind in _BUILT_IN or not kind.__module__.startswith(("numpy", "pandas")):
        return value
    return _unwrapped(value, kind.__name__)


def _unwrapped(value: Any, kind: str) -> Any:
    if kind in ("NAType", "NaTType"):
        return None
    if kind == "Timestamp":
        return value.to_pydatetime(warn=False)
    if kind == "datetime64":
        # In nanoseconds, item() would be a bare number.
        return value.astype("datetime64[us]").item()
    if kind == "ndarray":
        return value.tolist()
    # What has a length holds many values, unless it is numpy's text or bytes.
    is_scalar = not hasattr(value, "__len__") or kind in ("str_", "bytes_")
    return value.item() if is_scalar and hasattr(value, "item") else value
