"""Finding the jobs of a deployment."""

import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from sync_defs.errors import ConfigurationError
from sync_defs.job import Job, SyncJob


def load_jobs(module: str = "sync_defs.jobs") -> dict[str, Job]:
    """Import the folders of a package and return the jobs in them, by name, sorted.

    These stand at module level, or in a file `defs.yaml`.

    Raises:
        ConfigurationError: two jobs have one name, a job is not valid, or a folder holds a `SyncJob` class without an
            instance.
        ImportError: a folder's own imports fail; nothing is hidden.
    """
    package = import_module(module)
    found: dict[str, tuple[Job, str]] = {}
    for place, jobs in [*_written(package), *_declared(package)]:
        for job in jobs:
            job.validate()
            other, where = found.setdefault(job.name, (job, place))
            if other is not job:
                raise ConfigurationError(
                    f"two jobs are named {job.name!r}, in {where} and {place}; rename one",
                    code="duplicate_job",
                )
    return {name: found[name][0] for name in sorted(found)}


def _written(package: ModuleType) -> Iterator[tuple[str, list[Job]]]:
    """Yield the folders that are packages, each with the jobs that stand in it at module level."""
    for folder in _folders(package):
        jobs = [value for value in vars(folder).values() if isinstance(value, Job)]
        _refuse_forgotten_classes(folder, jobs)
        yield folder.__name__, jobs


def _declared(package: ModuleType) -> Iterator[tuple[str, Sequence[Job]]]:
    """Yield the files with jobs in YAML, and these; their folders need not be packages."""
    for path in sorted(path for place in package.__path__ for path in Path(place).glob("*/defs.yaml")):
        from sync_defs.declared import read_jobs  # pydantic and yaml: not for deployments without such a file

        yield str(path), read_jobs(path)


def _folders(package: ModuleType) -> Iterator[ModuleType]:
    for entry in sorted(pkgutil.iter_modules(package.__path__), key=lambda entry: entry.name):
        if entry.ispkg:
            yield import_module(f"{package.__name__}.{entry.name}")


def _refuse_forgotten_classes(folder: ModuleType, jobs: list[Job]) -> None:
    used = {base for job in jobs for base in type(job).__mro__}
    for name, value in vars(folder).items():
        if not inspect.isclass(value) or not issubclass(value, SyncJob) or inspect.isabstract(value):
            continue
        if value.__module__.startswith(folder.__name__) and value not in used:
            raise ConfigurationError(
                f"{folder.__name__} defines {name}, but no job is made of it; add a line such as "
                f"`job = {name}()` below the class"
            )
