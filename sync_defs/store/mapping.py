"""How a table job's records become rows of a stage, and where the stage's columns meet the target's."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from operator import itemgetter
from typing import Any, cast

from pydantic import TypeAdapter
from sqlalchemy import CHAR, BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, String, Table, Text, types
from sqlalchemy.schema import CreateTable

from sync_defs.engine.external_id import are_plain_ids
from sync_defs.engine.ports import Shaped, Shaper
from sync_defs.errors import ConfigurationError, RecordError
from sync_defs.fields import Field, converted, dict_reader, read_field
from sync_defs.job import SyncJob, TableSync
from sync_defs.store.coerce import Coercer, VersionCheck, canonical, check_version, encode_record
from sync_defs.store.database import Database
from sync_defs.store.dialects import SqlDialect
from sync_defs.store.quick import Quick, column_coercer, each
from sync_defs.store.schema import SCHEMA


def stage_table(
    name: str, dialect: SqlDialect, columns: Sequence[Column[Any]] = (), *, is_temporary: bool = False
) -> Table:
    """Return the definition of a stage: what every stage has, then one nullable column for each mapped one.

    The mapped columns are called `v0`, `v1`, …, in the target's types; `action` is what diff found, `entry` the
    record's fingerprint.
    """
    # Few rows of a table job are joined without it; a callback job marks each one by its number.
    has_key = not is_temporary or not dialect.keeps_item_stage or not columns
    return Table(
        name,
        MetaData(),
        Column("seq", BigInteger, primary_key=has_key, autoincrement=False),
        Column("external_id", String(255)),
        Column("action", String(16)),
        Column("is_deletion", Boolean),
        Column("code", String(64)),
        Column("field", String(255)),
        Column("reason", Text),
        Column("record", Text),
        Column("entry", LargeBinary(24)),
        *[Column(f"v{number}", _stage_type(column.type)) for number, column in enumerate(columns)],
        schema=None if is_temporary else SCHEMA,
        prefixes=("TEMPORARY",) if is_temporary else dialect.stage_prefixes,
    )


def item_stage_table(database: Database, columns: Sequence[Column[Any]]) -> Table:
    """Return the definition of a temporary stage of single items; one that is kept is named by its columns."""
    stage = stage_table("sync_item_stage", database.dialect, columns, is_temporary=True)
    if not database.dialect.keeps_item_stage:
        return stage
    made = str(CreateTable(stage).compile(dialect=database.engine.dialect))
    digest = hashlib.sha256(made.encode()).hexdigest()[:16]
    return stage_table(f"{stage.name}_{digest}", database.dialect, columns, is_temporary=True)


def _stage_type(kind: Any) -> Any:
    if isinstance(kind, types.JSON):
        copied = cast("Any", kind).copy()
        copied.none_as_null = True
        return copied
    return kind


class TableMapping(Shaper):
    """The columns that a table job keeps in step, the key first, each with its field and coercion."""

    def __init__(self, job: TableSync, database: Database) -> None:
        """Compile the job's fields against the target's column types."""
        self._database = database
        self.job = job
        self.target = job.target
        specs: dict[str, Field] = {**job.key, **job.fields}
        policy = job.missing_policy
        if policy.restores and policy.column:
            specs[policy.column] = Field(source=policy.column, convert=lambda _: policy.otherwise, default=None)
        self.names = list(specs)
        self.masked = {name for name, spec in specs.items() if spec.mask}
        self.version_index = self.names.index(job.version) if job.version else None
        self._specs = list(specs.values())
        self._read = dict_reader(self._specs)
        columns = [
            column_coercer(column, database.engine.dialect, keeps_time_zones=database.dialect.keeps_time_zones)
            for column in self.columns
        ]
        self._coerce_key = columns[0].one
        self._columns = [
            column if spec.convert is None else Quick(_after_convert(spec, column.one))
            for spec, column in zip(self._specs, columns, strict=True)
        ]
        self._coercers = [column.one for column in self._columns]
        self._version = each(VersionCheck(database.now, job.version or ""))
        self._is_text_key = isinstance(self.columns[0].type, String)
        [key] = job.key.values()
        is_plain = self._is_text_key and key.convert is None and not key.has_default and "." not in (key.source or "")
        self.plain_key = key.source if is_plain else None
        """The field that is the external id as it is; None where there is more to it."""
        is_counted = self._is_text_key or isinstance(self.columns[0].type, Integer)
        self.takes_integer_ids = key.convert is None and is_counted
        """Whether the external id of an integer is its digits, and nothing else."""

    @cached_property
    def columns(self) -> list[Column[Any]]:
        """Return the target's mapped columns, the key first."""
        return [self.target.columns[name] for name in self.names]

    def id_text(self, external_id: str) -> str:
        """See `Shaper`; an id that does not fit the key stays as it is, and its record is rejected for it."""
        if self._is_text_key:
            return external_id
        try:
            return str(self._coerce_key(external_id))
        except RecordError:
            return external_id

    def ids(self, records: Sequence[Any]) -> Sequence[str] | None:
        """Return the ids of a page of dicts whose key is text of usual characters; None for any other page."""
        if self.plain_key is None or self.job.skips or set(map(type, records)) != {dict}:
            return None
        ids = [record.get(self.plain_key) for record in records]
        return ids if are_plain_ids(ids) else None

    def id_of(self, key: Any) -> str:
        """Return the external id that a key of the target stands for, as `id_text` does for that of a record."""
        text = str(key)
        # A CHAR comes back padded from some databases; no external id ends with a space.
        return self.id_text(text.rstrip(" ") if isinstance(self.columns[0].type, CHAR) else text)

    def ids_of(self, keys: Sequence[Any]) -> Sequence[str]:
        """Return `id_of` of each key of a page."""
        is_id = self._is_text_key and not isinstance(self.columns[0].type, CHAR) and set(map(type, keys)) == {str}
        return keys if is_id else list(map(self.id_of, keys))

    def shape(self, records: Sequence[Any]) -> list[Shaped | Exception]:
        """Return for each record the coerced values in the order of `names`, or its error.

        Works column by column, which takes half the time where the records are dicts and few are bad. A `convert` is
        called once for each record, also where an earlier field of that record is bad.
        """
        try:
            read = [self._read(record) for record in records] if set(map(type, records)) == {dict} else None
        except (KeyError, RecordError):
            read = None
        if read is None or len(read) == 1:
            return [_or_error(self._shape_one, record) for record in records]
        bad: dict[int, Exception] = {}
        columns = [
            _coerced(values, column, bad)
            for values, column in zip(zip(*read, strict=False), self._columns, strict=True)
        ]
        if self.version_index is not None:
            _coerced(columns[self.version_index], self._version, bad)
        rows: list[Shaped | Exception] = list(zip(*columns, strict=False))
        for place, error in bad.items():
            rows[place] = error
        return rows

    def _shape_one(self, record: Any) -> list[Any]:
        try:
            # A call of cast() would take as long as a column.
            raw = self._read(record) if type(record) is dict else None  # pyright: ignore[reportUnknownArgumentType]
        except (KeyError, RecordError):
            raw = None
        if raw is None:
            pairs = zip(self._coercers, self._specs, strict=True)
            values = [coerce(read_field(record, spec)) for coerce, spec in pairs]
        else:
            values = [coerce(value) for coerce, value in zip(self._coercers, raw, strict=False)]
        if self.version_index is not None:
            self._version.one(values[self.version_index])
        return values

    def key_only(self, external_id: str, record: Any = None) -> Sequence[Any] | None:
        """Return the key, and the version if the record tells it, with None for every other column."""
        values: list[Any] = [None] * len(self.names)
        try:
            values[0] = self._coerce_key(external_id)
            if record is not None and self.version_index is not None:
                values[self.version_index] = self.version_of(record, None)
        except RecordError:
            return None if values[0] is None else values
        return values

    def version_of(self, record: Any, values: Sequence[Any] | None) -> Any:
        """Return the value of the version column; read from the record where there are no values."""
        if self.version_index is None:
            return None
        if values is not None:
            return values[self.version_index]
        return self._coercers[self.version_index](read_field(record, self._specs[self.version_index]))

    def versions(self, shaped: Sequence[Shaped | Exception]) -> Sequence[Any] | None:
        """See `Shaper`."""
        if not {list, tuple}.issuperset(map(type, shaped)):
            return None
        if self.version_index is None:
            return [None] * len(shaped)
        return list(map(itemgetter(self.version_index), cast("Sequence[Sequence[Any]]", shaped)))


