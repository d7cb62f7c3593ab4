"""The attributes of a job in YAML, as pydantic models: their JSON schema is what editors and `dg check yaml` know."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Dotted = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
"""A Python object by its dotted name, such as `shop.tables.articles`."""
Span = Annotated[str, Field(pattern=r"^[1-9]\d{0,3}(m|h|d)$")]
"""A time, such as `90m`, `3h` or `1d`."""
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Attributes(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RestAttributes(_Attributes):
    """A JSON API that answers in pages."""

    base_url: str = Field(description="Address of the API, http or https.")
    path: str = Field(description="Path of the listing, with a slash in front.", pattern=r"^/")
    token_env: str | None = Field(default=None, description="Environment variable with the bearer token.")
    items: str = Field(default="items", description="Field of an answer that holds the records.")
    next_token: str = Field(default="next_page_token", description="Field that holds the next page's token.")
    token_param: str = Field(default="page_token", description="Parameter that sends it back.")
    since_param: str | None = Field(
        default=None,
        description="Parameter that asks for changes since the cursor; without one, everything is fetched each time.",
    )


class SourceAttributes(_Attributes):
    """A ready connector."""

    rest: RestAttributes = Field(description="Read a JSON API, page by page.")


class FieldAttributes(_Attributes):
    """How one column is read from a record."""

    source: str | None = Field(default=None, description="Field of the record; dots lead into nested ones.")
    default: Any = Field(default=None, description="Value where the record has no such field.")
    convert: Dotted | None = Field(default=None, description="Function that is applied to the value, by dotted name.")
    mask: bool = Field(default=False, description="Keep the values out of samples, history and the UI.")


class MarkAttributes(_Attributes):
    """Mark missing rows in a column."""

    column: str = Field(description="The column that says that a record is missing.")
    value: Any = Field(description="What the column becomes when the record is missing.")
    otherwise: Any = Field(default=None, description="What it becomes when the record is there again.")


class MissingAttributes(_Attributes):
    """What becomes of rows whose record is gone, where it is more than a word."""

    mark: MarkAttributes = Field(description="Mark them.")


class ChecksAttributes(_Attributes):
    """The checks of the asset; false or null turns one off."""

    outcomes: bool = Field(default=True, description="Each fetched record has exactly one outcome.")
    rejected: Fraction | None = Field(default=0.05, description="Rejected fraction above which it is an error.")
    withheld: bool = Field(default=True, description="No delete was withheld.")
    fetched: Fraction | None = Field(default=0.5, description="Least fraction of what a full fetch usually brings.")
    freshness: Literal["schedule"] | Span | None = Field(
        default="schedule", description="How old the last sync may be: by the schedule, or a time such as 3h."
    )
    dead_messages: bool = Field(default=True, description="No message waits for a person.")
    inbox_lag: Span | None = Field(default="5m", description="How long a message may have been due.")


class RetriesAttributes(_Attributes):
    """How often a broken system is tried again."""

    times: int = Field(default=3, ge=0, description="Attempts after the first.")
    first_wait_s: float = Field(default=10.0, ge=0, le=3600, description="The first wait, in seconds.")
    longest_wait_s: float = Field(default=120.0, ge=0, le=3600, description="The longest wait, in seconds.")


class InboxAttributes(_Attributes):
    """How webhooks are verified."""

    scheme: Literal["standard", "github", "shopify", "stripe", "hmac"] = Field(
        default="standard", description="How messages are signed."
    )
    secret_env: str | None = Field(default=None, description="Environment variable with the secrets.")


class SyncJobAttributes(_Attributes):
    """A table that is kept in step with a source: what `table_sync` takes, in YAML."""

    name: str = Field(description="The job's name; it names asset, schedule, sensor and webhook route.")
    description: str = Field(default="", description="Shown at the asset; default: the fetch's docstring.")
    source: Dotted | SourceAttributes = Field(
        description="The fetch: a Python function by its dotted name, or a ready connector."
    )
    target: Dotted = Field(description="The table: a SQLAlchemy Table or mapped class, by its dotted name.")
    key: str = Field(description="The target's key column, filled from the record's field of the same name.")
    fields: dict[str, str | FieldAttributes] = Field(description="Target column to field of the record.")
    version: str | None = Field(default=None, description="Field of the record that orders an item's states.")
    on_missing: Literal["keep", "delete"] | MissingAttributes = Field(
        default="keep", description="What becomes of rows whose record is gone."
    )
    max_delete_rows: int = Field(default=10, ge=0, description="Guard: missing rows that are always let through.")
    max_delete_fraction: Fraction = Field(default=0.1, description="Guard: fraction of the rows that is let through.")
    max_rejected_fraction: Fraction = Field(default=0.5, description="Rejected fraction above which a run stops.")
    schedule: str | None = Field(
        default=None, description="Interval such as 15m, 6h or 1d, or a cron expression of five fields."
    )
    timezone: str = Field(default="UTC", description="Zone in which the schedule is read.")
    inbox: bool | InboxAttributes = Field(default=True, description="Whether and how the job takes webhooks.")
    checks: ChecksAttributes = Field(default=ChecksAttributes(), description="The checks of the asset.")
    retries: RetriesAttributes = Field(default=RetriesAttributes(), description="Retries of a broken system.")
    create_table: bool = Field(default=False, description="Create the target on the first run.")
    group: str | None = Field(default=None, description="Asset group.")
    owners: list[str] = Field(default=[], description="E-mail addresses, and teams as team:name.")
    tags: dict[str, str] = Field(default={}, description="Tags of the asset.")
    source_kind: str | None = Field(default=None, description="What the source is, in one word.")
