"""What is PostgreSQL's own: types that the server alone knows, and keys that it has no unique index of."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ProgrammingError

from sync_defs import Database, SyncResults, TableSync, run_sync
from sync_defs.engine import sync_items
from sync_defs.store import SqlStore


@pytest.fixture
def database(migrated_postgresql_url: str) -> Iterator[Database]:
    with Database(migrated_postgresql_url) as database:
        yield database


def job_of(*columns: sa.Column[Any], **options: Any) -> TableSync:
    table = sa.Table("hosts", sa.MetaData(), *columns)
    fields = {column.name: column.name for column in columns[1:]}
    return TableSync(lambda source: source, name="hosts", target=table, key=columns[0].name, fields=fields, **options)


def sync(database: Database, job: TableSync, *records: dict[str, Any]) -> SyncResults:
    return run_sync(job, database=database, resources={"source": list(records)})


def rows(database: Database) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql("SELECT * FROM hosts ORDER BY 1")]


def test_a_value_that_only_the_server_can_judge_costs_its_record_alone(database: Database) -> None:
    """The stage has the target's types, so that COPY itself fails."""
    job = job_of(
        sa.Column("name", sa.String(9), primary_key=True), sa.Column("address", postgresql.INET), create_table=True
    )
    addresses = {"a": "10.0.0.1", "b": "secret", "c": "::1"}
    results = sync(database, job, *({"name": name, "address": address} for name, address in addresses.items()))
    [error] = results.errors
    assert (results.created, results.rejected, error.external_id) == (2, 1, "b")
    assert "secret" not in f"{error.message} {error.code} {error.field}"
    assert [(name, str(address)) for name, address in rows(database)] == [("a", "10.0.0.1"), ("c", "::1")]


def test_a_key_without_a_unique_index_fails_in_the_first_load_already(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE hosts (name varchar(9), port integer)")
    job = job_of(sa.Column("name", sa.String(9), primary_key=True), sa.Column("port", sa.Integer))
    with pytest.raises(ProgrammingError, match="ON CONFLICT"):
        sync(database, job, {"name": "a", "port": 1})
    assert rows(database) == []


def left_of_items(database: Database) -> list[tuple[str, int]]:
    """Return the temporary tables of the pool's connection, each with the number of its rows."""
    with database.read() as connection:
        found = "SELECT relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'"
        names = connection.exec_driver_sql(found).scalars().all()
        return [(name, connection.exec_driver_sql(f'SELECT count(*) FROM "{name}"').scalar_one()) for name in names]


def test_the_stage_of_items_stays_with_its_connection_and_is_empty(database: Database) -> None:
    """Made anew for each item it costs a third of the item's time; behind a pooler it may be gone, or another's."""
    columns = sa.Column("name", sa.String(9), primary_key=True), sa.Column("port", sa.Integer)
    job, store = job_of(*columns, create_table=True), SqlStore(database)
    [result] = sync_items(job, store, [{"name": "a", "port": 1}])
    assert result.action == "created"
    [(name, left)] = left_of_items(database)
    assert left == 0
    sync_items(job, store, [{"name": f"a{number}", "port": number} for number in range(30)])
    assert left_of_items(database) == [(name, 0)]
    again = SqlStore(database)  # as another process would come by the connection
    assert [result.action for result in sync_items(job, again, [{"name": "a", "port": 2}])] == ["updated"]
    assert left_of_items(database) == [(name, 0)]
    with database.write() as connection:
        connection.exec_driver_sql("DISCARD TEMP")
    assert [result.action for result in sync_items(job, store, [{"name": "a", "port": 2}])] == ["unchanged"]


def test_the_stage_of_items_does_not_grow(database: Database) -> None:
    columns = sa.Column("name", sa.String(9), primary_key=True), sa.Column("port", sa.Integer)
    job, store = job_of(*columns, create_table=True), SqlStore(database)
    sizes = list[int]()
    for _ in range(12):
        sync_items(job, store, [{"name": f"a{number}", "port": number} for number in range(700)])
        [(name, _)] = left_of_items(database)
        with database.read() as connection:
            sizes.append(connection.exec_driver_sql(f"SELECT pg_relation_size('{name}')").scalar_one())
    assert 0 in sizes
    assert max(sizes) < 4 * 700 * 200


def test_a_type_of_the_users_own_may_be_dropped_after_an_item(database: Database) -> None:
    kind = sa.Enum("tcp", "udp", name="protocol", metadata=sa.MetaData())
    with database.write() as connection:
        kind.create(connection)
    columns = sa.Column("name", sa.String(9), primary_key=True), sa.Column("protocol", kind)
    job, store = job_of(*columns, create_table=True), SqlStore(database)
    for protocol in ("tcp", "udp"):
        sync_items(job, store, [{"name": "a", "protocol": protocol}])
    assert rows(database) == [("a", "udp")]
    assert left_of_items(database) == []
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE hosts")
        connection.exec_driver_sql("DROP TYPE protocol")
