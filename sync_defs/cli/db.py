"""`db`: the bookkeeping tables."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sync_defs.cli.deployment import deployment_of
from sync_defs.cli.failures import ExitCode
from sync_defs.cli.output import say, say_json
from sync_defs.cli.running import AsJson
from sync_defs.errors import DatabaseNotReadyError

if TYPE_CHECKING:
    from sync_defs.store.database import Database

app = typer.Typer(help="Migrate, check and prune the tables.", no_args_is_help=True)


@app.command()
def upgrade(ctx: typer.Context) -> None:
    """Create or migrate the bookkeeping tables; safe to repeat."""
    from sync_defs.store.database import REVISION

    database = deployment_of(ctx).database
    before = revision_of(database)
    database.upgrade()
    if before == REVISION:
        say(f"{database.label} was at {REVISION} already")
    else:
        say(f"{database.label} is now at {REVISION}, was at {before or 'none'}")


@app.command()
def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Tell whether the bookkeeping tables fit this version; exit with 2 if they do not."""
    from sync_defs.store.database import REVISION

    database = deployment_of(ctx).database
    revision = revision_of(database)
    is_ready = revision == REVISION
    if as_json:
        say_json({"database": database.label, "revision": revision, "needed": REVISION, "is_ready": is_ready})
    elif is_ready:
        say(f"{database.label} is at {revision}: ready")
    else:
        cure = "update sync_defs" if revision and revision > REVISION else "run: sync-defs db upgrade"
        say(f"{database.label} is at {revision or 'none'}, needed is {REVISION}; {cure}")
    if not is_ready:
        raise typer.Exit(ExitCode.WRONG)


@app.command()
def prune(
    ctx: typer.Context,
    days: Annotated[
        int | None,
        typer.Option("--days", min=0, max=36_500, metavar="N", help="Keep N days of history; 0 keeps all."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Delete old history, runs and message ids, and bury messages of jobs that are gone."""
    from sync_defs.maintenance import prune as prune_database

    deployment = deployment_of(ctx)
    history_days = deployment.settings.history_days if days is None else days
    jobs = deployment.jobs
    deployment.database.ensure_ready()
    pruned = prune_database(deployment.database, jobs=jobs, history_days=history_days)
    if as_json:
        say_json({"history_days": history_days, **asdict(pruned)})
    else:
        say(pruned.summary())


def revision_of(database: "Database") -> str | None:
    """Return the migration that the database is at.

    Raises:
        DatabaseNotReadyError: it cannot be reached.
    """
    from sqlalchemy.exc import DBAPIError

    try:
        return database.revision()
    except DBAPIError as error:
        raise DatabaseNotReadyError(
            f"cannot use the database {database.label}: {type(error.orig).__name__}; check that it runs, "
            "the address, the user and the password",
            code="database_unreachable",
        ) from None
