"""Which tests run on which database."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from tests.conftest import MARIADB_VARIABLE, POSTGRESQL_VARIABLE, on_other_databases

ALL = ("sqlite", "postgresql", "mariadb")


@dataclass(frozen=True)
class Collected:
    """An item, as far as it is looked at."""

    nodeid: str
    callspec: SimpleNamespace = field(compare=False)
    get_closest_marker: Callable[[str], object] = field(compare=False)


def variants(path, *databases, marks=()):
    """Make what pytest collects of one test."""
    return [
        Collected(
            nodeid=f"{path}::test[{database}]",
            callspec=SimpleNamespace(params={"database_url": database}),
            get_closest_marker=dict.fromkeys(marks, True).get,
        )
        for database in databases
    ]


def left_out(items):
    return sorted(item.nodeid.partition("[")[2][:-1] for item in on_other_databases(items))


@pytest.fixture(autouse=True)
def both_servers(monkeypatch):
    for name in (POSTGRESQL_VARIABLE, MARIADB_VARIABLE):
        monkeypatch.setenv(name, "given")


def test_most_runs_on_one_database_each_in_its_turn():
    found = [left_out(variants(f"tests/cli/test_{number}.py", *ALL)) for number in range(40)]
    turns = [("mariadb", "postgresql"), ("mariadb", "sqlite"), ("postgresql", "sqlite")]
    assert sorted(set(map(tuple, found))) == turns


def test_the_store_and_what_is_marked_run_on_all():
    for path in ("tests/store/test_a.py", "tests/faults/test_a.py"):
        assert left_out(variants(path, *ALL)) == []
    assert left_out(variants("tests/engine/test_a.py", *ALL, marks=["each_database"])) == []
    assert len(left_out(variants("tests/engine/store/test_a.py", *ALL))) == 2


def test_a_test_of_servers_alone_runs_on_both():
    assert left_out(variants("tests/orchestration/test_a.py", "postgresql", "mariadb")) == []


def test_without_mariadb_the_others_take_turns(monkeypatch):
    monkeypatch.delenv(MARIADB_VARIABLE)
    found = [left_out(variants(f"tests/cli/test_{number}.py", *ALL)) for number in range(40)]
    assert sorted(set(map(tuple, found))) == [("mariadb", "postgresql"), ("mariadb", "sqlite")]
