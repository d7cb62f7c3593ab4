"""The SQL side: the database, its dialects, stages, targets and bookkeeping.

Reading order: `schema`, `database`, `dialects`, `coerce`, `mapping`, `staging`, `statements`, `narrow`,
`table_writer`, `session_watch`, `callback_writer`, `rejects`, `renewal`, `runs`, `reports`, `presence`, `retention`,
`handoffs`, `store`. Imports the engine's ports, never Dagster; pandas only in `frames`.
"""

from sync_defs.store.database import Database
from sync_defs.store.rejects import Reject, open_rejects
from sync_defs.store.store import SqlStore

__all__ = ["Database", "Reject", "SqlStore", "open_rejects"]
