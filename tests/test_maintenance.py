"""One call prunes all of the bookkeeping."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sync_defs import Database, TableSync
from sync_defs.engine import sync_items
from sync_defs.inbox import Inbox, MessageState, read_message
from sync_defs.maintenance import Pruned, prune
from sync_defs.store import SqlStore
from sync_defs.store.schema import changes, runs
from tests.clock import NOW, Clock


@pytest.fixture
def job() -> TableSync:
    columns = (sa.Column("sku", sa.String(20), primary_key=True), sa.Column("n", sa.Integer))
    target = sa.Table("items", sa.MetaData(), *columns)
    return TableSync(lambda: (), name="stock", target=target, key="sku", fields={"n": "n"}, create_table=True)


def history(database: Database) -> tuple[int, int]:
    """How many changes and runs there are."""
    with database.read() as connection:
        counts = [connection.execute(sa.select(sa.func.count()).select_from(t)).scalar_one() for t in (changes, runs)]
    return counts[0], counts[1]


@pytest.fixture
def used(database: Database, job: TableSync, clock: Clock) -> Inbox:
    """Three changes by a run each, 100, 50 and 0 days ago; a message on each of these days for a job that is gone."""
    inbox = Inbox(database)
    for number in (0, 1, 2):
        clock.now = NOW - timedelta(days=100 - 50 * number)
        sync_items(job, SqlStore(database), [{"sku": "A", "n": number}])
        body = json.dumps({"sku": f"M{number}", "n": 1}).encode()
        message = read_message(job, message_id=f"m{number}", body=body, now=clock.now)
        inbox.enqueue(replace(message, job="gone"))
    return inbox


def test_everything_old_goes_and_what_is_for_nobody_is_buried(database, used):
    assert history(database) == (3, 3)
    pruned = prune(database, jobs=["stock"], history_days=90)
    assert pruned == Pruned(changes=1, runs=1, message_ids=2, buried=2)
    assert pruned.summary() == "deleted: changes 1, runs 1, message ids 2; made dead: messages of unknown jobs 2"
    assert history(database) == (2, 2)
    states = {number: used.state("gone", f"M{number}") for number in (0, 1, 2)}
    assert states == {0: MessageState.DEAD, 1: MessageState.DEAD, 2: MessageState.PENDING}
    assert prune(database, jobs=["stock"], history_days=90) == Pruned(changes=0, runs=0, message_ids=0, buried=0)


def test_zero_days_keep_the_history_for_ever(database, used):
    assert prune(database, jobs=["stock"], history_days=0) == Pruned(changes=0, runs=0, message_ids=2, buried=2)
    assert history(database) == (3, 3)


def test_without_any_job_no_message_is_buried(database, used):
    assert prune(database, jobs=[], history_days=90).buried == 0
    assert used.counts("gone").ready == 3


def test_messages_of_a_job_that_there_is_wait_however_long(database, used):
    assert prune(database, jobs=["stock", "gone"], history_days=90).buried == 0
    assert used.counts("gone").ready == 3
