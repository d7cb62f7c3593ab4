"""A MariaDB server of a test's own: the programs of this machine, in a folder that goes with it."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
import sqlalchemy.exc

from tests.faults.messages import free_port

_DATABASE: Final = "storm"
_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin"
_SMALL: Final = (
    *("--performance-schema=OFF", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M"),
    "--innodb-flush-method=nosync",  # the machine does not crash, and what a killed process wrote is there
)


def has_mariadb() -> bool:
    """Tell whether the programs are there."""
    return None not in _programs()


@contextmanager
def running_mariadb() -> Iterator[tuple[sa.URL, Path]]:
    """Run a server with an empty database during the block; give its URL, and its folder, with `log` and `pid` in it.

    It listens on 127.0.0.1: where nobody answers at a socket in a folder, PyMySQL leaves its end open. It ends, and the
    folder goes, whichever way this process ends.
    """
    install, server = _programs()
    assert install is not None
    assert server is not None
    home = Path(tempfile.mkdtemp(prefix="sd_my_", dir="/tmp"))  # not TMPDIR: a socket's path must not be long
    port = free_port()
    given = [f"--datadir={home / 'data'}", *_SMALL, *(["--user=root"] if os.geteuid() == 0 else [])]
    own = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
    listening = [
        "--bind-address=127.0.0.1",
        f"--port={port}",
        f"--socket={home / 'socket'}",
        f"--pid-file={home / 'pid'}",
    ]
    with (home / "log").open("ab") as log:
        subprocess.run(
            [install, "--no-defaults", *own, *given], check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        # The shell holds the server and waits for the end of its input.
        keep = 'd=$1; shift; "$@" & cat; kill -TERM $!; wait $!; rm -rf "$d"'
        keeper = subprocess.Popen(
            ["/bin/sh", "-c", keep, "sh", str(home), server, "--no-defaults", *given, *listening],
            cwd="/tmp",
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        url = sa.URL.create("mysql+pymysql", username="root", host="127.0.0.1", port=port)
        url = url.update_query_dict({"ssl_disabled": "true"})
        _make_database(url, home / "log")
        yield url.set(database=_DATABASE), home
    finally:
        keeper.communicate(timeout=30)
        shutil.rmtree(home, ignore_errors=True)


def _make_database(url: sa.URL, log: Path) -> None:
    """Make the database as soon as the server answers; raise with its log after a minute."""
    give_up = time.monotonic() + 60
    while True:
        try:
            with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {_DATABASE}")
            return
        except sqlalchemy.exc.OperationalError:
            if time.monotonic() > give_up:
                raise RuntimeError(log.read_text(errors="replace")) from None
            time.sleep(0.02)


def _programs() -> tuple[str | None, str | None]:
    """Return what makes a data directory and what serves it; None where it is not there."""
    install = shutil.which("mariadb-install-db", path=_PATH)
    return install, shutil.which("mariadbd", path=_PATH) or (install and shutil.which("mysqld", path=_PATH))
