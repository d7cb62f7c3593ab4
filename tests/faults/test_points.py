"""A process is killed at each named point of its day, and the next one finds nothing lost, doubled or undone."""

import signal
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sync_defs import Database
from sync_defs.inbox import Inbox, read_message
from sync_defs.store.store import SqlStore
from tests.faults import roles
from tests.faults.judge import Ledger, faults_found
from tests.faults.messages import Message
from tests.faults.points import Points, unarmed
from tests.faults.shop import JOBS, FastClock, Source

pytestmark = [pytest.mark.fault, pytest.mark.timeout(3_600)]
A_MINUTE_S = 61
KILLS_OF_A_WEEK = 6
"""Days that end by a kill before somebody looks: what they leave behind has to get along with each other."""
STEPS = {
    *("accept", "answer", "answered", "claim", "lock", "apply", "acknowledge", "retry", "renew", "drain"),
    *("lease", "begin", "stage", "diff", "write", "end"),
}


class Days:
    """One day after another over the same tables; each has items and messages of its own."""

    def __init__(self, database: Database, folder: Path, zygote: Any) -> None:
        self.database = database
        self.store = SqlStore(database)
        self.folder = folder
        self.zygote = zygote
        self.source = Source(folder / "source.json")
        self.ledger = Ledger()
        self.number = 0
        self.unheard: list[Message] = []
        """What was sent since the last recovery, answered or not."""

    def live(self, job: str, **given: Any) -> int:
        """Live one day with a job in a process of its own, a minute after the one before; return its exit status."""
        self.number += 1
        a, b, late = (f"{job}-{self.number}-{name}" for name in ("a", "b", "late"))
        day = [
            Message(job, f"m{self.number}-1", ((a, 1), (b, 1))),
            Message(job, f"m{self.number}-2", ((b, 2), (late, 1))),
            Message(job, f"m{self.number}-3", ((a, 3),)),
        ]
        for message in day:
            message.is_made(self.ledger)
        items = self.ledger.newest
        del items[job][late]  # where the source is asked, it does not show this one yet: the message is tried again
        items[job] |= {a: 2, f"{job}-{self.number}-other": 1}
        for sku, revision in items[job].items():
            self.ledger.make(job, sku, revision)
        self.source.write(items)
        acknowledged = self.folder / f"acknowledged-{self.number}"
        child = self.zygote.start(
            "a day",
            self.folder / "processes.log",
            job=job,
            day=[asdict(message) for message in day],
            acknowledged=str(acknowledged),
            url=self.database.engine.url.render_as_string(hide_password=False),
            source=str(self.source.path),
            clock=asdict(self.clock),
            **given,
        )
        status = child.wait()
        answered = acknowledged.read_text().split() if acknowledged.exists() else []
        for message in day:
            if message.message_id in answered:
                message.is_acknowledged(self.ledger)
        self.unheard += day
        return status

    def recover(self) -> list[str]:
        """A minute later: send all again, as a sender does that had no answer, drain, sync; return what is wrong."""
        self.number += 1
        self.source.write(self.ledger.newest)
        self.database.clock = self.clock
        inbox = Inbox(self.database)
        for message in self.unheard:
            job, body = JOBS[message.job], message.body
            inbox.enqueue(read_message(job, message_id=message.message_id, body=body, now=self.database.now()))
            message.is_acknowledged(self.ledger)
        stage = roles.Stage(database=self.database, store=self.store, source=self.source, points=Points(unarmed))
        roles.drain_due(stage, run_id=f"recovery-{self.number}")
        for name in sorted({message.job for message in self.unheard}):
            roles.sync(JOBS[name], stage)
        self.unheard.clear()
        return faults_found(self.database, self.ledger)

    @property
    def clock(self) -> FastClock:
        """Return the clock of the day: each begins a minute after the one before."""
        return FastClock(time.time(), 1.0, self.number * A_MINUTE_S)


@pytest.fixture
def days(shop_url, tmp_path, zygote, monkeypatch):
    monkeypatch.setattr(Inbox, "acknowledge", Inbox.acknowledge)  # put back, what is bound next
    roles.note_what_is_applied()
    with Database(shop_url) as database:
        days = Days(database, tmp_path, zygote)
        days.source.write(days.ledger.newest)
        zygote.warm_up(shop_url, str(days.source.path))
        yield days


def test_killed_at_each_named_point_and_started_again(days, request, log, shop_url):
    reached: dict[str, Counter[str]] = {}
    for job in JOBS:
        record = log.with_name(job)
        assert days.live(job, record=str(record)) == 0, log.read_text()
        reached[job] = Counter(record.read_text().split())
        assert days.recover() == []
    names = sorted(set().union(*reached.values()))
    assert {name.partition(".")[0] for name in names} >= STEPS
    kills = [
        (job, name, nth)
        for job, times in reached.items()
        for name in times
        for nth in range(1, 2 if name.startswith("renew.") else times[name] + 1)  # a thread renews, more often or less
    ]
    random = Random(shop_url.partition(":")[0])
    random.shuffle(kills)
    if not request.config.getoption("--fault-long"):
        kills = [next(kill for kill in kills if kill[1] == name) for name in names]
    for start in range(0, len(kills), KILLS_OF_A_WEEK):
        week = kills[start : start + KILLS_OF_A_WEEK]
        ends = [(job, name, nth, days.live(job, kill=(name, nth))) for job, name, nth in week]
        assert ends == [(*kill, -signal.SIGKILL) for kill in week], log.read_text()
        assert (week, days.recover()) == (week, [])
