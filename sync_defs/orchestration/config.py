"""The launchpad's one block of options."""

from collections.abc import Mapping
from typing import Any, Final

import dagster as dg

from sync_defs.engine import RunRequest
from sync_defs.errors import ConfigurationError

# Fields rather than a `dg.Config`: behind a config mapping, Dagster 1.13 answers what a `dg.Config` refuses (null for a
# switch, a number below a bound) with HTTP 500 instead of a sentence. `RunRequest` checks the bounds.
LAUNCHPAD: Final[Mapping[str, dg.Field]] = {
    "dry_run": dg.Field(
        bool,
        default_value=False,
        description="Take the same path and write nothing; the counts are those of a real run.",
    ),
    "full": dg.Field(bool, default_value=False, description="Ignore the cursor and fetch everything."),
    "external_ids": dg.Field(
        [str],
        default_value=[],
        description="Sync only the records with these external ids; empty: all. Nothing is then missing.",
    ),
    "since": dg.Field(
        dg.Noneable(str),
        default_value=None,
        description="Fetch from here on, in place of the stored cursor, which this run leaves where it is; text in the "
        "form that the job's cursor has, such as 2026-01-31T00:00:00Z. Not together with full or external_ids.",
    ),
    "allow_deletes": dg.Field(
        dg.Noneable(int),
        default_value=None,
        description="Allow up to so many missing rows to be deleted or marked in this run, in place of the job's "
        "guards; null: the guards decide.",
    ),
}
"""What to ask of one run; the defaults make the run that the schedule makes."""


def request_for(config: Mapping[str, Any], **of_the_run: Any) -> RunRequest:
    """Return the engine's request for a launchpad config that Dagster has checked against `LAUNCHPAD`.

    `of_the_run` are the other fields of the request, which nobody sets by hand.

    Raises:
        ConfigurationError: an option has a value of no use, or two options contradict each other.
    """
    if config["full"] and config["external_ids"]:
        raise ConfigurationError("full and external_ids exclude each other; give one of them")
    return RunRequest(
        dry_run=config["dry_run"],
        full=config["full"],
        external_ids=tuple(config["external_ids"]),
        since=config["since"],
        allow_deletes=config["allow_deletes"],
        **of_the_run,
    )
