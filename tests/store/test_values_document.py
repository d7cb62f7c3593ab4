"""docs/values.md says what each database makes of a value; every cell of its tables is proven here."""

import enum
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from sync_defs import Database, Field, SyncResults, TableSync, run_sync

DOCUMENT = Path(__file__).parents[2] / "docs" / "values.md"
CODE = re.compile(r"[a-z]+(_[a-z]+)+")
HEADINGS = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB", "mysql": "MariaDB"}


class Size(enum.Enum):
    """The enumeration that the document describes."""

    SMALL = "s"
    LARGE = "l"


NAMES: dict[str, Any] = {
    **vars(sa),
    **{found.__name__: found for found in (Decimal, UUID, Size, date, datetime, time, timedelta, timezone)},
    "UTC": UTC,
    "np": np,
    "pd": pd,
}


class Line(NamedTuple):
    """One line of a table: the kind of column, the expressions of the values, and the cell of one database."""

    kind: str
    given: tuple[str, ...]
    cell: str


def lines(section: str, heading: str) -> list[Line]:
    """Return the lines of a section's table with the cells of the database of that heading."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    names, _, *rows = [
        [cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"
    ]
    place, values = names.index(heading), names.index("SQLite")
    return [Line(row[0], tuple(row[1:values]), row[place]) for row in rows]


def meant(expression: str) -> Any:
    """Evaluate an expression of the document."""
    return eval(expression, dict(NAMES))  # noqa: S307 - the document's own text


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    with Database(migrated_url) as database:
        yield database


@pytest.fixture
def heading(migrated_url: str) -> str:
    """The database's name in the document."""
    return HEADINGS[sa.make_url(migrated_url).get_backend_name()]


def one_column_each(database: Database, kinds: list[str]) -> TableSync:
    """A job on a table with a column for each kind, named by its place among the kinds."""
    columns = [sa.Column(f"c{number}", meant(kind)) for number, kind in enumerate(kinds)]
    target = sa.Table("kinds", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), *columns)
    with database.write() as connection:
        target.create(connection)
    return TableSync(
        lambda source: source,
        name="kinds",
        target=target,
        key="id",
        fields={column.name: Field(default=None) for column in columns},
        sample_size=1_000,
    )


def sync(database: Database, job: TableSync, records: list[dict[str, Any]]) -> SyncResults:
    return run_sync(job, database=database, resources={"source": records})


def refusals(results: SyncResults) -> dict[int, str]:
    return {int(error.external_id or 0): error.code for error in results.errors}


def test_what_is_kept(database, heading):
    """Each value alone in its row; synced again, it is unchanged."""
    table = lines("What is kept", heading)
    kinds = list(dict.fromkeys(line.kind for line in table))
    job = one_column_each(database, kinds)
    records = [{"id": number, f"c{kinds.index(line.kind)}": meant(line.given[0])} for number, line in enumerate(table)]
    first, second = sync(database, job, records), sync(database, job, records)
    with database.read() as connection:
        rows = {row.id: row for row in connection.execute(sa.select(job.target))}
    refused = refusals(first)
    assert refused == {number: line.cell for number, line in enumerate(table) if CODE.fullmatch(line.cell)}
    found, wanted = {}, {}
    for number, line in enumerate(table):
        if number not in refused:
            value = getattr(rows[number], f"c{kinds.index(line.kind)}")
            expected = None if line.cell == "NULL" else meant(line.cell)
            found[number, *line.given] = (type(value), value)
            wanted[number, *line.given] = (type(expected), expected)
    assert found == wanted
    assert refusals(second) == refused
    assert (second.unchanged, second.rejected) == (len(found), len(refused))


def test_what_equals_what(database, heading):
    """Each row is held with one value, then all are synced with the other."""
    table = lines("What equals what", heading)
    kinds = list(dict.fromkeys(line.kind for line in table))
    job = one_column_each(database, kinds)
    held, given = (
        [{"id": number, f"c{kinds.index(line.kind)}": meant(line.given[place])} for number, line in enumerate(table)]
        for place in (0, 1)
    )
    sync(database, job, held)
    results = sync(database, job, given)
    cells = dict.fromkeys(range(len(table)), "equal")
    cells |= {int(sample.external_id): "different" for sample in results.samples} | refusals(results)
    assert {number: (line, cells[number]) for number, line in enumerate(table)} == {
        number: (line, line.cell) for number, line in enumerate(table)
    }
    assert results.unchanged == list(cells.values()).count("equal")


def test_which_ids_are_one_item(database, heading):
    """Each pair in one fetch into a table of its own."""
    found = []
    table = lines("Which ids are one item", heading)
    for number, line in enumerate(table):
        job = TableSync(
            lambda source: source,
            name=f"pairs{number}",
            target=sa.Table(
                f"pairs{number}",
                sa.MetaData(),
                sa.Column("id", meant(line.kind), primary_key=True),
                sa.Column("note", sa.Text),
            ),
            key="id",
            fields={"note": Field(default=None)},
            create_table=True,
        )
        results = sync(database, job, [{"id": meant(expression)} for expression in line.given])
        names = {(1, 1, 0): "one", (2, 0, 0): "two"}
        outcome = (results.created, results.skipped, results.rejected)
        found.append(line._replace(cell=names.get(outcome) or results.errors[0].code))
    assert found == table
