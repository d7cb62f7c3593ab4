"""A page is staged while the next one is fetched, where the source waits, and never more than that."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sync_defs import Database, run_sync
from sync_defs.engine import overlap
from sync_defs.engine.overlap import overlapped
from sync_defs.store import SqlStore
from tests.engine.test_known_records import Items, record

PAGE = 2_000


def page(number: int) -> list[dict[str, Any]]:
    return [record(f"S{number}-{place}") for place in range(PAGE)]


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Call what a test puts in, before and after a page is staged."""
    hooks: list[Any] = [lambda: None, lambda: None]
    stage = SqlStore.stage

    def watched(self: Any, *arguments: Any) -> None:
        hooks[0]()
        stage(self, *arguments)
        hooks[1]()

    monkeypatch.setattr(SqlStore, "stage", watched)
    return hooks


@pytest.mark.parametrize("migrated_url", ["sqlite", "postgresql"], indirect=True)
def test_the_next_page_is_fetched_while_one_is_staged(database, stages):
    """Behind a first page that took its time, each waits for the other: without an overlap neither would go on."""
    is_asked, is_being_staged = threading.Event(), threading.Event()
    met: list[bool] = []
    staged: list[None] = []

    def fetch() -> Any:
        threading.Event().wait(2)
        yield page(1)
        yield page(2)
        is_asked.set()
        met.append(is_being_staged.wait(20))
        yield page(3)

    def before() -> None:
        staged.append(None)
        if len(staged) == 2:
            is_being_staged.set()
            met.append(is_asked.wait(20))

    stages[0] = before
    items = Items(database)
    results = run_sync(items.job(), database=database, resources={"source": fetch})
    assert (results.created, met) == (3 * PAGE, [True, True])


class Clocks:
    """The time, and what of it the thread computed, as a test lets them pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.busy = 0.0
        monkeypatch.setattr(overlap, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(overlap, "thread_time", lambda: self.busy)

    def compute(self, seconds: float) -> None:
        self.wall += seconds
        self.busy += seconds

    def source(self, waits: Iterator[float]) -> Iterator[float]:
        for seconds in waits:
            self.wall += seconds
            self.compute(1)
            yield seconds


@pytest.mark.parametrize(
    ("fetch_waits", "work_waits", "others"),
    [(0, 0, 0), (0.3, 0, 0), (0.4, 0, 127), (0, 9, 0), (0.4, 0.2, 127), (0.4, 1, 0)],
    ids=["neither waits", "hardly", "the source waits", "the work waits", "both", "the work waits longer"],
)
def test_only_waiting_is_overlapped(monkeypatch, fetch_waits, work_waits, others):
    """A page takes 2 s of computing. Of 130, the first and the 67th are measured: 2 to 65 and 68 to 130 overlap."""
    clocks = Clocks(monkeypatch)
    threads: list[int] = []
    own = threading.get_ident()

    def work(_: float) -> int:
        threads.append(threading.get_ident())
        if threads[-1] == own:
            clocks.wall += work_waits
            clocks.compute(1)
        return len(threads)

    pages = clocks.source(iter([fetch_waits] * 130))
    assert list(overlapped(pages, work)) == list(range(1, 131))
    assert sum(thread != own for thread in threads) == others


def test_pages_wait_for_the_work(sqlite_template, tmp_path, stages):
    """Of five pages, two are on the way at the most: one that is worked on, and one that waits."""
    path = tmp_path / "target.db"
    path.write_bytes(sqlite_template.read_bytes())
    on_the_way: list[int] = [0]
    most: list[int] = []
    threads: set[int] = set()

    def fetch() -> Any:
        for number in range(5):
            threads.add(threading.get_ident())
            on_the_way[0] += 1
            most.append(on_the_way[0])
            yield page(number)

    def after() -> None:
        on_the_way[0] -= 1

    stages[1] = after
    with Database(f"sqlite:///{path}") as database:
        items = Items(database)
        results = run_sync(items.job(), database=database, resources={"source": fetch})
    # The page that is being made is counted too.
    assert (results.created, max(most) <= 3) == (5 * PAGE, True)
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_a_failure_on_either_side_ends_the_run_with_what_was_fetched(database, stages):
    items = Items(database)
    ended: list[Any] = []

    def broken() -> Any:
        yield page(1)
        raise ConnectionError("gone")

    def on_complete(results: Any) -> None:
        ended.append(results)

    job = items.job()
    job.on_complete = on_complete
    with pytest.raises(ConnectionError, match="gone"):
        run_sync(job, database=database, resources={"source": broken})

    def refuse() -> None:
        raise MemoryError

    stages[0] = refuse
    with pytest.raises(MemoryError):
        run_sync(job, database=database, resources={"source": lambda: page(1)})
    assert [results.fetched for results in ended] == [PAGE, PAGE]
    assert items.rows() == {}


def test_a_database_in_memory_is_worked_on_by_its_own_thread():
    with Database("sqlite://") as database:
        database.upgrade()
        items = Items(database)
        results = run_sync(items.job(), database=database, resources={"source": lambda: [record("A")]})
        assert (results.created, items.rows()) == (1, {"A": (1, None)})
