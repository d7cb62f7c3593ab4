"""The application: its commands, its global options, and how it ends."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated

import typer

from sync_defs.cli import db, inbox, listing, running, serve, up
from sync_defs.cli.deployment import Deployment, deployment_of
from sync_defs.cli.failures import ExitCode, report
from sync_defs.cli.output import say, tell
from sync_defs.cli.stopping import terminating_like_ctrl_c

app = typer.Typer(name="sync-defs", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(listing.jobs)
app.command()(running.run)
app.command()(running.item)
app.add_typer(inbox.app, name="inbox")
app.command()(listing.rejects)
app.add_typer(db.app, name="db")
app.command()(serve.serve)
app.command()(up.up)


@app.callback(invoke_without_command=True)
def options(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; it may hold values.")] = False,
) -> None:
    """Keep the tables of a database in step with external systems."""
    deployment_of(ctx).is_debugging = debug
    if version:
        say(f"sync-defs {_version()}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        sys.stdout.write(ctx.get_help() + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `failures.ExitCode` lists them.

    Args:
        arguments: without the program's name; default: those of the process.
    """
    _print_any_text()
    with Deployment() as deployment, terminating_like_ctrl_c():
        try:
            code = _invoke(sys.argv[1:] if arguments is None else arguments, deployment)
        except BrokenPipeError:
            _forget_stdout()
            return ExitCode.FAILED
        except Exception as error:  # noqa: BLE001 - the boundary: every error becomes a sentence and an exit code
            return report(error, is_debugging=deployment.is_debugging)
        if code == ExitCode.INTERRUPTED:
            tell("sync-defs: [interrupted] stopped by a signal")
        return code


def _invoke(arguments: Sequence[str], deployment: Deployment) -> int:
    try:
        code = app(list(arguments), prog_name="sync-defs", standalone_mode=False, obj=deployment)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return int(code or ExitCode.DONE)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    with suppress(PackageNotFoundError):
        return version("sync_defs")
    return "(not installed)"


def _print_any_text() -> None:
    """Let a narrow encoding show escapes, instead of failing on an item's name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """Keep Python from failing once more on the closed pipe when it exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
