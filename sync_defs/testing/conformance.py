"""The conformance suite of a database: whatever its dialect does, a sync ends in the same rows and the same counts.

Subclass it in a test module and give it the fixture `database`: a migrated `Database` of the test's own.

    class TestMyDatabase(DatabaseConformance):
        @pytest.fixture
        def database(self):
            with Database(url, dialect=MyDialect()) as database:
                database.upgrade()
                yield database

The expected rows and counts come from a few lines of plain Python, never from the code under test.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from sync_defs.engine import RunRequest, run_sync, sync_items
from sync_defs.fields import Deletion
from sync_defs.job import TableSync
from sync_defs.policies import mark
from sync_defs.results import SyncResults, Trigger
from sync_defs.store import SqlStore
from sync_defs.store.database import Database
from sync_defs.store.rejects import open_rejects
from sync_defs.store.schema import changes

Record = dict[str, Any]
Rows = dict[str, Record]

_START = datetime(2026, 3, 29, 0, 30, 0, 123456, tzinfo=UTC)
_COLUMNS = ("name", "stock", "price", "barcode", "code", "brand", "at", "state", "version")
_REFUSED: list[tuple[Mapping[str, Any], str]] = [
    ({"name": None}, "not_null"),
    ({"stock": -1}, "check"),
    ({"brand": "nobody"}, "foreign_key"),
    ({"barcode": "taken"}, "unique"),
    ({"code": "taken"}, "unique"),
    ({"stock": 2**31}, "out_of_range"),
    ({"price": "12345678901.00"}, "out_of_range"),
    ({"name": "x" * 41}, "too_long"),
]
"""What a record may be refused for, by the database or before it, and the code that it then has."""


def tables() -> tuple[sa.Table, sa.Table]:
    """Return the target as the database has it, with every kind of constraint, and as a job knows it, with none."""
    held, known = sa.MetaData(), sa.MetaData()
    brands = sa.Table("conformance_brands", held, sa.Column("name", sa.String(20), primary_key=True))
    target = sa.Table(
        "conformance_products",
        held,
        sa.Column("sku", sa.String(40), primary_key=True),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("stock", sa.Integer),
        sa.Column("price", sa.Numeric(12, 2)),
        sa.Column("barcode", sa.String(20), unique=True),
        sa.Column("code", sa.String(20), unique=True),
        sa.Column("brand", sa.String(20), sa.ForeignKey(brands.c.name)),
        sa.Column("at", sa.DateTime(timezone=True)),
        sa.Column("state", sa.String(10)),
        sa.Column("version", sa.Integer),
        sa.CheckConstraint("stock >= 0", name="stock_is_there"),
    )
    columns = [sa.Column(column.name, column.type, primary_key=column.primary_key) for column in target.columns]
    return target, sa.Table(target.name, known, *columns)


def product(number: int, **changed: Any) -> Record:
    """Return one record, spelled as a source may spell it; `changed` overrides fields."""
    record: Record = {
        "sku": f"P-{number:05}",
        "name": f"Product {number}, \u00e9\U0001f600\t'\\",
        "stock": str(number),
        "price": f"{number}.1",
        "barcode": f"B{number}",
        "code": None,
        "brand": "acme" if number % 2 else None,
        "at": (_START + timedelta(microseconds=number)).isoformat(),
        "version": 1,
    }
    return record | changed


def stored(record: Record, **more: Any) -> Record:
    """Return the row that a record becomes."""
    row: Record = {name: record.get(name) for name in _COLUMNS}
    row["stock"] = int(record["stock"])
    row["price"] = Decimal(record["price"]).quantize(Decimal("0.01"))
    row["at"] = datetime.fromisoformat(record["at"])
    return row | more


class World:
    """A target in a database, and jobs over records that a test gives."""

    def __init__(self, database: Database) -> None:
        """Create the target."""
        self.database = database
        held, self.target = tables()
        with database.write() as connection:
            held.metadata.create_all(connection)
        with database.write() as connection:
            connection.execute(sa.insert(held.metadata.tables["conformance_brands"]), [{"name": "acme"}])

    def job(self, **options: Any) -> TableSync:
        """Return the job."""
        fields = {name: name for name in _COLUMNS if name != "state"}
        return TableSync(
            _given,
            name="conformance",
            target=self.target,
            key="sku",
            fields=fields,
            version="version",
            **options,
        )

    def sync(self, records: Iterable[Record], *, dry_run: bool = False, **options: Any) -> SyncResults:
        """Run the job over records."""
        request = RunRequest(dry_run=dry_run, full=True, allow_deletes=1_000_000)
        source = {"source": list(records)}
        results = run_sync(self.job(**options), SqlStore(self.database), request, resources=source)
        assert results.is_balanced
        return results

    def items(self, *items: Any, **options: Any) -> list[tuple[str | None, str]]:
        """Apply single items and return id and action of each."""
        results = sync_items(self.job(**options), SqlStore(self.database), items, trigger=Trigger.WEBHOOK)
        return [(result.external_id, str(result.action)) for result in results]

    def rows(self) -> Rows:
        """Return the target by plain SELECT; instants are in UTC."""
        found: Rows = {}
        with self.database.read() as connection:
            for row in connection.execute(sa.select(self.target)).mappings():
                values = {name: row[name] for name in _COLUMNS}
                if values["at"] is not None:
                    values["at"] = values["at"].replace(tzinfo=values["at"].tzinfo or UTC).astimezone(UTC)
                found[row["sku"]] = values
        return found

    def history(self) -> Counter[str]:
        """Return how many entries of each action the history has."""
        with self.database.read() as connection:
            return Counter(connection.execute(sa.select(changes.c.action)).scalars())


def _given(source: list[Record]) -> list[Record]:
    return source


def counts(results: SyncResults) -> dict[str, int]:
    """Return the counts that are not zero."""
    found = {
        **{str(outcome): count for outcome, count in results.outcomes.items()},
        "deleted": results.deleted,
        "marked": results.marked,
        "missing": results.missing,
    }
    return {name: count for name, count in found.items() if count}


class DatabaseConformance:
    """What every database has to do alike; see the module."""

    tells_constraints = True
    """Whether the driver tells which kind of constraint a record breaks; False: the code may be `constraint`."""

    def test_a_first_load_and_an_unchanged_second(self, database: Database) -> None:
        """The second writes nothing, neither rows nor history."""
        world = World(database)
        records = [product(number) for number in range(250)]
        assert counts(world.sync(records)) == {"created": 250}
        assert world.rows() == {record["sku"]: stored(record) for record in records}
        history = world.history()
        again = [{**record, "price": f"{record['price']}0", "stock": int(record["stock"])} for record in records]
        assert counts(world.sync(reversed(again))) == {"unchanged": 250}
        assert (world.rows(), world.history()) == ({record["sku"]: stored(record) for record in records}, history)

    def test_every_field_may_change(self, database: Database) -> None:
        """One field of each record changes, to NULL and back; then all records do."""
        world = World(database)
        records = [product(number) for number in range(24)]
        world.sync(records)
        others: list[Mapping[str, Any]] = [
            {"name": "other"},
            {"name": "product 2, \u00e9\U0001f600\t'\\"},
            {"name": "Product 3, e\u0301\U0001f600\t'\\"},
            {"name": "Product 4, \u00e9\U0001f600\t'\\ "},
            {"price": "0.01"},
            {"barcode": None},
            {"code": "C7"},
            {"brand": "acme"},
            {"at": (_START + timedelta(microseconds=10)).isoformat()},
        ]
        changed = [product(number, **(others[number - 1] if 0 < number < 10 else {})) for number in range(24)]
        results = world.sync(changed)
        assert counts(results) == {"updated": 9, "unchanged": 15}
        assert [[*sample.changes] for sample in results.samples] == [[*other] for other in others]
        assert world.rows() == {record["sku"]: stored(record) for record in changed}
        assert world.history()["updated"] == 9
        assert counts(world.sync(records)) == {"updated": 9, "unchanged": 15}
        everything = [product(number, stock=number + 1, name="all", version=2) for number in range(24)]
        assert counts(world.sync(everything)) == {"updated": 24}
        assert world.rows() == {record["sku"]: stored(record) for record in everything}

    def test_a_column_that_nothing_maps_is_left_alone(self, database: Database) -> None:
        """A default of UPDATE belongs to rows that are updated."""
        _, target = tables()
        table = target.to_metadata(sa.MetaData(), name="conformance_touched")
        table.append_column(sa.Column("touched", sa.Integer, nullable=False, default=1, onupdate=2))
        with database.write() as connection:
            table.create(connection)
        job = TableSync(_given, name="touched", target=table, key="sku", fields={"stock": "stock"})
        for stock in (1, 5):
            source = {"source": [{"sku": "A", "stock": 1}, {"sku": "B", "stock": stock}]}
            run_sync(job, SqlStore(database), RunRequest(full=True), resources=source)
        with database.read() as connection:
            rows = connection.execute(sa.select(table.c.sku, table.c.stock, table.c.touched).order_by(table.c.sku))
            assert list(map(tuple, rows)) == [("A", 1, 1), ("B", 5, 2)]

    def test_missing_rows_are_deleted(self, database: Database) -> None:
        """And with them go created, updated and unchanged ones in one run."""
        world = World(database)
        world.sync([product(number) for number in range(40)])
        records = [product(number, stock=number if number < 30 else 7) for number in range(10, 45)]
        results = world.sync(records, on_missing="delete")
        assert counts(results) == {"created": 5, "updated": 10, "unchanged": 20, "deleted": 10, "missing": 10}
        assert world.rows() == {record["sku"]: stored(record) for record in records}
        assert world.history()["deleted"] == 10

    def test_missing_rows_are_marked_and_come_back(self, database: Database) -> None:
        """A second time there is nothing to mark."""
        world = World(database)
        policy = mark(state="gone", otherwise="there")
        records = [product(number) for number in range(12)]
        world.sync(records, on_missing=policy)
        results = world.sync(records[4:], on_missing=policy)
        assert counts(results) == {"unchanged": 8, "marked": 4, "missing": 4}
        assert counts(world.sync(records[4:], on_missing=policy)) == {"unchanged": 8}
        expected = {record["sku"]: stored(record, state="there") for record in records}
        assert world.rows() == expected | {record["sku"]: stored(record, state="gone") for record in records[:4]}
        assert counts(world.sync(records, on_missing=policy)) == {"updated": 4, "unchanged": 8}
        assert world.rows() == expected

    def test_an_older_version_never_wins(self, database: Database) -> None:
        """None is older than any version that is held."""
        world = World(database)
        world.sync([product(number, version=5) for number in range(4)])
        versions = (4, 5, 6, None)
        results = world.sync([product(number, version=version, name="new") for number, version in enumerate(versions)])
        assert counts(results) == {"stale": 2, "updated": 2}
        rows = world.rows()
        assert [rows[f"P-{number:05}"]["version"] for number in range(4)] == [5, 5, 6, 5]
        assert [rows[f"P-{number:05}"]["name"] == "new" for number in range(4)] == [False, True, True, False]

    def test_duplicates_in_one_fetch_end_at_the_newest(self, database: Database) -> None:
        """The newest version wins, then the last; the others are skipped."""
        world = World(database)
        records = [product(1, version=version, name=name) for version, name in ((2, "a"), (3, "b"), (3, "c"), (1, "d"))]
        records += [product(2, version=None, name="e"), product(2, version=1, name="f")]
        assert counts(world.sync(records)) == {"created": 2, "skipped": 4}
        assert {sku: row["name"] for sku, row in world.rows().items()} == {"P-00001": "c", "P-00002": "f"}

    def test_what_is_refused_costs_its_record_alone(self, database: Database) -> None:
        """New and known records, each kind of constraint, among others that land."""
        world = World(database)
        held = [product(900, barcode="taken"), product(901, code="taken"), *[product(number) for number in range(8)]]
        world.sync(held)
        for start in (0, 100):
            bad = [product(start + number, **change) for number, (change, _) in enumerate(_REFUSED)]
            good = [product(start + number, name="good") for number in range(20, 60)]
            mixed = [record for pair in zip(good, [*bad, *[None] * 32], strict=True) for record in pair if record]
            results = world.sync([*mixed, *held[:2]])
            assert (results.created, results.rejected) == (40, len(bad))
            assert [error.external_id for error in results.errors] == [record["sku"] for record in bad]
            for error, (_, code) in zip(results.errors, _REFUSED, strict=True):
                assert error.code in ((code,) if self.tells_constraints else (code, "constraint"))
                assert "taken" not in error.message
                assert "nobody" not in error.message
            assert {entry.external_id for entry in open_rejects(database)} == {record["sku"] for record in bad}
            known = {record["sku"] for record in held}
            assert {sku: row for sku, row in world.rows().items() if sku in known} == {
                record["sku"]: stored(record) for record in held
            }
        assert world.sync([product(start + number) for start in (0, 100) for number in range(8)]).rejected == 0
        assert open_rejects(database) == []

    def test_many_refused_records_among_many_are_found_exactly(self, database: Database) -> None:
        """More than a chunk of narrowing, updates and inserts."""
        world = World(database)
        world.sync([product(number) for number in range(0, 1_100, 2)])
        bad = {0, 1_099}
        results = world.sync([product(number, stock=-1 if number in bad else 5) for number in range(1_100)])
        assert {error.external_id for error in results.errors} == {f"P-{number:05}" for number in bad}
        expected = {f"P-{number:05}": 5 for number in range(1_100) if number not in bad} | {"P-00000": 0}
        assert {sku: row["stock"] for sku, row in world.rows().items()} == expected

    def test_a_dry_run_counts_what_the_real_run_does(self, database: Database) -> None:
        """And writes nothing of it."""
        world = World(database)
        world.sync([product(number) for number in range(20)])
        before, history = world.rows(), world.history()
        records = [product(number, stock=-1 if number == 9 else 3) for number in range(5, 25)]
        dry = world.sync(records, dry_run=True, on_missing="delete")
        assert (world.rows(), world.history(), open_rejects(database)) == (before, history, [])
        real = world.sync(records, on_missing="delete")
        assert counts(dry) == counts(real)
        assert counts(real) == {"created": 5, "updated": 14, "rejected": 1, "deleted": 5, "missing": 5}

    def test_single_items(self, database: Database) -> None:
        """Several in one transaction, a bad one among them; a delete; what is equal or older."""
        world = World(database)
        assert world.items(product(1), product(2, stock=-1), product(3)) == [
            ("P-00001", "created"),
            ("P-00002", "rejected"),
            ("P-00003", "created"),
        ]
        assert world.items(product(1), product(3, version=0), product(3, name="new", version=2)) == [
            ("P-00001", "unchanged"),
            ("P-00003", "skipped"),
            ("P-00003", "updated"),
        ]
        assert world.items(product(3, version=1)) == [("P-00003", "stale")]
        assert world.items(Deletion(external_id="P-00001"), on_missing="delete") == [("P-00001", "deleted")]
        assert world.rows() == {"P-00003": stored(product(3, name="new", version=2))}
        assert world.history() == {"created": 2, "updated": 1, "unchanged": 1, "deleted": 1}
