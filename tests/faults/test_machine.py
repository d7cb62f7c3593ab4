"""Anything in any order: the queue does what a plain model does, and broken ones are found out."""

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from sync_defs import Database
from tests.faults.machine import Machine, World, make_job
from tests.faults.mutants import MUTANTS

QUIET = tuple(HealthCheck)
SEED = 1
"""One that finds each mutant soon: within 20 examples, when it was chosen."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Database("sqlite://") as database:
        database.upgrade()
        yield World(database, make_job())


def run(world: World, *, seed: int | None = None, **given: Any) -> None:
    bound = type("Bound", (Machine,), {"world": world})
    bound = bound if seed is None else hypothesis.seed(seed)(bound)
    chosen = {"deadline": None, "suppress_health_check": QUIET, "stateful_step_count": 30} | given
    run_state_machine_as_test(bound, settings=settings(**chosen))


@pytest.mark.timeout(3_600)
def test_the_queue_does_what_the_model_does(world, request):
    run(world, max_examples=2_500 if request.config.getoption("--fault-long") else 40)


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_broken_queue_is_found_out(world, monkeypatch, name):
    """Each mutant lacks one of the things that keep messages; the machine has to see it, by itself."""
    monkeypatch.setattr(world, "job", world.job)  # put back, what a mutant replaces
    MUTANTS[name](monkeypatch, world)
    with pytest.raises(AssertionError):
        run(world, seed=SEED, max_examples=500, database=None, phases=[Phase.generate], report_multiple_bugs=False)