class RecordShaper(Shaper):
    """A callback job's records wait as JSON text."""

    def __init__(self, job: "SyncJob[Any, Any]", database: Database) -> None:
        """Keep the job for its version callback."""
        self._job = job
        self._database = database
        self._revive = reviver(job)

    def revive(self, record: Any) -> Any:
        """Return the record as the job's `record_type`."""
        return self._revive(record)

    def shape(self, records: Sequence[Any]) -> list[Shaped | Exception]:
        """Return each record as JSON text, or why it cannot be staged: its version may lie in the future."""
        return [_or_error(self._shape_one, record) for record in records]

    def _shape_one(self, record: Any) -> str:
        check_version(self._job.get_version(record), self._database.now(), "version")
        return encode_record(record)

    def key_only(self, external_id: str, record: Any = None) -> Sequence[Any] | None:
        """Return None: the external id alone is the key."""
        return None

    def version_of(self, record: Any, values: Sequence[Any] | None) -> Any:
        """Ask the job."""
        return canonical(self._job.get_version(record))


def reviver(job: "SyncJob[Any, Any]") -> Callable[[Any], Any]:
    """Return what turns a mapping into the job's `record_type`; instances, and jobs without one, pass through."""
    if job.record_type is None:
        return _as_it_is
    adapter = TypeAdapter[Any](job.record_type)

    def revive(record: Any) -> Any:
        if not isinstance(record, Mapping):
            return record
        # A model is staged by the names of its fields; a source's own mappings may use the aliases.
        return adapter.validate_python(record, by_alias=True, by_name=True)

    return revive


