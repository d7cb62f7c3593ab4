"""Each operation on the files of a SQLite fails, by an error, a full disk, half a write or a kill."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from tests.faults import roles
from tests.faults.shop import JOBS

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(1_800),
    pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """The library that makes file operations fail, compiled here."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler, as `cc`")
    made = tmp_path_factory.mktemp("library") / "failing_files.so"
    source = Path(__file__).with_name("failing_files.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", made, source, "-ldl"], check=True)
    return made


def test_each_file_operation_fails_and_nothing_is_lost_or_damaged(shop_url, library, tmp_path, request):
    step = 1 if request.config.getoption("--fault-long") else 17
    command = [sys.executable, "-m", "tests.faults.file_faults", str(library), shop_url, str(tmp_path), str(step)]
    environment = os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["found"] == []
    for error in (errno.EIO, errno.ENOSPC, errno.EFBIG, 0, -1):
        assert told["failed"][f"w{error}"] >= 1
    for error in (errno.EIO, errno.ENOSPC, -1):
        assert told["failed"][f"s{error}"] >= 1


def test_a_full_disk_stores_nothing_and_room_heals_it(keeper):
    keeper.accept(keeper.make("goods", "before", ("x", 1)))

    def bound(connection, _):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    keeper.database.close()
    event.listen(keeper.database.engine, "connect", bound)
    items = tuple((f"x{number}", 1) for number in range(500))
    with pytest.raises(DBAPIError, match="full"):
        keeper.accept(keeper.make("goods", "large", *items))
    with pytest.raises(DBAPIError, match="full"):
        roles.sync(JOBS["goods"], keeper.stage())
    event.remove(keeper.database.engine, "connect", bound)
    keeper.database.close()
    assert keeper.settle() == []


def test_a_file_that_may_not_grow_stores_nothing_and_room_heals_it(keeper):
    keeper.accept(keeper.make("goods", "before", ("x", 1)))
    items = tuple((f"x{number}", 1) for number in range(500))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = Path(f"{sa.make_url(keeper.url).database}-wal")
    message = keeper.make("goods", "large", *items)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 8_192, hard))
    try:
        with pytest.raises(DBAPIError):
            keeper.accept(message)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert keeper.settle() == []
