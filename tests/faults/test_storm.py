"""Messages are sent again, late and out of order, while whatever handles them is killed."""

import secrets
import sys

import pytest

from tests.faults.storm import Storm

pytestmark = [pytest.mark.fault, pytest.mark.timeout(6 * 3_600)]
SHORT = (34, 667)
"""Kills and messages of each database: 100 and 2,000 on all three."""
LONG = (1_000, 16_667)


def rage(request, keeper, zygote, *, kills, messages, **given):
    """Let a storm rage, and tell how to have the same again where it found something."""
    chosen = request.config.getoption("--fault-seed")
    seed = secrets.randbelow(10**6) if chosen is None else chosen
    storm = Storm(keeper.url, keeper.folder, zygote, seed=seed, kills=kills, messages=messages, **given)
    storm.rage()
    account = f"killed {dict(storm.killed)}, answers {dict(storm.answers)}, retried by hand {storm.dead}"
    is_long = request.config.getoption("--fault-long")
    replay = f"pytest '{request.node.nodeid}' --fault-seed {seed}{' --fault-long' if is_long else ''}"
    assert storm.found == [], f"replay with: python -m {replay}\n{account}"
    assert storm.killed.total() >= kills
    assert storm.answers["202"] >= messages
    return account


def test_nothing_is_lost_doubled_or_undone_in_a_storm(keeper, zygote, request, capsys):
    is_long = request.config.getoption("--fault-long")
    kills, messages = LONG if is_long else SHORT
    account = rage(request, keeper, zygote, kills=kills, messages=messages)
    with capsys.disabled():
        sys.stdout.write(f"\n{request.node.name}: {account}\n" if is_long else "")


@pytest.mark.skipif(sys.platform != "linux", reason="reads from /proc how the server was started")
@pytest.mark.parametrize("migrated_url", ["own"], indirect=True)
@pytest.mark.parametrize("own_server", ["own_postgresql", "own_mariadb"], indirect=True)
def test_nor_where_the_database_server_is_killed_too(keeper, zygote, request, own_server):
    is_long = request.config.getoption("--fault-long")
    kills, messages = (200, 2_000) if is_long else (8, 100)
    rage(request, keeper, zygote, kills=kills, messages=messages, blows=own_server.crashes)
    assert own_server.times_killed >= 5
