"""What the work costs a database at least: its own bulk load, one raw statement; and the usual pattern.

Each function prepares (imports, connections) and returns the part that is measured.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from benchmarks.faults import Article
from benchmarks.schema import Product, article, product
from benchmarks.tasks import Task, Work
from benchmarks.workload import COLUMNS, read_pages

CHUNK = 100_000
_TEMPORARY = "CREATE TEMPORARY TABLE given AS SELECT * FROM article WHERE 1 = 0"


def bulk_load(task: Task) -> Work:
    """C: load lines that are ready in stored form, sorted by key in chunks, by the database's own bulk load."""
    load = {"postgresql": _copy, "sqlite": _insert_many, "mariadb": _load_data}[task.kind]
    connection = _connect(task)

    def work() -> dict[str, Any]:
        with Path(task.source).open(encoding="utf-8") as lines, _committing(connection) as driver:
            while chunk := sorted(islice(lines, CHUNK)):
                load(driver, product.name, chunk)
        return {}

    return work


def update_all(task: Task) -> Work:
    """U: update every row by one statement."""
    connection = _connect(task)

    def work() -> dict[str, Any]:
        with _committing(connection) as driver:
            driver.cursor().execute("UPDATE product SET quantity = quantity + 1")
        return {}

    return work


def upsert(task: Task) -> Work:
    """Upsert good articles by plain statements that nothing protects: one bad record, and all is lost."""
    connection = _connect(task)
    kind = task.kind
    values = itemgetter(*Article._fields)

    def work() -> dict[str, Any]:
        with _committing(connection) as driver:
            rows = (values(record) for page in read_pages(task.source) for record in page)
            if kind == "sqlite":
                driver.executemany(_upsert_sqlite(), rows)
            else:
                driver.cursor().execute(_TEMPORARY)
                _stage(driver, kind, rows)
                driver.cursor().execute(_upsert_given(kind))
        return {}

    return work


def orm_once(task: Task) -> Work:
    """Find each row with the ORM, set its attributes, and commit once."""
    return _orm(task, commits_each=False)


def orm_each(task: Task) -> Work:
    """Find each row with the ORM, set its attributes or add it, and commit."""
    return _orm(task, commits_each=True)


def set_attributes(row: Product, record: dict[str, Any]) -> None:
    """Set what a record says of a row, as a callback would."""
    row.quantity = record["quantity"]
    row.price = Decimal(record["price"])
    row.name = record["name"]
    row.active = record["active"]
    row.updated_at = datetime.fromisoformat(record["updated_at"]).astimezone(UTC)
    row.attributes = record["attributes"]


def _orm(task: Task, *, commits_each: bool) -> Work:
    engine = sa.create_engine(task.url or "")
    # The first query of an engine asks the server for more than it needs.
    with Session(engine) as session:
        session.scalar(sa.select(Product).limit(1))

    def work() -> dict[str, Any]:
        with Session(engine) as session:
            for page in read_pages(task.source):
                for record in page:
                    row = session.scalar(sa.select(Product).where(Product.sku == record["sku"]))
                    if row is None:
                        row = Product(sku=record["sku"])
                        session.add(row)
                    set_attributes(row, record)
                    if commits_each:
                        session.commit()
            session.commit()
        engine.dispose()
        return {}

    return work


def _connect(task: Task) -> Any:
    arguments = {"local_infile": True} if task.kind == "mariadb" else {}
    return sa.create_engine(task.url or "", poolclass=sa.NullPool, connect_args=arguments).raw_connection()


@contextmanager
def _committing(connection: Any) -> Iterator[Any]:
    """Give the driver's own connection; it commits and closes at the end."""
    yield connection.driver_connection
    connection.commit()
    connection.close()


def _copy(driver: Any, table: str, lines: list[str]) -> None:
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for start in range(0, len(lines), 1_000):
            copy.write("".join(lines[start : start + 1_000]))


def _insert_many(driver: Any, table: str, lines: list[str]) -> None:
    marks = ", ".join("?" * len(COLUMNS))
    driver.executemany(f"INSERT INTO {table} VALUES ({marks})", (line[:-1].split("\t") for line in lines))


def _load_data(driver: Any, table: str, lines: list[str]) -> None:
    """Load a file that the client sends; where the server forbids that, insert by many rows a statement."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".lines") as file:
        file.writelines(lines)
        file.flush()
        try:
            driver.cursor().execute(f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE {table} CHARACTER SET utf8mb4")
        except driver.DatabaseError:
            _insert_rows(driver, table, (line[:-1].split("\t") for line in lines))


def _insert_rows(driver: Any, table: str, rows: Iterable[Iterable[Any]]) -> None:
    """Insert on MariaDB; both drivers write an executemany of INSERT … VALUES as statements of many rows."""
    rows = iter(rows)
    while chunk := list(islice(rows, 1_000)):
        marks = ", ".join(["%s"] * len(list(chunk[0])))
        driver.cursor().executemany(f"INSERT INTO {table} VALUES ({marks})", chunk)


def _stage(driver: Any, kind: str, rows: Iterable[tuple[Any, ...]]) -> None:
    if kind == "mariadb":
        _insert_rows(driver, "given", rows)
        return
    with driver.cursor() as cursor, cursor.copy("COPY given FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _columns() -> list[str]:
    return [column.name for column in article.columns if not column.primary_key]


def _upsert_sqlite() -> str:
    marks = ", ".join("?" * len(Article._fields))
    sets = ", ".join(f"{name} = excluded.{name}" for name in _columns())
    return f"INSERT INTO article VALUES ({marks}) ON CONFLICT (sku) DO UPDATE SET {sets}"


def _upsert_given(kind: str) -> str:
    if kind == "mariadb":
        sets = ", ".join(f"{name} = VALUES({name})" for name in _columns())
        return f"INSERT INTO article SELECT * FROM given ON DUPLICATE KEY UPDATE {sets}"
    sets = ", ".join(f"{name} = excluded.{name}" for name in _columns())
    return f"INSERT INTO article SELECT * FROM given ON CONFLICT (sku) DO UPDATE SET {sets}"
