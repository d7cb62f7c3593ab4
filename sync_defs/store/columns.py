"""Columns of a frame's page, as words of 64 bits from which fingerprints are taken, or as plain values.

One function for each library whose columns are read; none of them is imported, since what they read is theirs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sync_defs.store.fingerprint import ALGORITHM, digest, value_text

Words = NDArray[np.uint64]
Flags = NDArray[np.bool_]

_ARROW_FIXED = ("int", "uint", "half", "float", "double", "timestamp", "date", "time", "duration", "decimal", "bool")
_ARROW_TEXTS = ("string", "large_string", "string_view")
_ARROW_BYTES = ("binary", "large_binary", "binary_view", "fixed_size_binary")
_POLARS_NUMBERS = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64")
_POLARS_FIXED = frozenset({*_POLARS_NUMBERS, "Boolean", "Date", "Datetime", "Duration", "Time"})
_DIGITS_OF_64_BITS = 18
_POLARS_SEEDS = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a page."""

    kind: str
    """Library, type and algorithm: in columns of one kind, equal words stand for equal values."""
    words: Callable[[], list[Words]]
    """Returns words of which at least one differs wherever two values do."""
    values: Callable[[], list[Any]]
    """Returns the values as the records have them, None for what is absent."""
    texts: Callable[[], Sequence[bytes]] | None = None
    """Returns text in UTF-8; None where the column is of another type, or lacks a value."""
    absent: Flags | None = None
    """Which rows have no value; their words say nothing."""
    unreadable: Flags | None = None
    """Which rows hold something that has no words."""


def arrow_column(array: Any, origin: str = "") -> Column:
    """Return a column from an array of pyarrow."""
    if str(array.type).startswith("dictionary<"):
        origin, array = f"{origin}dictionary ", array.dictionary_decode()
    kind = f"{origin}arrow {array.type}"
    absent = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    is_text = str(array.type) in _ARROW_TEXTS
    if is_text or str(array.type).startswith(_ARROW_BYTES):
        texts = cache(lambda: _arrow_bytes(array))
        return Column(
            kind=f"{kind} {ALGORITHM}",
            words=lambda: _hashed(texts()),
            values=array.to_pylist,
            texts=texts if is_text and absent is None else None,
            absent=absent,
        )
    if str(array.type).startswith(_ARROW_FIXED):
        return Column(kind=kind, words=lambda: _bits(_arrow_data(array)), values=array.to_pylist, absent=absent)
    return object_column(array.to_pylist(), kind)


def _arrow_bytes(array: Any) -> list[bytes]:
    found = array.cast("large_binary").to_numpy(zero_copy_only=False).tolist()
    return [item or b"" for item in found] if array.null_count else found


def _arrow_data(array: Any) -> NDArray[Any]:
    if str(array.type) == "bool":
        array = array.cast("uint8")
    width = array.type.bit_width // 8
    data = np.frombuffer(array.buffers()[1], np.uint8)[array.offset * width :][: len(array) * width]
    return data.view(f"<u{min(width, 8)}").reshape(len(array), -1)


def polars_column(series: Any) -> Column:
    """Return a column from a series of Polars, whose own hash of a text is the same within one version of Polars."""
    kind, base = f"polars {series.dtype}", type(series.dtype).__name__
    absent = series.is_null().to_numpy() if series.null_count() else None
    is_wide = base == "Decimal" and series.dtype.precision > _DIGITS_OF_64_BITS
    if base in ("String", "Categorical", "Enum", "Binary") or is_wide:
        hashed = series if base in ("String", "Binary") else series.cast(str)
        return Column(
            kind=f"{kind} {_version_of('polars')}",
            words=lambda: [hashed.hash(seed).to_numpy() for seed in _POLARS_SEEDS],
            values=series.to_list,
            texts=series.cast(bytes).to_list if base == "String" and absent is None else None,
            absent=absent,
        )
    if base in _POLARS_FIXED or base == "Decimal":
        return Column(kind=kind, words=lambda: _bits(_polars_data(series)), values=series.to_list, absent=absent)
    return object_column(series.to_list(), kind)


def _polars_data(series: Any) -> NDArray[Any]:
    base, held = type(series.dtype).__name__, series.to_physical()
    if base == "Boolean":
        return held.fill_null(value=False).to_numpy()
    return (held.cast(int) if base == "Decimal" else held).fill_null(strategy="zero").to_numpy()


@cache
def _version_of(library: str) -> str:
    return version(library)


def pandas_column(series: Any) -> Column:
    """Return a column from a series of pandas; what pandas holds for absent is absent, NaN too."""
    kind, dtype = f"pandas {series.dtype} ", series.dtype
    if hasattr(dtype, "pyarrow_dtype") or getattr(dtype, "storage", None) == "pyarrow":
        return arrow_column(series.array.__arrow_array__().combine_chunks(), kind)
    data = _pandas_data(series)
    if data is None:
        return object_column(pandas_values(series), kind)
    absent = series.isna().to_numpy()
    return Column(
        kind=kind,
        words=lambda: _bits(data),
        values=lambda: pandas_values(series),
        absent=absent if absent.any() else None,
    )


def _pandas_data(series: Any) -> NDArray[Any] | None:
    """Return what a column of numbers or times holds; None for one of objects."""
    dtype = series.dtype
    if getattr(dtype, "tz", None) is not None:
        return series.array.asi8
    if hasattr(dtype, "numpy_dtype") and dtype.numpy_dtype.kind in "biuf":
        return series.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
    is_plain = isinstance(dtype, np.dtype) and dtype.kind in "biufmM" and dtype.itemsize <= 8
    return series.to_numpy() if is_plain else None


def pandas_values(series: Any) -> list[Any]:
    """Return the values of a series of pandas, None for what is absent; no type is inferred."""
    absent = series.isna()
    values = series.astype(object).tolist()
    return [None if is_absent else value for value, is_absent in zip(values, absent, strict=True)]


def object_column(values: list[Any], kind: str) -> Column:
    """Return a column of whatever values, which are read one by one."""
    kinds = set(map(type, values))
    texts: list[bytes | None]
    if kinds <= {Decimal, NoneType}:
        texts = [b"" if value is None else str(value).encode() for value in values]
    else:
        texts = [b"" if value is None else value_text(value) for value in values]
    tags = {found: _tag(found) for found in kinds}
    absent = _flags(values, None) if NoneType in kinds else None
    return Column(
        kind=f"{kind} objects {ALGORITHM}",
        words=lambda: [
            *_hashed([text or b"" for text in texts]),
            np.fromiter((tags[type(value)] for value in values), np.uint64, len(values)),
        ],
        values=lambda: values,
        texts=(lambda: [text or b"" for text in texts]) if kinds == {str} and None not in texts else None,
        absent=absent,
        unreadable=_flags(texts, None) if None in texts else None,
    )


def _tag(kind: type) -> int:
    """Return what tells a value's type from others, the same in every process."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


def _flags(items: Sequence[Any], wanted: Any) -> Flags:
    return np.fromiter((item is wanted for item in items), np.bool_, len(items))


def _hashed(texts: Sequence[bytes]) -> list[Words]:
    pairs = np.frombuffer(b"".join(map(digest, texts)), "<u8").reshape(-1, 2)
    return [pairs[:, 0], pairs[:, 1]]


def _bits(data: NDArray[Any]) -> list[Words]:
    """Return the bits of values of a fixed size, as one word a value, or a word for each number in a row of them."""
    plain = np.ascontiguousarray(data)
    bits = plain.view(f"u{plain.dtype.itemsize}").astype(np.uint64)
    return [bits] if bits.ndim == 1 else list(bits.T)
