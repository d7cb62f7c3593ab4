"""Progress in Dagster's log: few lines, whatever the number of records."""

import logging

from sync_defs.engine import ChangeCounts
from sync_defs.orchestration.progress import LogProgress


def test_progress_is_logged_every_five_seconds_at_most(caplog):
    now = [0.0]
    progress = LogProgress(logging.getLogger("progress"), monotonic=lambda: now[0])
    with caplog.at_level(logging.INFO):
        for page in range(1, 13):
            now[0] += 1
            progress.on_fetched(page * 1000)
        progress.on_diffed(ChangeCounts(created=1200, unchanged=3))
    assert caplog.messages == [
        "fetched 5,000 records so far",
        "fetched 10,000 records so far",
        "to create: 1,200, to update: 0, unchanged: 3, missing: 0",
    ]
