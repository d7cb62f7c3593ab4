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
        "fetched 5,000 records so far, 1,000 a second",
        "fetched 10,000 records so far, 1,000 a second",
        "to create: 1,200, to update: 0, unchanged: 3, missing: 0",
    ]


def test_an_estimate_is_given_until_it_has_turned_out_wrong(caplog):
    now = [0.0]
    progress = LogProgress(logging.getLogger("progress"), expected=8_000, monotonic=lambda: now[0])
    with caplog.at_level(logging.INFO):
        for seconds, records in ((5, 2_000), (10, 5_000), (15, 9_000)):
            now[0] = seconds
            progress.on_written(records)
    assert caplog.messages == [
        "handled 2,000 records so far, 400 a second; about 8,000 in all, 15 s to go",
        "handled 5,000 records so far, 500 a second; about 8,000 in all, 6 s to go",
        "handled 9,000 records so far, 600 a second",
    ]
