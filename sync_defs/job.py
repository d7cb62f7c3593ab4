"""Sync jobs: what a user writes.

Two ways to write one, a single engine for both: `table_sync` (declarative, set-based) and `SyncJob` (the
pattern of callbacks, any logic). This module knows neither a database nor Dagster.
"""

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeGuard, TypeVar, Unpack, cast

from sync_defs.errors import ConfigurationError, MessageError
from sync_defs.fields import Deletion, Field, read_converted
from sync_defs.options import Options, callable_problem, options_problem, read_mapping
from sync_defs.policies import JobOptions, MissingAction
from sync_defs.results import SyncResults

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.orm import DeclarativeBase, Session

R = TypeVar("R")
"""A record, one item from outside."""
L = TypeVar("L")
"""A row, its counterpart in the target."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_RESERVED = frozenset({"self", "cursor", "external_ids", "partition"})


class Job(Options, ABC):
    """What the engine needs of a job, whichever way it was written; its options are those of `Options`."""

    @abstractmethod
    def fetch_external(self, *args: Any, **kwargs: Any) -> Any:
        """Return or yield records, or pages of records.

        Parameters are passed by name: `cursor` is the `Cursor`, `partition` the key of the partition that the run is
        of, any other name is a resource. May be called again
        for a retry. Raise `FetchError` (or anything) when the source fails: the run fails, nothing is deleted.
        """

    @abstractmethod
    def get_external_id(self, record: Any) -> object:
        """Return the id of a record, text or integer; an exception rejects this record alone."""

    def should_skip(self, record: Any) -> bool:
        """Tell whether a record is left alone; its row then counts as present."""
        return False

    @property
    def skips(self) -> bool:
        """Tell whether the job has a `should_skip` of its own."""
        return getattr(self.should_skip, "__func__", None) is not Job.should_skip

    def on_start(self) -> None:
        """Run before the fetch; an exception fails the run."""

    def on_complete(self, results: SyncResults) -> None:
        """Run after success and after failure alike; an exception is logged and changes nothing."""

    def extract_items(self, payload: Any) -> Iterable[Any]:
        """Return the records, or `Deletion`s, that a webhook payload carries.

        The default takes `payload["data"]` (one object or a list) where `type` and `data` are present, as in
        Standard Webhooks, and else the payload itself. A `type` that ends in `deleted` gives a `Deletion`.

        Raises:
            MessageError: the payload is not an object.
        """
        if not isinstance(payload, Mapping):
            raise MessageError("the payload is not a JSON object", code="external_id_missing")
        body = cast("Mapping[str, Any]", payload)
        items: Any = body.get("data", body)
        records = list[Any](cast("list[Any]", items)) if isinstance(items, list) else [items]
        if str(body.get("type", "")).endswith("deleted") and "data" in body:
            return [self._deletion(record) for record in records]
        return records

    def _deletion(self, record: Any) -> Deletion:
        return Deletion(external_id=self.get_external_id(record), record=record)

    @property
    def has_fetch_items(self) -> bool:
        """Tell whether the source can be asked for chosen ids."""
        return False

    def fetch_items(self, *args: Any, **kwargs: Any) -> Any:
        """Return the records with the given `external_ids` (by name, as the resources); else a fetch is filtered."""
        raise NotImplementedError

    @property
    def is_incremental(self) -> bool:
        """Tell whether the fetch goes on from a cursor."""
        return "cursor" in parameters(self.fetch_external)

    @property
    def is_partitioned(self) -> bool:
        """Tell whether each run is of one partition, whose rows alone can be missing."""
        return "partition" in parameters(self.fetch_external)

    @property
    def tells_partitions(self) -> bool:
        """Tell whether the rows of a partition can be told from the others."""
        return False

    @property
    def resource_names(self) -> frozenset[str]:
        """Return the names of the resources that the fetches need."""
        names = frozenset(parameters(self.fetch_external)) - _RESERVED
        return names | self.items_resource_names if self.has_fetch_items else names

    @property
    def items_resource_names(self) -> frozenset[str]:
        """Return the names of the resources that `fetch_items` needs."""
        return frozenset(parameters(self.items_function)) - _RESERVED

    @property
    def items_function(self) -> Callable[..., Any]:
        """Return the callable behind `fetch_items`, whose parameters name resources."""
        return self.fetch_items

    def validate(self) -> None:
        """Check what can be checked without a database.

        Raises:
            ConfigurationError: naming the option, what is wrong with it and what is allowed.
        """
        name: object = getattr(self, "name", None)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(f"job name {name!r}: a name must match [a-z][a-z0-9_]{{0,62}}")
        problem = self._problem()
        if problem:
            raise ConfigurationError(f"job {name!r}: {problem}")

    def _problem(self) -> str | None:
        problem = options_problem({name: getattr(self, name) for name in JobOptions.__annotations__})
        if problem is None and self.refetch and not self.has_fetch_items:
            return "refetch=True needs fetch_items, which asks the source for chosen ids"
        return problem or self._partition_problem()

    def _partition_problem(self) -> str | None:
        if not self.is_partitioned:
            return None if self.partitions_def is None else "partitions_def= needs a fetch with a parameter partition"
        if self.is_incremental:
            return "a fetch has a parameter cursor or partition, not both: where a fetch goes on is kept for the job"
        if self.missing_policy.action is not MissingAction.KEEP and not self.tells_partitions:
            return f"on_missing needs to know which rows are a partition's: {self._partition_hint}"
        return None

    _partition_hint = "give in_partition="


class SyncJob(Job, Generic[R, L]):
    """A job of callbacks: any logic, record by record, generic over record and row.

    The engine hands in a SQLAlchemy session in a savepoint, and reads it to tell `updated` from `unchanged`; so
    callbacks just set attributes. They must not commit. They may be called again for a record after its first call was
    rolled back: where another record has failed beside it, or the run was killed. What they do outside the session has
    to bear that.

    Example:
        ```python
        class ErpCustomers(SyncJob[dict[str, object], Customer]):
            name = "erp_customers"

            def fetch_external(self, erp: ErpClient) -> Iterable[list[dict[str, object]]]:
                yield from erp.customers()

            def get_external_id(self, record):
                return record["number"]

            def find_local(self, session, external_id):
                return session.scalar(select(Customer).where(Customer.number == external_id))

            def create(self, session, record):
                session.add(Customer(number=record["number"], name=record["name"]))

            def update(self, session, row, record):
                row.name = record["name"]
        ```
    """

    record_type: ClassVar[Any] = None
    """Dataclass or pydantic model that staged records are read back into; None: they come back as mappings."""
    masked_fields: ClassVar[frozenset[str]] = frozenset()
    """Attributes of the row whose values stay out of samples and history."""
    create_tables: ClassVar[Sequence[Any]] = ()
    """Mapped classes or tables that the first run creates, in this order, where they do not exist."""
    depends_on_record_alone: ClassVar[bool] = False
    """What the callbacks make of a record follows from the record and its row, and from nothing else: no clock, no
    other table, no other service. Then a record that is as it was when its row was last in step is known by its
    fingerprint, and no callback but `get_external_id` and `should_skip` is called for it."""
    code_version: ClassVar[str] = ""
    """To be changed when something changes that the callbacks call, so that no record is known by its fingerprint.
    The methods of the class itself are watched without it."""

    @abstractmethod
    def find_local(self, session: "Session", external_id: str) -> L | None:
        """Return the row of an external id, or None."""

    @abstractmethod
    def create(self, session: "Session", record: R) -> Any:
        """Add a row for the record to the session."""

    @abstractmethod
    def update(self, session: "Session", row: L, record: R) -> Any:
        """Set the row's attributes from the record; setting an equal value is no change."""

    def find_local_many(self, session: "Session", external_ids: Sequence[str]) -> Mapping[str, L]:
        """Return the rows of many ids at once; the default asks `find_local` one by one."""
        found = {external_id: self.find_local(session, external_id) for external_id in external_ids}
        return {external_id: row for external_id, row in found.items() if row is not None}

    def delete(self, session: "Session", row: L) -> Any:
        """Delete a missing row; the default deletes the object from the session."""
        session.delete(row)

    def local_external_ids(self, session: "Session") -> Iterable[str]:
        """Yield the external ids of all rows; needed for `on_missing` other than keep."""
        raise ConfigurationError(
            f"job {self.name!r}: on_missing needs local_external_ids(), which yields the ids of all rows"
        )

    def get_version(self, record: R) -> Any:
        """Return the source's version of a record, comparable with `get_local_version`; None: no guard."""
        return None

    def get_local_version(self, row: L) -> Any:
        """Return the version that a row holds; None: no guard."""
        return None

    _partition_hint = "give local_external_ids() a parameter partition"

    @property
    def tells_partitions(self) -> bool:
        """Tell whether `local_external_ids` takes a partition."""
        return "partition" in parameters(self.local_external_ids)

    @property
    def lists_rows(self) -> bool:
        """Tell whether the subclass has `local_external_ids`."""
        return type(self).local_external_ids is not SyncJob[Any, Any].local_external_ids

    @property
    def has_fetch_items(self) -> bool:
        """Tell whether the subclass overrides `fetch_items`."""
        return type(self).fetch_items is not Job.fetch_items

    def _deletion(self, record: Any) -> Deletion:
        # Whoever has made a `record_type` of it asks for its id: this module cannot.
        return super()._deletion(record) if self.record_type is None else Deletion(record=record)

    def _problem(self) -> str | None:
        problem = super()._problem()
        if problem is None and self.missing_policy.action is not MissingAction.KEEP and not self.lists_rows:
            return "on_missing needs local_external_ids(), which yields the ids of all rows"
        return problem


