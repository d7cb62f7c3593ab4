"""Partitions: each run is of one, and its rows alone can be missing; several are synced side by side."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sync_defs import BusyError, ConfigurationError, Database, SyncJob, TableSync, run_sync
from sync_defs.engine import RunRequest, fetch
from sync_defs.engine import run_sync as run_engine
from sync_defs.store import SqlStore


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "offers"
    sku: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    shop: Mapped[str] = mapped_column(sa.String(20))
    price: Mapped[int | None]


offers = cast("sa.Table", Row.__table__)


class OfferJob(SyncJob[dict, Row]):
    name = "offers"
    create_tables = (offers,)
    on_missing = "delete"

    def fetch_external(self, source, partition):
        return source(partition)

    def get_external_id(self, record):
        return record["sku"]

    def find_local(self, session, external_id):
        return session.get(Row, external_id)

    def create(self, session, record):
        session.add(Row(**record))

    def update(self, session, row, record):
        row.shop, row.price = record["shop"], record["price"]

    def local_external_ids(self, session, partition):
        yield from session.scalars(sa.select(Row.sku).where(Row.shop == partition))


def table_job(**options):
    given = {"on_missing": "delete", "in_partition": lambda table, key: table.c.shop == key, **options}
    fields = {"shop": "shop", "price": "price"}
    return TableSync(
        lambda source, partition: source(partition),
        name="offers",
        target=offers,
        key="sku",
        fields=fields,
        create_table=True,
        **given,
    )


@pytest.fixture(params=["table", "callbacks"])
def job(request):
    return table_job() if request.param == "table" else OfferJob()


@pytest.fixture
def database(migrated_url):
    with Database(migrated_url) as database:
        yield database


@pytest.fixture
def sync(job, database):
    def run(partition, *skus, **options):
        found = [{"sku": sku, "shop": partition, "price": 1} for sku in skus]
        return run_sync(job, database=database, resources={"source": lambda _: found}, partition=partition, **options)

    return run


def rows(database):
    with database.read() as connection:
        return {row.sku: row.shop for row in connection.execute(sa.select(offers))}


def test_rows_of_other_partitions_are_not_missing(sync, database):
    sync("de", "A", "B")
    sync("fr", "C", "D")
    results = sync("fr", "C")
    assert (results.partition, results.full, results.missing, results.deleted) == ("fr", True, 1, 1)
    assert rows(database) == {"A": "de", "B": "de", "C": "fr"}


def test_the_guard_is_about_the_rows_of_the_partition(sync, database):
    sync("de", *(f"D{number}" for number in range(200)))
    sync("fr", *(f"F{number}" for number in range(20)))
    results = sync("fr", "F0")  # 19 of 220 rows would be let through
    assert (results.missing, results.withheld, len(rows(database))) == (19, 19, 220)


def test_an_empty_partition_deletes_nothing(sync, database):
    sync("de", "A")
    assert sync("de").missing == 0
    assert rows(database) == {"A": "de"}


def test_a_reject_of_another_partition_stays_open(sync, database, job):
    bad = [{"sku": "A", "shop": "x" * 21, "price": 1}]
    run_sync(job, database=database, resources={"source": lambda _: bad}, partition="de")
    sync("fr", "C")
    with database.read() as connection:
        schema = f"{database.dialect.schema}." if database.dialect.schema else ""
        still_open = connection.exec_driver_sql(f"SELECT count(*) FROM {schema}sync_rejects WHERE closed_at IS NULL")
        assert still_open.scalar() == 1


@pytest.mark.each_database
def test_twenty_partitions_are_synced_four_at_a_time(job, database):
    """Four fetches meet inside, twenty times over; none ends the run of another for dead."""
    meeting = threading.Barrier(4, timeout=60)

    def source(partition):
        meeting.wait()
        return [{"sku": f"{partition}-{number}", "shop": partition, "price": number} for number in range(3)]

    def run(number):
        # A store of its own, as a process has.
        request = RunRequest(partition=f"shop{number}", wait_s=60)
        return run_engine(job, SqlStore(database), request, resources={"source": source})

    if database.dialect.name == "sqlite":
        meeting = threading.Barrier(1)  # one writer at a time: they take turns there
    SqlStore(database).prepare(job)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, range(20)))
    assert [(found.partition, found.created) for found in results] == [(f"shop{n}", 3) for n in range(20)]
    assert len(rows(database)) == 60


def test_one_partition_takes_turns_with_itself_alone(job, database):
    store = SqlStore(database)
    held = {"source": lambda _: [{"sku": "A", "shop": "de", "price": 1}]}
    fetch(job, store, RunRequest(partition="de"), resources=held)
    with pytest.raises(BusyError):
        run_sync(job, database=database, resources=held, partition="de")
    assert run_sync(job, database=database, resources=held, partition="fr").fetched == 1


@pytest.mark.parametrize(
    ("options", "partition", "sentence"),
    [
        ({}, None, "job 'offers' is synced partition by partition; say which with partition="),
        ({}, "", "partition is ''; give the partition's key as text"),
        ({}, 5, "partition is 5; give the partition's key as text"),
    ],
)
def test_a_partition_that_is_none_is_refused(database, options, partition, sentence):
    with pytest.raises(ConfigurationError) as caught:
        run_sync(table_job(**options), database=database, resources={"source": lambda _: []}, partition=partition)
    assert caught.value.message == sentence


def test_a_job_without_partitions_takes_none(database):
    job = TableSync(lambda source: source, name="offers", target=offers, key="sku", fields={"shop": "shop"})
    with pytest.raises(ConfigurationError, match="job 'offers' has no partitions"):
        run_sync(job, database=database, resources={"source": []}, partition="de")


def test_a_job_has_to_tell_the_rows_of_a_partition():
    with pytest.raises(ConfigurationError, match="which rows are a partition's: give in_partition="):
        table_job(in_partition=None)
    assert table_job(in_partition=None, on_missing="keep").is_partitioned

    class Blind(OfferJob):
        def local_external_ids(self, session):
            yield from ()

    with pytest.raises(ConfigurationError, match=r"give local_external_ids\(\) a parameter partition"):
        Blind().validate()


def test_a_cursor_and_partitions_exclude_each_other():
    with pytest.raises(ConfigurationError, match="a parameter cursor or partition, not both"):
        TableSync(lambda cursor, partition: [], name="offers", target=offers, key="sku", fields={"shop": "shop"})


def test_partitions_need_a_fetch_that_takes_their_key():
    with pytest.raises(ConfigurationError, match="partitions_def= needs a fetch with a parameter partition"):
        TableSync(list, name="offers", target=offers, key="sku", fields={"shop": "shop"}, partitions_def=object())
