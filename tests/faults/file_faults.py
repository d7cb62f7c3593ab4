"""Works on a SQLite file while its file operations fail, one after another.

Run with the library of `failing_files.c` in LD_PRELOAD: python -m tests.faults.file_faults LIBRARY URL FOLDER STEP
Prints what was wrong, as JSON, and how often an operation of each kind failed.
"""

import ctypes
import errno
import json
import os
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from sync_defs.errors import SyncError
from tests.faults import roles
from tests.faults.keeper import Keeper, keeping
from tests.faults.shop import JOBS

KILL, SHORT = -1, 0
FAULTS = [
    *(("w", error) for error in (errno.EIO, errno.ENOSPC, errno.EFBIG, SHORT, KILL)),
    *(("s", error) for error in (errno.EIO, errno.ENOSPC, KILL)),
    *(("t", error) for error in (errno.EIO, KILL)),
]


def main() -> None:
    """Go through all faults, each at one operation after another, until a day has no more of them."""
    library, url, folder, step = sys.argv[1:]
    files = ctypes.CDLL(library)
    found: list[str] = []
    failed: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch, keeping(url, Path(folder), patch) as keeper:
        live(keeper, "first")
        for op, error in FAULTS:
            nth, was_reached = 1, True
            while was_reached:
                name = f"{op}{error}at{nth}"
                was_reached = fail_once(files, keeper, name, op=op, nth=nth, error=error)
                failed[f"{op}{error}"] += was_reached
                found += [f"{name}: {fault}" for fault in keeper.settle()]
                nth += int(step)
    print(json.dumps({"found": found, "failed": failed}))  # noqa: T201 - the answer


def fail_once(files: ctypes.CDLL, keeper: Keeper, name: str, *, op: str, nth: int, error: int) -> bool:
    """Live a day in which one operation fails, and tell whether it came to that."""
    if error == KILL:
        pid = os.fork()
        if pid == 0:
            files.fail_at(ctypes.c_char(op.encode()), nth, error)
            live(keeper, name)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        live(keeper, name, is_repeated=True)
        return os.WIFSIGNALED(status)
    files.fail_at(ctypes.c_char(op.encode()), nth, error)
    live(keeper, name)
    was_reached = bool(files.has_failed())
    files.fail_at(ctypes.c_char(b"-"), 0, 0)
    return was_reached


def live(keeper: Keeper, name: str, *, is_repeated: bool = False) -> None:
    """Accept, drain and sync, with new connections; what fails is left as it is."""
    message = keeper.make("goods", name, (f"goods-{name}", 1), ("goods-shared", len(keeper.ledger.messages)))
    for act in (
        lambda: keeper.accept(message),
        lambda: roles.drain_due(keeper.stage(), run_id=f"{name}-{os.getpid()}"),
        lambda: roles.sync(JOBS["goods"], keeper.stage()),
        keeper.database.close,
    ):
        with suppress(DBAPIError, SyncError):
            act()


if __name__ == "__main__":
    main()
