"""The command line, `sync-defs`.

May import everything but Dagster, pandas and Alembic; what a command needs is imported when it runs.

In reading order: `output` (what is printed), `deployment` (settings, jobs and database of this folder),
`failures` (errors and exit codes), `stopping` (signals), `progress` (a run under way), `running` (`run` and
`item`), `listing` (`jobs` and `rejects`), `inbox`, `db`, `ports`, `serve`; for `up`: `children` (processes),
`first_syncs` (Dagster's GraphQL), `feed` (runs that end meanwhile), `stack` (what is started, and with which
settings), `up`; at last `app`, which ties the commands together.
"""

from sync_defs.cli.app import main

__all__ = ["main"]
