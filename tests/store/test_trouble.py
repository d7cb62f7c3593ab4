"""What drivers say of trouble, with real errors of each database."""

import socket

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from sync_defs import ConfigurationError, Database
from sync_defs.errors import DatabaseNotReadyError, DatabaseTroubleError
from sync_defs.store.trouble import trouble


def told(act):
    with pytest.raises(DBAPIError) as caught:
        act()
    found = trouble(caught.value)
    return (type(found), found.code) if found is not None else None


@pytest.fixture
def execute(database_url):
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)

    def run(*statements):
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    return run


def test_an_unknown_table_and_column_are_for_a_person(execute):
    execute("CREATE TABLE goods (sku INT)")
    assert told(lambda: execute("SELECT 1 FROM absent")) == (ConfigurationError, "unknown_table")
    assert told(lambda: execute("SELECT price FROM goods")) == (ConfigurationError, "unknown_column")


def test_what_a_record_or_a_bug_causes_is_no_trouble(execute):
    execute("CREATE TABLE goods (sku INT NOT NULL)")
    assert told(lambda: execute("INSERT INTO goods VALUES (NULL)")) is None
    assert told(lambda: execute("SELEC 1")) is None


def test_a_missing_right_is_for_a_person_on_postgresql(postgresql_url):
    engine = sa.create_engine(postgresql_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE goods (sku INT)")
        connection.exec_driver_sql("GRANT USAGE ON SCHEMA public TO pg_monitor")
        connection.exec_driver_sql("SET ROLE pg_monitor")
        denied = told(lambda: connection.exec_driver_sql("DELETE FROM goods"))
    assert denied == (ConfigurationError, "permission_denied")


def test_a_missing_right_is_for_a_person_on_mariadb(mariadb_url):
    url = sa.make_url(mariadb_url).set(username="sync_defs_nobody", password="wrong")
    assert told(sa.create_engine(url, poolclass=sa.NullPool).connect) == (ConfigurationError, "permission_denied")


def test_a_file_that_may_not_be_written_is_for_a_person_on_sqlite(sqlite_url):
    path = sa.make_url(sqlite_url).database
    sa.create_engine(sqlite_url).connect().close()
    engine = sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert told(lambda: connection.exec_driver_sql("CREATE TABLE goods (sku INT)")) == (
            ConfigurationError,
            "permission_denied",
        )


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_server_that_does_not_answer_may_do_so_later(kind, request):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = sa.make_url(request.getfixturevalue(f"{kind}_url")).set(host="127.0.0.1", port=port, query={})
    assert told(sa.create_engine(url, poolclass=sa.NullPool).connect) == (DatabaseTroubleError, "database_trouble")
    address = url.render_as_string(hide_password=False)
    with Database(address) as database, pytest.raises(DatabaseNotReadyError) as caught:
        database.ensure_ready()
    assert (caught.value.code, caught.value.is_passing) == ("database_unreachable", True)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_user_that_there_is_not_stays_away(kind, request):
    url = sa.make_url(request.getfixturevalue(f"{kind}_url")).set(username="sync_defs_nobody", password="wrong")
    address = url.render_as_string(hide_password=False)
    with Database(address) as database, pytest.raises(DatabaseNotReadyError) as caught:
        database.ensure_ready()
    assert (caught.value.code, caught.value.is_passing) == ("database_unreachable", False)


def test_a_session_that_the_server_ends_is_trouble_on_postgresql(postgresql_url):
    engine = sa.create_engine(postgresql_url, poolclass=sa.NullPool)
    with engine.connect() as victim, engine.connect() as killer:
        pid = victim.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        killer.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")
        assert told(lambda: victim.exec_driver_sql("SELECT 1")) == (DatabaseTroubleError, "database_trouble")


def test_a_session_that_the_server_ends_is_trouble_on_mariadb(mariadb_url):
    engine = sa.create_engine(mariadb_url, poolclass=sa.NullPool)
    with engine.connect() as victim, engine.connect() as killer:
        number = victim.exec_driver_sql("SELECT connection_id()").scalar_one()
        killer.exec_driver_sql(f"KILL {number}")
        assert told(lambda: victim.exec_driver_sql("SELECT 1")) == (DatabaseTroubleError, "database_trouble")
