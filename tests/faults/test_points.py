"""A process is killed at each named point of its day, and the next one finds nothing lost, doubled or undone."""

import signal
from collections import Counter
from dataclasses import asdict
from random import Random
from typing import Any
from zlib import crc32

import pytest

from tests.conftest import databases_there
from tests.faults.keeper import Keeper
from tests.faults.shop import JOBS

pytestmark = [pytest.mark.fault, pytest.mark.timeout(3_600)]
KILLS_OF_A_WEEK = 6
"""Days that are to end by a kill before somebody looks: what they leave behind has to get along with each other."""
TRIES = 10
"""Days in which a point has to be reached: whether a day has listed items, and so news, follows from its number."""
STEPS = {
    *("accept", "answer", "answered", "claim", "lock", "apply", "acknowledge", "retry", "renew", "drain"),
    *("lease", "begin", "stage", "diff", "write", "end"),
}


def live(keeper: Keeper, zygote: Any, job: str, **given: Any) -> int:
    """Live one day with a job in a process of its own, a minute after the one before; return its exit status."""
    keeper.minutes += 1
    day = f"{job}-{keeper.minutes}"
    a, b, late = (f"{day}-{name}" for name in ("a", "b", "late"))
    messages = [
        keeper.make(job, f"m-{day}-1", (a, 1), (b, 1)),
        keeper.make(job, f"m-{day}-2", (b, 2), (late, 1)),
        keeper.make(job, f"m-{day}-3", (a, 3)),
    ]
    items = keeper.ledger.newest
    del items[job][late]  # where the source is asked, it does not show this one yet: the message is tried again
    # A full fetch has an older state than the last message; a source that is asked for an item has what it told of.
    items[job] |= {a: 3 if JOBS[job].refetch else 2, f"{day}-other": 1}
    for sku, revision in items[job].items():
        keeper.ledger.make(job, sku, revision)
    keeper.source.write(items)
    acknowledged = keeper.folder / f"acknowledged-{day}"
    day_given = {"job": job, "day": [asdict(message) for message in messages], "acknowledged": str(acknowledged)}
    child = zygote.start("a day", keeper.folder / "processes.log", **day_given, **keeper.given, **given)
    status = child.wait()
    answered = acknowledged.read_text().split() if acknowledged.exists() else []
    for message in messages:
        if message.message_id in answered:
            keeper.note_answer(message)
    return status


def test_killed_at_each_named_point_and_started_again(keeper, zygote, request, log):
    zygote.warm_up(keeper.url, str(keeper.source.path))
    reached: dict[str, Counter[str]] = {}
    for job in JOBS:
        record = log.with_name(job)
        assert live(keeper, zygote, job, record=str(record)) == 0, log.read_text()
        reached[job] = Counter(record.read_text().split())
        assert keeper.settle() == []
    names = sorted(set().union(*reached.values()))
    assert {name.partition(".")[0] for name in names} >= STEPS
    kills = [
        (job, name, nth)
        for job, times in reached.items()
        for name in times
        for nth in range(1, 2 if name.startswith("renew.") else times[name] + 1)  # a thread renews, more often or less
    ]
    kind = keeper.database.dialect.name
    random = Random(kind)
    random.shuffle(kills)
    if not request.config.getoption("--fault-long"):
        there = databases_there()  # each has its share of the points
        share = [name for name in names if there[crc32(name.encode()) % len(there)] == kind]
        # The first time in a day; of the second, which few days have, the long form takes care.
        kills = [next(kill for kill in kills if kill[1:] == (name, 1)) for name in share]
    passed_by = []  # what the days before have left may take another way
    for start in range(0, len(kills), KILLS_OF_A_WEEK):
        week = kills[start : start + KILLS_OF_A_WEEK]
        ends = [live(keeper, zygote, job, kill=(name, nth)) for job, name, nth in week]
        assert set(ends) <= {-signal.SIGKILL, 0}, (week, ends, log.read_text())
        assert (week, keeper.settle()) == (week, [])
        passed_by += [kill for kill, end in zip(week, ends, strict=True) if end == 0]
    for job, name, nth in passed_by:
        ends = [0]
        for _ in range(TRIES):
            if ends[-1] == 0:
                ends.append(live(keeper, zygote, job, kill=(name, nth)))
                assert (name, nth, keeper.settle()) == (name, nth, [])
        assert (name, nth, ends[-1]) == (name, nth, -signal.SIGKILL), log.read_text()
