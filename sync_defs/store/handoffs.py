"""What the steps of an orchestrator's run hand to each other: a small row of JSON for each, kept until the run is done.

Beside the stage, so that whatever machine takes the next step finds both at the same address. The run is that of the
orchestrator, which may hold the syncs of several jobs.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import and_, delete, insert, select

from sync_defs.errors import ConfigurationError
from sync_defs.store.database import Database
from sync_defs.store.schema import handoffs

KEPT: Final = timedelta(days=14)
"""For how long a run that was killed may be gone on with; the next one of its job takes its stage away long before."""


def put_handoff(database: Database, run_id: str, step: str, body: Mapping[str, Any]) -> None:
    """Keep what a step hands on, in a transaction of its own; a step that is tried again replaces it."""
    key = _key(step)
    with database.write() as connection:
        connection.execute(delete(handoffs).where(handoffs.c.run_id == run_id, handoffs.c.step_key == key))
        row = {"run_id": run_id, "step_key": key, "body": json.dumps(body), "handed_at": database.now()}
        connection.execute(insert(handoffs).values(row))


def take_handoff(database: Database, run_id: str, step: str) -> dict[str, Any]:
    """Return what a step has handed on; it stays, so that the next step may be tried again.

    Raises:
        ConfigurationError: there is nothing: the run succeeded, or it is too old.
    """
    where = and_(handoffs.c.run_id == run_id, handoffs.c.step_key == _key(step))
    with database.read() as connection:
        body = connection.execute(select(handoffs.c.body).where(where)).scalar()
    if body is None:
        raise ConfigurationError(
            "what the step before handed on is gone, as it is once a run has succeeded; re-execute all steps",
            code="stage_gone",
        )
    return json.loads(body)


def forget_handoffs(database: Database, run_id: str, steps: Iterable[str]) -> None:
    """Delete what these steps of a run handed on; other jobs of the run keep theirs."""
    keys = [_key(step) for step in steps]
    with database.write() as connection:
        connection.execute(delete(handoffs).where(handoffs.c.run_id == run_id, handoffs.c.step_key.in_(keys)))


def prune_handoffs(database: Database, older_than: timedelta = KEPT) -> None:
    """Delete what runs have left that never came to their end."""
    with database.write() as connection:
        connection.execute(delete(handoffs).where(handoffs.c.handed_at < database.now() - older_than))


def _key(step: str) -> bytes:
    """Return a key of fixed size: asset keys have any length, and MariaDB's collations take `Shop` for `shop`."""
    return hashlib.sha256(step.encode()).digest()
