"""What one op hands to the next: a small JSON file with ids and counts, never records and never a pickle."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import dagster as dg


class HandoffIOManager(dg.IOManager):
    """Keeps the outputs of a run's ops as JSON files in a folder that only the owner may read.

    Files rather than memory, so that the multiprocess executor and a re-execution from a failed op work too. On several
    machines the folder must be shared, or the in-process executor used.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the files in a folder, which is made at the first write."""
        self._folder = folder

    def handle_output(self, context: dg.OutputContext, obj: Mapping[str, Any]) -> None:
        """Write an op's output; a retried op replaces it."""
        path = self._path(context)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.touch(mode=0o600)
        new.write_text(json.dumps(obj), encoding="utf-8")
        new.replace(path)

    def load_input(self, context: dg.InputContext) -> dict[str, Any]:
        """Read what the op before has written, in this run or in the one that is re-executed."""
        upstream = cast("dg.OutputContext", context.upstream_output)
        return json.loads(self._path(upstream).read_text(encoding="utf-8"))

    def forget(self, run_id: str, graph: str) -> None:
        """Delete the files of a graph that has succeeded; other graphs of the run keep theirs."""
        folder = self._folder / run_id
        for path in folder.glob(f"{graph}.*"):
            path.unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _path(self, context: dg.OutputContext) -> Path:
        return self._folder / context.run_id / f"{context.step_key}.{context.name}.json"


@dg.io_manager(description="Hands counts and ids from op to op as JSON files; records stay in the database.")
def handoff_io_manager(context: dg.InitResourceContext) -> HandoffIOManager:
    """Keep the files in the storage folder of the Dagster instance."""
    instance = cast("dg.DagsterInstance", context.instance)
    return HandoffIOManager(Path(instance.storage_directory()) / "sync_defs")
