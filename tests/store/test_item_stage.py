"""The stage of single items is one table for all jobs that write the same columns, empty as a transaction begins."""

from typing import Any

import pytest
import sqlalchemy as sa

from sync_defs import Database, TableSync
from sync_defs.engine import sync_items
from sync_defs.store import SqlStore

pytestmark = pytest.mark.each_database

TABLE = sa.Table(
    "shared",
    sa.MetaData(),
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("n", sa.Integer),
    sa.Column("m", sa.Integer),
)


def job(name: str, *fields: str) -> TableSync:
    return TableSync(list, name=name, target=TABLE, key="id", fields={name: name for name in fields}, create_table=True)


def test_jobs_that_write_one_table_do_not_disturb_each_other(database: Database) -> None:
    store = SqlStore(database)
    jobs = [job("one", "n"), job("two", "n"), job("three", "m"), job("four", "m", "n")]
    for turn in (1, 2):
        for number, each in enumerate(jobs):
            record = {"id": f"i{number}", "n": 10 * turn + number, "m": -number}
            [result] = sync_items(each, store, [record])
            assert result.action == ("created" if turn == 1 else "unchanged" if number == 2 else "updated")
    with database.read() as connection:
        rows = [tuple(row) for row in connection.execute(sa.select(TABLE).order_by(TABLE.c.id))]
    assert rows == [("i0", 20, None), ("i1", 21, None), ("i2", None, -2), ("i3", 23, -3)]


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_a_transaction_of_many_items_has_the_indexes(database: Database) -> None:
    store, seen = SqlStore(database), list[int]()

    def count(connection: sa.Connection, _results: Any) -> None:
        indexes = "SELECT count(*) FROM sqlite_temp_master WHERE type = 'index' AND sql IS NOT NULL"
        seen.append(connection.exec_driver_sql(indexes).scalar_one())

    one = job("one", "n")
    sync_items(one, store, [{"id": "a", "n": 0}], settle=count)
    for each in (one, one, job("one", "n")):
        sync_items(each, store, [{"id": f"a{number}", "n": number} for number in range(21)], settle=count)
    assert seen == [0, 2, 2, 2]
