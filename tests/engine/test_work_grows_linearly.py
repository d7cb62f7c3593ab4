"""SQLite joins by nested loops: a stage without its indexes makes the work grow with the square of the rows."""

from typing import Any

from sqlalchemy import event

from sync_defs import Database

EVERY = 1_000


def test_steps_of_an_unchanged_sync_grow_with_the_rows(sqlite_template, tmp_path, world_on):
    few, many = (steps(world_on, sqlite_template, tmp_path / f"{rows}.db", rows) for rows in (300, 2_400))
    assert many / few < 16


def steps(world_on: Any, template: Any, path: Any, rows: int) -> int:
    """Return thousands of virtual machine steps of the second sync, which writes nothing."""
    path.write_bytes(template.read_bytes())
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    with Database(f"sqlite:///{path}") as database:
        world = world_on(database)
        job = world.job(on_missing="delete")
        world.records = [{"sku": f"S{number}", "quantity": number} for number in range(rows)]
        world.sync(job)
        database.close()
        event.listen(database.engine, "connect", lambda connection, _: connection.set_progress_handler(count, EVERY))
        assert world.sync(job).unchanged == rows
    return counted[0]
