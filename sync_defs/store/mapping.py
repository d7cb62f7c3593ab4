"""How a table job's records become rows of a stage, and where the stage's columns meet the target's."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from pydantic import TypeAdapter
from sqlalchemy import BigInteger, Boolean, Column, MetaData, String, Table, Text, types

from sync_defs.engine.ports import Shaper
from sync_defs.errors import RecordError
from sync_defs.fields import Field, read_converted, read_field
from sync_defs.job import Job, SyncJob, TableSync, is_callback_job
from sync_defs.store.coerce import check_version, coercer, encode_record
from sync_defs.store.database import Database
from sync_defs.store.dialects import SqlDialect
from sync_defs.store.schema import SCHEMA


def stage_table(name: str, dialect: SqlDialect, columns: Sequence[Column[Any]] = ()) -> Table:
    """Return the definition of a stage: what every stage has, then one nullable column for each mapped one.

    The mapped columns are called `v0`, `v1`, …, in the target's types; `action` is what diff found.
    """
    return Table(
        name,
        MetaData(),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("external_id", String(255)),
        Column("action", String(16)),
        Column("is_deletion", Boolean),
        Column("code", String(64)),
        Column("field", String(255)),
        Column("reason", Text),
        Column("record", Text),
        *[Column(f"v{number}", _stage_type(column.type)) for number, column in enumerate(columns)],
        schema=SCHEMA,
        prefixes=dialect.stage_prefixes,
    )


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
        self._readers = [
            (spec, coercer(self.target.columns[name], keeps_time_zones=database.dialect.keeps_time_zones))
            for name, spec in specs.items()
        ]
        self.masked = {name for name, spec in specs.items() if spec.mask}
        self.version_index = self.names.index(job.version) if job.version else None

    @cached_property
    def columns(self) -> list[Column[Any]]:
        """Return the target's mapped columns, the key first."""
        return [self.target.columns[name] for name in self.names]

    def id_text(self, external_id: str) -> str:
        """See `Shaper`; an id that does not fit the key stays as it is, and its record is rejected for it."""
        if isinstance(self.columns[0].type, String):
            return external_id
        try:
            return str(self._readers[0][1](external_id))
        except RecordError:
            return external_id

    def shape(self, record: Any) -> tuple[Sequence[Any] | None, str | None]:
        """Return the coerced values in the order of `names`.

        Raises:
            RecordError: a field is missing, `convert` raised, or a value does not fit its column.
        """
        values = [_read(record, spec, coerce) for spec, coerce in self._readers]
        if self.version_index is not None:
            check_version(values[self.version_index], self._database.now(), self.names[self.version_index])
        return values, None

    def key_only(self, external_id: str, record: Any = None) -> Sequence[Any] | None:
        """Return the key, and the version if the record tells it, with None for every other column."""
        values: list[Any] = [None] * len(self.names)
        try:
            values[0] = self._readers[0][1](external_id)
            if record is not None and self.version_index is not None:
                spec, coerce = self._readers[self.version_index]
                values[self.version_index] = coerce(read_field(record, spec))
        except RecordError:
            return None if values[0] is None else values
        return values

    def version_of(self, record: Any, values: Sequence[Any] | None) -> Any:
        """Return the value of the version column."""
        return values[self.version_index] if values is not None and self.version_index is not None else None


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

    def shape(self, record: Any) -> tuple[Sequence[Any] | None, str | None]:
        """Return the record as JSON text.

        Raises:
            RecordError: the record cannot be staged, or its version lies in the future.
        """
        check_version(self._job.get_version(record), self._database.now(), "version")
        return None, encode_record(record)

    def key_only(self, external_id: str, record: Any = None) -> Sequence[Any] | None:
        """Return None: the external id alone is the key."""
        return None

    def version_of(self, record: Any, values: Sequence[Any] | None) -> Any:
        """Ask the job."""
        return self._job.get_version(record)


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


def shaper_for(job: Job, database: Database) -> Shaper:
    """Return the shaper of either kind of job."""
    if is_callback_job(job):
        return RecordShaper(job, database)
    return TableMapping(cast("TableSync", job), database)


def _read(record: Any, spec: Field, coerce: Any) -> Any:
    return coerce(read_converted(record, spec))
