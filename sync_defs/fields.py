"""What a fetch meets: the cursor, the fields of a record and how they are read, and the news that an item is gone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, cast

from sync_defs.errors import RecordError

_UNSET: Final = object()


class Cursor:
    """Where an incremental fetch goes on; an op's own view of `sync_cursors`.

    A fetch reads `value` (None: fetch everything) and may call `advance`. Without a call, the cursor moves to the
    newest `version` that was fetched. It is stored in the transaction of the rows.
    """

    def __init__(self, value: str | None = None) -> None:
        """Start at a stored value, or at None for a full fetch."""
        self.value: Final = value
        self.advanced_to: str | None = None

    def advance(self, value: str) -> None:
        """Set where the next fetch goes on, once this run has succeeded."""
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] - user code is not checked
            raise TypeError(f"a cursor is text, not {type(value).__name__}; use isoformat() for a time")
        self.advanced_to = value


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """How one target column is read from a record."""

    source: str | None = None
    """Key or attribute of the record; dots go into nested ones (`address.city`). Default: the column's name."""
    convert: Callable[[Any], object] | None = None
    """Applied to the record's value before it is coerced to the column's type; an exception rejects the record."""
    default: object = _UNSET
    """Value where the record has no such key; without one the record is rejected."""
    mask: bool = False
    """Keep the values out of samples, history and the UI."""

    @property
    def has_default(self) -> bool:
        """Tell whether a record may lack the field."""
        return self.default is not _UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """A message that says that an item is gone; `on_missing` decides what happens to its row."""

    external_id: object = None
    """None: the job's `get_external_id` tells it of the record."""
    record: Any = None
    """Last known state, if the message has it: its version guards against a late delete."""


def read_field(record: Any, field: Field) -> object:
    """Return the raw value of a field in a record, a mapping or an object with attributes.

    Raises:
        RecordError: the record lacks the field and the field has no default, or it is not a record at all.
    """
    path = field.source or ""
    value = _get(record, path)
    if value is _UNSET and "." in path:
        value = record
        for part in path.split("."):
            value = _get(value, part) if value is not _UNSET and value is not None else _UNSET
    if value is not _UNSET:
        return value
    if record is None or isinstance(record, str | bytes | int | float):
        raise RecordError(f"a record is a mapping or an object, not {type(record).__name__}", code="bad_item")
    if not field.has_default:
        raise RecordError("the record has no such field", code="missing_field", field=path)
    return field.default


def read_converted(record: Any, field: Field) -> object:
    """Return a field's value after the field's `convert`.

    Raises:
        RecordError: as `read_field`; or `convert` raised.
    """
    return converted(read_field(record, field), field)


def converted(value: object, field: Field) -> object:
    """Return a value that was read after the field's `convert`.

    Raises:
        RecordError: `convert` raised.
    """
    if field.convert is None:
        return value
    try:
        return field.convert(value)
    except Exception as error:  # noqa: BLE001 - user code: one record's conversion must not end the sync
        raise RecordError(f"convert raised {type(error).__name__}", code="convert_failed", field=field.source) from None


def dict_reader(fields: Sequence[Field]) -> Callable[[dict[str, Any]], Sequence[Any]]:
    """Return a function that reads all the fields of a dict at once, in order, as `read_field` would one by one.

    Where it raises `KeyError` or `RecordError`, a field is absent; `read_field` tells which is the first.
    """
    odd: list[tuple[int, Field]] = []
    names: list[str] = []
    for place, field in enumerate(fields):
        name = field.source or ""
        if field.has_default or "." in name:
            odd.append((place, field))
        else:
            names.append(name)

    def read(record: dict[str, Any]) -> Sequence[Any]:
        values = [record[name] for name in names]
        for place, field in odd:
            values.insert(place, read_field(record, field))
        return values

    return read if odd or len(names) < 2 else itemgetter(*names)


def _get(record: Any, name: str) -> Any:
    # A dict is asked for first: the abstract class takes ten times as long to say yes.
    if type(record) is dict or isinstance(record, Mapping):
        return cast("Mapping[str, Any]", record).get(name, _UNSET)
    return getattr(record, name, _UNSET) if name.isidentifier() and not name.startswith("_") else _UNSET
