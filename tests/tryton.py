"""The Tryton database that the tests start from."""

import fcntl
import os
from pathlib import Path

import pytest

from sync_defs.testing.tryton_server import make_template

COUNT = 500


def shared_template(factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a database of `COUNT` products, which takes half a minute: made once for all workers."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "tryton.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return make_template(folder, products=COUNT)
