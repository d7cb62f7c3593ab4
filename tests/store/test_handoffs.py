"""What the steps of a run hand to each other."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sync_defs import ConfigurationError
from sync_defs.maintenance import prune
from sync_defs.store.handoffs import forget_handoffs, put_handoff, take_handoff
from sync_defs.store.schema import handoffs
from tests.clock import NOW

LONG = {"ids_not_in_source": [f"SKU-{number:0250}" for number in range(1_000)]}


def kept(database):
    with database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(handoffs)).scalar_one()


def test_a_step_may_be_taken_up_again_and_replaced(database):
    put_handoff(database, "run", "stock.fetch", {"fetched": 1})
    put_handoff(database, "run", "stock.fetch", LONG)
    assert take_handoff(database, "run", "stock.fetch") == take_handoff(database, "run", "stock.fetch") == LONG
    assert kept(database) == 1


def test_steps_runs_and_jobs_are_kept_apart(database):
    places = [("one", "stock.fetch"), ("one", "stock.diff"), ("one", "Stock.fetch"), ("two", "stock.fetch")]
    for number, (run_id, step) in enumerate(places):
        put_handoff(database, run_id, step, {"number": number})
    assert [take_handoff(database, *place)["number"] for place in places] == [0, 1, 2, 3]
    forget_handoffs(database, "one", ["stock.fetch", "stock.diff"])
    assert [take_handoff(database, *place)["number"] for place in places[2:]] == [2, 3]
    assert kept(database) == 2


def test_what_is_gone_is_told_with_what_to_do(database):
    with pytest.raises(ConfigurationError, match="re-execute all steps") as caught:
        take_handoff(database, "run", "stock.fetch")
    assert caught.value.code == "stage_gone"


def test_what_a_killed_run_left_goes_after_two_weeks(database, clock):
    put_handoff(database, "run", "stock.fetch", {})
    for days, left in ((14, 1), (15, 0)):
        clock.now = NOW + timedelta(days=days)
        prune(database, jobs=[], history_days=0)
        assert kept(database) == left
