"""Where a job stands in the code, so that another process can import it: names go there, never pickled objects."""

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module, util
from pathlib import Path
from types import ModuleType

from sync_defs.errors import ConfigurationError
from sync_defs.job import Job

Place = Mapping[str, str]
"""`module`, `attribute` and, for a module that was loaded from a file, `file`."""


def places_of(jobs: Iterable[Job]) -> dict[str, Place]:
    """Return where jobs stand, by their names.

    Raises:
        ConfigurationError: one stands in no module, but in a function, a list or a mapping.
    """
    found: dict[int, Place] = {}
    for module_name, module in list(sys.modules.items()):
        for attribute, value in list(vars(module).items()):
            if isinstance(value, Job):
                file = getattr(module, "__file__", None)
                place = {"module": module_name, "attribute": attribute}
                found.setdefault(id(value), place | ({"file": file} if file else {}))
    places: dict[str, Place] = {}
    for job in jobs:
        if id(job) not in found:
            raise ConfigurationError(
                f"job {job.name!r}: delivery='inline' applies messages in a process of its own, which imports the job "
                "by name; assign the job to a name at the top level of a module, or use delivery='run'"
            )
        places[job.name] = found[id(job)]
    return places


def job_at(place: Place) -> Job:
    """Import the job that stands at a place.

    Raises:
        ConfigurationError: there is no job any more.
    """
    job = getattr(_module(place), place["attribute"], None)
    if not isinstance(job, Job):
        raise ConfigurationError(f"{place['module']} has no job {place['attribute']!r} any more; restart the sensor")
    return job


def _module(place: Place) -> ModuleType:
    name, file = place["module"], place.get("file")
    try:
        if name != "__main__":
            return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
    spec = util.spec_from_file_location(Path(file).stem if name == "__main__" else name, file) if file else None
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"the module {name!r} cannot be imported; put it on the Python path")
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
