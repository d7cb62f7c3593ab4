"""What one op hands to the next: ids and counts as JSON in the target's database, never records and never a pickle."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from sync_defs.orchestration.failures import told_plainly
from sync_defs.orchestration.names import DATABASE_KEY
from sync_defs.store import Database
from sync_defs.store.handoffs import forget_handoffs, put_handoff, take_handoff

_HANDING_OPS: Final = ("fetch", "diff")


class HandoffIOManager(dg.IOManager):
    """Keeps the outputs of a run's ops where its stage is, so that each op may run on a machine of its own."""

    def __init__(self, database: Database) -> None:
        """Keep them in this database."""
        self._database = database

    def handle_output(self, context: dg.OutputContext, obj: Mapping[str, Any]) -> None:
        """Keep an op's output; a retried op replaces it."""
        with told_plainly(_graph_of(context)):
            put_handoff(self._database, context.run_id, context.step_key, obj)

    def load_input(self, context: dg.InputContext) -> dict[str, Any]:
        """Read what the op before has handed on, in this run or in the one that is re-executed."""
        upstream = cast("dg.OutputContext", context.upstream_output)
        with told_plainly(_graph_of(upstream)):
            return take_handoff(self._database, upstream.run_id, upstream.step_key)

    def forget(self, run_id: str, graph: str) -> None:
        """Delete what the ops of a graph handed on, once it has succeeded; other graphs of the run keep theirs.

        A database that is away by now fails nothing, since the rows are written: what stays is pruned.
        """
        with suppress(SQLAlchemyError, OSError):
            forget_handoffs(self._database, run_id, [f"{graph}.{op}" for op in _HANDING_OPS])


def _graph_of(context: dg.OutputContext) -> str:
    return context.step_key.partition(".")[0]


@dg.io_manager(
    description="Hands counts and ids from op to op by the database in which the records wait.",
    required_resource_keys={DATABASE_KEY},
)
def handoff_io_manager(context: dg.InitResourceContext) -> HandoffIOManager:
    """Keep them in the database of the targets."""
    return HandoffIOManager(getattr(context.resources, DATABASE_KEY))