class TableSync(Job):
    """A declarative, set-based job; made by `table_sync`."""

    def __init__(
        self,
        fetch: Callable[..., Any],
        *,
        name: str,
        target: "Table",
        key: str | Mapping[str, str | Field],
        fields: Mapping[str, str | Field],
        version: str | None = None,
        should_skip: Callable[[Any], bool] | None = None,
        fetch_items: Callable[..., Any] | None = None,
        in_partition: "Callable[[Table, str], ColumnElement[bool]] | None" = None,
        create_table: bool = False,
        **options: Unpack[JobOptions],
    ) -> None:
        """See `table_sync`."""
        self.in_partition = in_partition
        self._fetch = fetch
        self._should_skip = should_skip
        self._fetch_items = fetch_items
        self.name = name
        self.target = target
        self.create_table = create_table
        for option, value in options.items():
            if option not in JobOptions.__annotations__:
                raise ConfigurationError(f"job {name!r}: there is no option {option!r}")
            setattr(self, option, value)
        self.key, self.fields, self.version = read_mapping(name, key, fields, version)
        self.validate()
        self._check_columns()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the decorated function, as in a plain test of it."""
        return self._fetch(*args, **kwargs)

    @property
    def fetch_external(self) -> Callable[..., Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The decorated function."""
        return self._fetch

    def get_external_id(self, record: Any) -> object:
        """Return the key's value in a record, converted as the column's."""
        [field] = self.key.values()
        return read_converted(record, field)

    @property
    def skips(self) -> bool:
        """Tell whether the job was given `should_skip`."""
        return self._should_skip is not None

    def should_skip(self, record: Any) -> bool:
        """Ask the `should_skip` that the job was given, if any."""
        return self._should_skip is not None and self._should_skip(record)

    @property
    def has_fetch_items(self) -> bool:
        """Tell whether the job was given `fetch_items`."""
        return self._fetch_items is not None

    @property
    def items_function(self) -> Callable[..., Any]:
        """Return the `fetch_items` that the job was given."""
        if self._fetch_items is None:
            raise NotImplementedError
        return self._fetch_items

    def fetch_items(self, external_ids: Sequence[str], **resources: Any) -> Any:
        """Ask the given `fetch_items` for chosen ids."""
        return self.items_function(external_ids=external_ids, **resources)

    @property
    def tells_partitions(self) -> bool:
        """Tell whether the job was given `in_partition`."""
        return self.in_partition is not None

    @property
    def key_column(self) -> str:
        """Return the name of the target's key column."""
        return next(iter(self.key))

    def _problem(self) -> str | None:
        return (
            super()._problem()
            or callable_problem("should_skip", self._should_skip)
            or callable_problem("fetch_items", self._fetch_items)
            or callable_problem("in_partition", self.in_partition)
        )

    def _check_columns(self) -> None:
        names = set(self.target.columns.keys())
        wanted = [*self.key, *self.fields]
        column = self.missing_policy.column
        for name in [*wanted, *([column] if column else [])]:
            if name not in names:
                raise ConfigurationError(
                    f"job {self.name!r}: table {self.target.name!r} has no column {name!r}; "
                    f"it has {', '.join(sorted(names))}"
                )
        for column in self.target.columns:
            if column.default is not None and column.default.is_callable and column.name not in wanted:
                raise ConfigurationError(
                    f"job {self.name!r}: column {column.name!r} of table {self.target.name!r} has a Python default, "
                    "which a set-based insert would give to all rows alike; map the column or use server_default="
                )
        if not _is_unique(self.target, self.key_column):
            raise ConfigurationError(
                f"job {self.name!r}: key column {self.key_column!r} of table {self.target.name!r} is neither the "
                "primary key nor unique; give it a unique constraint"
            )


