"""The bookkeeping tables are made, migrated and checked; and no password is ever shown."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from sync_defs import ConfigurationError, Database, SyncError, run_sync, table_sync
from sync_defs.errors import DatabaseNotReadyError
from sync_defs.store.database import REVISION, VERSION_TABLE
from sync_defs.store.schema import metadata

TABLES = {
    "sync_changes",
    "sync_cursors",
    "sync_handoffs",
    "sync_inbox",
    "sync_leases",
    "sync_state",
    "sync_state_parts",
    "sync_queue",
    "sync_rejects",
    "sync_runs",
    VERSION_TABLE,
}
UPGRADE = "import sys; from sync_defs import Database; database = Database(sys.argv[1]); database.upgrade()"


def tables(database: Database) -> set[str]:
    with database.read() as connection:
        return set(sa.inspect(connection).get_table_names(schema=database.dialect.schema))


def set_revision(database: Database, revision: str) -> None:
    version = sa.table(VERSION_TABLE, sa.column("version_num"), schema=database.dialect.schema)
    with database.write() as connection:
        connection.execute(sa.update(version).values(version_num=revision))


def test_a_fresh_sqlite_file_gets_its_tables_at_once(sqlite_url):
    with Database(sqlite_url) as database:
        assert database.revision() is None
        database.ensure_ready()
        assert (database.revision(), tables(database)) == (REVISION, TABLES)
        database.ensure_ready()


def test_a_sqlite_file_in_a_folder_that_is_not_there_yet(tmp_path):
    with Database(f"sqlite:///{tmp_path / 'some' / 'where' / 'target.db'}") as database:
        database.ensure_ready()
        assert tables(database) == TABLES


def test_a_fresh_server_database_asks_for_the_upgrade(postgresql_url):
    """Tables on a server are made when an administrator says so, not by the first sync."""
    with Database(postgresql_url) as database:
        with pytest.raises(DatabaseNotReadyError, match="run: sync-defs db upgrade") as caught:
            database.ensure_ready()
        assert caught.value.code == "database_not_ready"
        assert tables(database) == set()
        database.upgrade()
        database.ensure_ready()
        assert (database.revision(), tables(database)) == (REVISION, TABLES)


@pytest.mark.parametrize("older", ["0000"])
def test_older_tables_ask_for_the_upgrade(migrated_url, older):
    with Database(migrated_url) as database:
        set_revision(database, older)
        with pytest.raises(DatabaseNotReadyError, match=f"has {older}; run: sync-defs db upgrade"):
            database.ensure_ready()


@pytest.mark.parametrize("newer", ["0005", "9999"])
def test_newer_tables_are_refused_and_left_alone(migrated_url, newer):
    with Database(migrated_url) as database:
        set_revision(database, newer)
        for attempt in (database.ensure_ready, database.upgrade):
            with pytest.raises(DatabaseNotReadyError, match=f"{newer}, newer than this version") as caught:
                attempt()
            assert caught.value.code == "database_newer"
        assert database.revision() == newer


def test_an_upgrade_may_be_repeated(database_url):
    with Database(database_url) as database:
        database.upgrade()
        with database.write() as connection:
            insert = "INSERT INTO {}sync_leases (name) VALUES ('kept')"
            connection.exec_driver_sql(insert.format("sync_defs." if database.dialect.schema else ""))
        database.upgrade()
        assert tables(database) == TABLES
        with database.read() as connection:
            assert (
                connection.execute(
                    sa.select(sa.func.count()).select_from(metadata.tables["sync_defs.sync_leases"])
                ).scalar()
                == 1
            )


def test_many_threads_upgrade_at_once(database_url):
    errors: list[Exception] = []
    gate = threading.Barrier(4)

    def upgrade() -> None:
        try:
            with Database(database_url) as database:
                gate.wait(timeout=30)
                database.upgrade()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Database(database_url) as database:
        assert (database.revision(), tables(database)) == (REVISION, TABLES)


def test_many_processes_upgrade_at_once(database_url):
    command = [sys.executable, "-c", UPGRADE, database_url]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert ends == [("", 0)] * 4
    with Database(database_url) as database:
        assert (database.revision(), tables(database)) == (REVISION, TABLES)


def test_migrations_make_exactly_the_tables_of_the_code(migrated_url):
    """Alembic finds nothing to add, remove or change: columns, types, NULL, indexes."""
    with Database(migrated_url) as database, database.read() as connection:
        schema = database.dialect.schema
        expected = sa.MetaData(schema=schema)
        for table in metadata.tables.values():
            table.to_metadata(expected, schema=schema)  # pyright: ignore[reportArgumentType] - None is the default schema
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": VERSION_TABLE,
                "version_table_schema": schema,
                "include_schemas": schema is not None,
                "include_name": lambda name, kind, _parents: kind != "schema" or name == schema,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, expected) == []
        found = {
            (table.name, column.name, column.nullable, column.primary_key)
            for table in expected.tables.values()
            for column in table.columns
        }
        inspector = sa.inspect(connection)
        keys = {name: inspector.get_pk_constraint(name, schema=schema)["constrained_columns"] for name in TABLES}
        assert found == {
            (name, column["name"], column["nullable"], column["name"] in keys[name])
            for name in TABLES - {VERSION_TABLE}
            for column in inspector.get_columns(name, schema=schema)
        }


def test_the_code_names_the_newest_migration():
    versions = Path(sys.modules[Database.__module__].__file__ or "").parent / "migrations" / "versions"
    newest = max(path.name for path in versions.glob("v[0-9]*.py"))
    assert newest.startswith(f"v{REVISION}_")


UNREACHABLE = [
    "postgresql://user:s3cret@127.0.0.1:1/target?connect_timeout=2",
    "postgresql://user@127.0.0.1:1/target?connect_timeout=2&password=s3cret",
    "postgresql+psycopg://user:s3cret@no-such-host.invalid/target?connect_timeout=2",
    "mysql://user:s3cret@127.0.0.1:1/target?connect_timeout=2",
]


@pytest.mark.parametrize("url", UNREACHABLE, ids=["port", "query", "host", "mariadb"])
def test_a_database_out_of_reach_is_named_without_its_password(url):
    with Database(url) as database, pytest.raises(DatabaseNotReadyError) as caught:
        database.ensure_ready()
    assert caught.value.code == "database_unreachable"
    assert "user" in str(caught.value)
    for text in (repr(database), str(database), database.label, str(caught.value), repr(caught.value)):
        assert "s3cret" not in text


def test_a_wrong_password_is_not_in_the_error(postgresql_url):
    url = sa.make_url(postgresql_url).set(username="nobody_here", password="s3cret")
    with Database(url.render_as_string(hide_password=False)) as database, pytest.raises(SyncError) as caught:
        database.ensure_ready()
    assert (caught.value.code, "s3cret" in str(caught.value)) == ("database_unreachable", False)


MALFORMED = [
    "",
    "s3cret",
    "user:s3cret@host/name",
    "postgresql://user:s3cret@host:port/name",
    "://s3cret",
    "postgresql//s3cret",
]


@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_url_is_not_repeated(url):
    with pytest.raises(ConfigurationError, match="the database URL is malformed") as caught:
        Database(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "mysql+nothing://user:s3cret@host/name",
            "driver 'mysql\\+nothing' is not installed; the extra `mysql`",
        ),
        ("nosuch://user:s3cret@host/name", "driver 'nosuch' is not installed"),
        ("mssql+pymssql://user:s3cret@host/name", "driver 'mssql\\+pymssql' is not installed"),
        ("postgresql+asyncpg://user:s3cret@host/name", "driver 'postgresql\\+asyncpg' is not installed"),
        ("postgresql+nothing://user:s3cret@host/name", "driver 'postgresql\\+nothing' is not installed"),
    ],
)
def test_another_database_or_driver_is_refused_by_name(url, reason):
    with pytest.raises(ConfigurationError, match=reason) as caught:
        Database(url).ensure_ready()
    assert "s3cret" not in str(caught.value)


def test_a_file_where_a_folder_must_be(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        Database(f"sqlite:///{tmp_path / 'file' / 'target.db'}") as database,
        pytest.raises(DatabaseNotReadyError) as caught,
    ):
        database.ensure_ready()
    assert caught.value.code == "database_unreachable"


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "target.db").write_bytes(b"no database at all" * 100)
    with Database(f"sqlite:///{tmp_path / 'target.db'}") as database, pytest.raises(DatabaseNotReadyError) as caught:
        database.ensure_ready()
    assert caught.value.code == "database_unreachable"


def test_a_user_without_rights_is_told_so(postgresql_url, request):
    """Neither the check nor the upgrade fails with a bare driver error."""
    role = f"sd_reader_{Path(sa.make_url(postgresql_url).database or '').name[-8:]}"
    with Database(postgresql_url) as owner:
        with owner.write() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        try:
            url = sa.make_url(postgresql_url).set(username=role).render_as_string(hide_password=False)
            with (
                Database(url) as database,
                pytest.raises(DatabaseNotReadyError, match="InsufficientPrivilege") as caught,
            ):
                database.upgrade()
            assert (caught.value.code, role in str(caught.value)) == ("database_unreachable", True)
            owner.upgrade()
            with Database(url) as database, pytest.raises(DatabaseNotReadyError, match="InsufficientPrivilege"):
                database.ensure_ready()
        finally:
            with owner.write() as connection:
                connection.exec_driver_sql(f"DROP ROLE {role}")


def test_a_sync_on_tables_that_are_not_ready_starts_nothing(postgresql_url):
    target = sa.Table("items", sa.MetaData(), sa.Column("id", sa.String(9), primary_key=True))
    fetched: list[str] = []

    @table_sync(target=target, key="id", fields={}, create_table=True)
    def items() -> list[dict[str, str]]:
        fetched.append("once")
        return []

    with pytest.raises(DatabaseNotReadyError):
        run_sync(items, database=postgresql_url)
    assert fetched == []
