"""`dagster-daemon` that kills itself at a named point of the first tick of an inbox sensor.

Run as: doomed_daemon.py SENSOR [POINT] -- ARGUMENTS OF dagster-daemon. Without a point it writes the names of those
that it reaches to the file `points`. Points are those at which Dagster's own tests kill its daemon, and those around
each thing that a tick asks for or stores; one that is reached again has a number behind it.
"""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

from dagster import DagsterInstance
from dagster._core.remote_representation.code_location import GrpcServerCodeLocation
from dagster._daemon import sensor
from dagster._daemon.cli import main

STEPS: Final[tuple[tuple[Any, str], ...]] = (
    (DagsterInstance, "create_tick"),
    (DagsterInstance, "update_tick"),
    (DagsterInstance, "update_instigator_state"),
    (DagsterInstance, "report_runless_asset_event"),
    (DagsterInstance, "create_run"),
    (DagsterInstance, "submit_run"),
    (GrpcServerCodeLocation, "get_sensor_execution_data"),
)


class Doom:
    """Waits for a point of the first tick of a sensor."""

    def __init__(self, sensor_name: str, point: str | None) -> None:
        self._sensor_name = sensor_name
        self._point = point
        self._reached: Counter[str] = Counter()
        self._is_over = False
        self._ticking = threading.local()

    def bind(self) -> None:
        """Bind the points of this process."""
        for owner, name in STEPS:
            setattr(owner, name, self._around(name, getattr(owner, name)))
        bound: Any = sensor
        bound.check_for_debug_crash = lambda _, key: self._reach(key)
        bound._process_tick = self._within(bound._process_tick)

    def _reach(self, name: str) -> None:
        if not getattr(self._ticking, "here", False):
            return
        self._reached[name] += 1
        number = self._reached[name]
        point = name if number == 1 else f"{name} {number}"
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._point is None:
            with Path("points").open("a", encoding="utf-8") as file:
                file.write(f"{point}\n")

    def _around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*given: Any, **options: Any) -> Any:
            self._reach(f"before {name}")
            result = function(*given, **options)
            self._reach(f"after {name}")
            return result

        return call

    def _within(self, tick: Callable[..., Any]) -> Callable[..., Any]:
        def ticking(context: Any, logger: Any, remote_sensor: Any, *given: Any) -> Any:
            if remote_sensor.name != self._sensor_name or self._is_over:
                return tick(context, logger, remote_sensor, *given)
            self._is_over = self._ticking.here = True
            try:
                return tick(context, logger, remote_sensor, *given)
            finally:
                self._ticking.here = False

        return ticking


if __name__ == "__main__":
    split = sys.argv.index("--")
    Doom(sys.argv[1], sys.argv[2] if split > 2 else None).bind()
    sys.argv[1:] = sys.argv[split + 1 :]
    main()