def _as_it_is(record: Any) -> Any:
    return record


def check_key_type(job: TableSync) -> None:
    """Check that a key has one text, its external id.

    Raises:
        ConfigurationError: it is of a type in which it has several, such as a float or a time.
    """
    [key] = job.key
    kind = job.target.columns[key].type
    if not _has_one_text(kind):
        raise ConfigurationError(
            f"job {job.name!r}: the key column {key!r} has the type {kind!r}, in which one value has several texts; "
            "an external id needs a column of text, integers, dates or UUIDs",
            code="bad_key_type",
        )


def _has_one_text(kind: Any) -> bool:
    if isinstance(kind, types.TypeDecorator):
        return _has_one_text(cast("Any", kind).impl)
    if isinstance(kind, types.Enum):
        return kind.enum_class is None
    if isinstance(kind, types.Numeric):
        return not isinstance(kind, types.Float) and kind.scale == 0
    return isinstance(kind, types.String | types.Integer | types.Date | types.Uuid)


def _after_convert(spec: Field, coerce: Coercer) -> Coercer:
    return lambda value: coerce(converted(value, spec))


def _coerced(values: Sequence[Any], column: Quick, bad: dict[int, Exception]) -> Sequence[Any]:
    """Coerce a column of a page; adds the errors of records that have none yet to `bad`, by place."""
    if column.many is not None:
        with suppress(RecordError):
            return column.many(values)
    found = [_or_error(column.one, value) for value in values]
    for place, value in enumerate(found):
        if isinstance(value, Exception):
            bad.setdefault(place, value)
    return found


def _or_error(function: Callable[[Any], Any], value: Any) -> Any:
    try:
        return function(value)
    except Exception as error:  # noqa: BLE001 - user code: one bad record must not end the page
        return error
