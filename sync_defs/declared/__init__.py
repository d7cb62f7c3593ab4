"""Jobs declared in YAML: a file `defs.yaml` in a folder of the jobs package, for `dg` and for everything else.

In reading order: `attributes` (what may stand there), `source` (what a fetch is made of), `job` (from them to the
`TableSync` that `table_sync` makes), `reading` (files, and errors with file and line). Imports no Dagster.
"""

from sync_defs.declared.attributes import SyncJobAttributes
from sync_defs.declared.job import declared_job
from sync_defs.declared.reading import COMPONENT, FILE, read_jobs

__all__ = ["COMPONENT", "FILE", "SyncJobAttributes", "declared_job", "read_jobs"]
