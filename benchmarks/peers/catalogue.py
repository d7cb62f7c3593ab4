"""The tools that sync_defs is compared with, and what each is given."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One tool, and one way to use it."""

    name: str
    title: str
    script: str
    requirements: tuple[str, ...] = ()
    """What its environment gets; none: the environment that runs this."""
    form: str = "pages"
    """What it reads: `pages`, `parquet`, `jsonl` or `sqlite`; made beforehand, which is not timed."""
    deletes: bool = False
    """Rows that are gone from the source go from the target."""
    needs_table: bool = False
    """The target has to be there."""
    most_rows: int | None = None
    """With more rows it is not measured: it would take hours."""


OURS = "sync_defs"
PEERS = (
    Peer(name=OURS, title="sync_defs", script="sync_defs_table", deletes=True),
    Peer(
        name="dlt",
        title="dlt 1.31, merge of dicts",
        script="dlt_merge",
        requirements=("dlt[postgres]==1.31.0",),
        most_rows=100_000,
    ),
    Peer(
        name="dlt_parquet",
        title="dlt 1.31, merge of Parquet by ADBC",
        script="dlt_merge",
        requirements=(
            "dlt[postgres,parquet]==1.31.0",
            "adbc-driver-manager>=1.13,<2",
            "adbc-driver-postgresql>=1.13,<2",
        ),
        form="parquet",
    ),
    Peer(
        name="sling",
        title="Sling 1.4, incremental from JSON lines",
        script="sling_incremental",
        requirements=("sling-linux-amd64==1.4.11",),
        form="jsonl",
    ),
    Peer(
        name="diffsync",
        title="diffsync 2.2",
        script="diffsync_models",
        requirements=("diffsync==2.2.3", "psycopg[binary]>=3.3,<4"),
        deletes=True,
        needs_table=True,
        most_rows=100_000,
    ),
    Peer(
        name="drt",
        title="drt-core 1.2, mirror from SQLite",
        script="drt_mirror",
        requirements=("drt-core==1.2.1", "psycopg2-binary>=2.9,<3"),
        form="sqlite",
        deletes=True,
        needs_table=True,
        most_rows=100_000,
    ),
    Peer(
        name="target_postgres",
        title="target-postgres 0.8 (Singer), upsert",
        script="singer_target",
        requirements=("meltanolabs-target-postgres==0.8.1",),
        most_rows=100_000,
    ),
    Peer(
        name="pandas",
        title="pandas 3.1, to_sql with replace",
        script="pandas_replace",
        requirements=("pandas==3.1.1", "sqlalchemy>=2.1,<2.2", "psycopg[binary]>=3.3,<4"),
        deletes=True,
        most_rows=100_000,
    ),
)
