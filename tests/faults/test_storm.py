"""Messages are sent again, late and out of order, while whatever handles them is killed."""

import secrets
import sys

import pytest

from tests.faults.storm import Storm

pytestmark = [pytest.mark.fault, pytest.mark.timeout(6 * 3_600)]
SHORT = (34, 667)
"""Kills and messages of each database: 100 and 2,000 on all three."""
LONG = (1_000, 16_667)


def test_nothing_is_lost_doubled_or_undone_in_a_storm(keeper, zygote, request, capsys):
    is_long = request.config.getoption("--fault-long")
    given = request.config.getoption("--fault-seed")
    seed = secrets.randbelow(10**6) if given is None else given
    kills, messages = LONG if is_long else SHORT
    storm = Storm(keeper.url, keeper.folder, zygote, seed=seed, kills=kills, messages=messages)
    storm.rage()
    account = f"killed {dict(storm.killed)}, answers {dict(storm.answers)}, retried by hand {storm.dead}"
    with capsys.disabled():
        sys.stdout.write(f"\n{request.node.name}: {account}\n" if is_long else "")
    replay = f"pytest '{request.node.nodeid}' --fault-seed {seed}{' --fault-long' if is_long else ''}"
    assert storm.found == [], f"replay with: python -m {replay}\n{account}"
    assert storm.killed.total() >= kills
    assert storm.answers["202"] >= messages
