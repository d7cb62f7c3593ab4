"""The garbage collector is held back while a page is worked on, and never longer."""

import gc

import pytest

from sync_defs import Database, run_sync
from sync_defs.engine.collector import held_back
from tests.engine.test_known_records import Items, record


@pytest.fixture
def collector():
    assert gc.isenabled()
    yield gc
    gc.enable()


def test_a_source_has_its_cycles_collected_and_the_work_on_its_pages_has_not(collector):
    seen: dict[str, list[bool]] = {"source": [], "work": []}

    def fetch():
        for number in range(3):
            seen["source"].append(collector.isenabled())
            yield [record(f"S{number}-{place}") for place in range(2_000)]

    def notes(found):
        seen["work"].append(collector.isenabled())
        return False

    # In memory, fetch and work take turns in one thread.
    with Database("sqlite://") as database:
        database.upgrade()
        job = Items(database).job(should_skip=notes)
        run_sync(job, database=database, resources={"source": fetch})
    assert (set(seen["source"]), set(seen["work"]), collector.isenabled()) == ({True}, {False}, True)


def test_an_exception_ends_it(collector):
    with pytest.raises(KeyError), held_back():
        raise KeyError
    assert collector.isenabled()


def test_what_somebody_has_switched_off_stays_off(collector):
    collector.disable()
    with held_back():
        pass
    assert not collector.isenabled()
