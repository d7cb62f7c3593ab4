"""What the commands work on: settings, jobs and database of this folder, each made when first needed."""

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self

import typer

from sync_defs.errors import ConfigurationError, UnknownJobError
from sync_defs.job import Job

if TYPE_CHECKING:
    from sync_defs.settings import Settings
    from sync_defs.store.database import Database


class Deployment:
    """One command's view of the deployment."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self.is_debugging = False

    @cached_property
    def settings(self) -> "Settings":
        """Return the settings, from the environment and `.env`.

        Raises:
            ConfigurationError: a variable's value is of no use; names it and does not repeat the value.
        """
        from pydantic import ValidationError

        from sync_defs.settings import Settings

        try:
            return Settings()
        except ValidationError as error:
            problems = [f"SYNC_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
            raise ConfigurationError("; ".join(problems)) from None

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """Return the jobs by name.

        Raises:
            ConfigurationError: there is no such package, or a job in it is not valid.
        """
        from sync_defs.jobs import load_jobs

        # A script's path lacks the current folder, where Dagster and `python -m` find the same module.
        if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds text
            sys.path.append(os.getcwd())  # noqa: PTH109
        module = self.settings.jobs_module
        try:
            is_package = bool(getattr(find_spec(module), "submodule_search_locations", None))
        except (ModuleNotFoundError, ValueError):
            is_package = False
        if not is_package:
            raise ConfigurationError(f"SYNC_JOBS_MODULE: there is no package {module!r}")
        return load_jobs(module)

    @cached_property
    def database(self) -> "Database":
        """Return the database; no connection is open yet."""
        from sync_defs.store.database import Database

        return Database(self.settings.database_url.get_secret_value())

    def job(self, name: str) -> Job:
        """Return a job by name.

        Raises:
            UnknownJobError: there is none; lists the known ones.
        """
        if name not in self.jobs:
            raise UnknownJobError(name, list(self.jobs))
        return self.jobs[name]

    def close(self) -> None:
        """Close the database, if it was used."""
        if "database" in self.__dict__:
            self.database.close()

    @contextmanager
    def resources(self, job: Job) -> Generator[Mapping[str, object]]:
        """Open what the job's fetch takes, for the block."""
        from sync_defs.jobs import open_resources

        with open_resources(self.settings, job.resource_names) as resources:
            yield resources

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def deployment_of(ctx: typer.Context) -> Deployment:
    """Return the deployment that `main` gave to the command."""
    return ctx.ensure_object(Deployment)
