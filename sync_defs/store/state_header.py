"""What the entries of `sync_defs.store.state` are worth; apart from them, since it needs no numpy."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from sync_defs.store.schema import state_parts, states


@dataclass(frozen=True, slots=True, kw_only=True)
class StateHeader:
    """What the entries are worth."""

    digest: str
    """Of the mapping and the algorithm."""
    entries: int
    """As many as the target had rows."""
    parts: int
    checksum: int | None
    """Of the target's mapped columns, where the database can tell; every transaction of the job moves it."""
    watermark: int
    """Changes by messages after this number of `sync_changes` are not in the entries."""
    runs: int
    """Runs since everything was compared in full."""


def load_header(connection: Connection, job_name: str) -> StateHeader | None:
    """Return the header of a job's state, or None if it has none."""
    columns = [states.c[name] for name in StateHeader.__slots__]
    row = connection.execute(select(*columns).where(states.c.job == job_name)).mappings().one_or_none()
    return StateHeader(**row) if row is not None else None


def save_header(connection: Connection, job_name: str, header: StateHeader, now: datetime) -> None:
    """Write the header alone: the entries are as they were."""
    values = {name: getattr(header, name) for name in StateHeader.__slots__}
    written = update(states).where(states.c.job == job_name).values(**values, updated_at=now)
    if connection.execute(select(states.c.job).where(states.c.job == job_name)).first() is not None:
        connection.execute(written)
    else:
        connection.execute(insert(states).values(job=job_name, **values, updated_at=now))


def move_checksum(connection: Connection, job_name: str, shift: int) -> None:
    """Move the checksum by what a transaction wrote, where the job's state has one."""
    header = load_header(connection, job_name)
    if header is not None and header.checksum is not None:
        moved = update(states).where(states.c.job == job_name).values(checksum=header.checksum ^ shift)
        connection.execute(moved)


def forget(connection: Connection, job_name: str) -> None:
    """Drop a job's state: the next run compares everything."""
    connection.execute(delete(state_parts).where(state_parts.c.job == job_name))
    connection.execute(delete(states).where(states.c.job == job_name))
