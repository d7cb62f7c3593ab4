"""What a fetch expects of its records spares diff the writing of it, and decides nothing."""

from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from sync_defs import Database, SyncResults, TableSync, run_sync
from sync_defs.store.table_writer import TableWriter
from tests.engine.conftest import Variant, World

pytestmark = pytest.mark.each_database


def record(sku: str, stock: int = 1, **fields: Any) -> dict[str, Any]:
    return {"sku": sku, "quantity": stock, **fields}


def counts(results: SyncResults) -> dict[str, int]:
    return {str(outcome): count for outcome, count in results.outcomes.items() if count}


def stage_writes(database: Database) -> list[int]:
    """Collect how many staged records each UPDATE of a stage writes from now on."""
    writes: list[int] = []

    def note(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE") and "sync_stage" in statement.partition(" SET ")[0]:
            writes.append(cursor.rowcount)

    event.listen(database.engine, "after_cursor_execute", note)
    return writes


def test_a_first_load_writes_nothing_beside_its_records(table_world: World) -> None:
    if table_world.database.dialect.name == "mariadb":
        pytest.skip("the driver counts the rows found, not those written")
    table_world.records = [record(f"S{number}") for number in range(30)]
    writes = stage_writes(table_world.database)
    assert counts(table_world.sync()) == {"created": 30}
    assert sum(writes) == 0


def test_of_a_repeated_id_a_first_load_takes_the_newest_version(table_world: World) -> None:
    table_world.records = [record("A", 3, version=3), record("B"), record("A", 5, version=5), record("A", 4, version=4)]
    assert counts(table_world.sync()) == {"created": 2, "skipped": 2}
    assert table_world.rows() == {"A": (5, None, 5, True), "B": (1, None, None, True)}


def test_rows_that_others_write_during_a_first_fetch_are_compared(table_world: World) -> None:
    def fetched() -> Any:
        table_world.execute("INSERT INTO variants (sku, stock, version) VALUES ('same', 1, 1), ('other', 7, 1)")
        table_world.execute("INSERT INTO variants (sku, stock, version) VALUES ('newer', 7, 9)")
        yield [record(sku, version=1) for sku in ("same", "other", "newer", "new")]

    table_world.records = fetched()
    assert counts(table_world.sync()) == {"created": 1, "updated": 1, "unchanged": 1, "stale": 1}
    assert table_world.rows() == {
        "new": (1, None, 1, True),
        "newer": (7, None, 9, True),
        "other": (1, None, 1, True),
        "same": (1, None, 1, True),
    }


def test_bad_records_of_a_first_load_cost_themselves_alone(table_world: World) -> None:
    table_world.records = [record(f"S{number}", -1 if number % 10 == 3 else number) for number in range(40)]
    results = table_world.sync()
    assert counts(results) == {"created": 36, "rejected": 4}
    assert [error.external_id for error in results.errors] == ["S3", "S13", "S23", "S33"]
    assert set(table_world.rows()) == {f"S{number}" for number in range(40) if number % 10 != 3}


def test_a_first_load_in_a_dry_run_leaves_the_target_empty(table_world: World) -> None:
    table_world.records = [record("A"), record("B")]
    assert counts(table_world.sync(dry_run=True)) == {"created": 2}
    assert table_world.rows() == {}


@pytest.fixture
def late_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a row S7 appear once the target was found empty."""
    write = TableWriter.write

    def written_late(self: Any, *arguments: Any) -> None:
        self._connection.exec_driver_sql("INSERT INTO variants (sku, stock, version) VALUES ('S7', 99, 1)")
        write(self, *arguments)

    monkeypatch.setattr(TableWriter, "write", written_late)


@pytest.mark.usefixtures("late_row")
def test_a_row_that_appears_while_a_first_load_is_written_is_compared(table_world: World) -> None:
    """The target was found empty, so nothing is looked for in it; what is there after all must not end the run."""
    table_world.records = [record(f"S{number}", number, version=2) for number in range(40)]
    assert counts(table_world.sync()) == {"created": 39, "updated": 1}
    assert table_world.rows() == {f"S{number}": (number, None, 2, True) for number in range(40)}


@pytest.mark.usefixtures("late_row")
def test_one_row_that_appears_while_it_is_loaded_is_compared(table_world: World) -> None:
    table_world.records = [record("S7", 7, version=2)]
    assert counts(table_world.sync()) == {"updated": 1}


def questions(database: Database) -> list[str]:
    """Collect the queries that look for an id which is staged twice, from now on."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "HAVING" in statement:
            asked.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    return asked


def test_ids_that_are_known_to_differ_are_not_looked_through(table_world: World) -> None:
    """MariaDB's collations take unlike keys for the same, so that it has to be asked."""
    asked = questions(table_world.database)
    table_world.records = [record(f"S{number}") for number in range(30)]
    table_world.sync()
    is_mariadb = table_world.database.dialect.name == "mariadb"
    # The job is incremental: of its fetches nothing is known.
    assert len(asked) == 1
    target = cast("sa.Table", Variant.__table__)
    items = TableSync(lambda: table_world.records, name="all", target=target, key="sku", fields={"stock": "quantity"})
    run_sync(items, database=table_world.database)
    assert len(asked) == (2 if is_mariadb else 1)
    table_world.records = [*table_world.records, record("S1", 5)]
    assert counts(run_sync(items, database=table_world.database)) == {"updated": 1, "unchanged": 29, "skipped": 1}