def table_sync(
    *,
    target: "Table | type[DeclarativeBase]",
    key: str | Mapping[str, str | Field],
    fields: Mapping[str, str | Field],
    version: str | None = None,
    name: str | None = None,
    should_skip: Callable[[Any], bool] | None = None,
    fetch_items: Callable[..., Any] | None = None,
    in_partition: "Callable[[Table, str], ColumnElement[bool]] | None" = None,
    create_table: bool = False,
    **options: Unpack[JobOptions],
) -> Callable[[Callable[..., Any]], TableSync]:
    """Turn a fetch function into a sync job that keeps a table in step with it.

    Args:
        target: the table to keep in step, a SQLAlchemy `Table` or a mapped class.
        key: the target's key column, filled from the record's field of the same name, or `{column: field}`. It must
            be unique in the target; its value is the external id.
        fields: target column to record field (or `Field`) for every column to keep in step.
        version: record field that orders an item's states (a time or a number that grows). It is kept in the target
            column that `fields` maps to it, or in the column of the same name. Older records are `stale`.
        name: the job's name; default: the function's.
        should_skip: tells whether a record is left alone.
        fetch_items: asks the source for chosen ids; called with `external_ids` and resources by name.
        in_partition: given the table and a partition's key, returns the SQL condition for its rows, such as
            `lambda table, key: table.c.shop == key`; needed for `on_missing` other than keep.
        create_table: create the target on the first run if it does not exist.
        **options: see `JobOptions`.

    Raises:
        ConfigurationError: when the decorated function is bound; names the option and the way out.
    """

    def decorate(fetch: Callable[..., Any]) -> TableSync:
        table = cast("Table", getattr(target, "__table__", target))
        given = options.copy()
        given.setdefault("description", inspect.getdoc(fetch) or "")
        return TableSync(
            fetch,
            name=name or getattr(fetch, "__name__", ""),
            target=table,
            key=key,
            fields=fields,
            version=version,
            should_skip=should_skip,
            fetch_items=fetch_items,
            in_partition=in_partition,
            create_table=create_table,
            **given,
        )

    return decorate


def is_callback_job(job: Job) -> "TypeGuard[SyncJob[Any, Any]]":
    """Tell whether a job is one of callbacks."""
    return isinstance(job, SyncJob)


def parameters(function: Callable[..., Any]) -> list[str]:
    """Return the names of a fetch function's parameters, which name what is passed in."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [name for name, p in inspect.signature(function).parameters.items() if p.kind not in kinds]


def _is_unique(table: "Table", column: str) -> bool:
    if [c.name for c in table.primary_key.columns] == [column] or table.columns[column].unique:
        return True
    groups: list[Any] = [index.columns for index in table.indexes if index.unique]
    # By name: this module does not load SQLAlchemy.
    constraints: list[Any] = [c for c in table.constraints if type(c).__name__ == "UniqueConstraint"]
    groups += [constraint.columns for constraint in constraints]
    return any([c.name for c in group] == [column] for group in groups)
