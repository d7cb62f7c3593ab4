"""What is PostgreSQL's own: types that the server alone knows, and keys that it has no unique index of."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ProgrammingError

from sync_defs import Database, SyncResults, TableSync, run_sync


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
