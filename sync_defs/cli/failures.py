"""Errors as a person and a script meet them: one sentence on stderr, and an exit code."""

import sysconfig
import traceback
from enum import IntEnum
from types import TracebackType

import typer

from sync_defs.cli.output import tell
from sync_defs.errors import BusyError, ConfigurationError, SyncError


class ExitCode(IntEnum):
    """What a command returns; `docs/cli.md` has the same list."""

    DONE = 0
    """It did what it was asked to; rejected records do not change that unless `--fail-on-reject` says so."""
    FAILED = 1
    """The sync failed, or a process did; trying again later may help."""
    WRONG = 2
    """The command line, a setting, a job or the database needs to be changed first."""
    REJECTED = 3
    """Done, but records were rejected (`run --fail-on-reject`), or the one item was (`item`)."""
    BUSY = 4
    """Another run of the job is under way."""
    INTERRUPTED = 130
    """Stopped by SIGINT or SIGTERM; a run is recorded as failed."""


def report(error: Exception, *, is_debugging: bool) -> ExitCode:
    """Tell on stderr what went wrong, and return the exit code that says the same."""
    if is_debugging:
        traceback.print_exception(error)
    if isinstance(error, typer.TyperException):
        hint = getattr(getattr(error, "ctx", None), "command_path", "sync-defs")
        tell(f"sync-defs: [usage] {error.format_message()} Try: {hint} --help")
        return ExitCode.WRONG
    if isinstance(error, SyncError):
        tell(f"sync-defs: [{error.code}] {error}")
        return _code_of(error)
    # The text of somebody else's error may hold values, so that only its kind and place are shown.
    text = f": {error}" if isinstance(error, ImportError) else ""
    place = _place(error.__traceback__)
    hint = "" if is_debugging else "; --debug shows the traceback"
    tell(f"sync-defs: [unexpected] {type(error).__name__}{text}{place}{hint}")
    return ExitCode.FAILED


def _code_of(error: SyncError) -> ExitCode:
    if isinstance(error, ConfigurationError):
        return ExitCode.WRONG
    return ExitCode.BUSY if isinstance(error, BusyError) else ExitCode.FAILED


def _place(trace: TracebackType | None) -> str:
    """Return where it happened: the last line of code that is neither a package's nor Python's."""
    others = ("<", *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
    frames = [frame for frame in traceback.extract_tb(trace) if not frame.filename.startswith(others)]
    return f" in {frames[-1].name} ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
