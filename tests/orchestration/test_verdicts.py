"""What a check says, by counts and times alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from sync_defs import Checks, ConfigurationError, SyncResults
from sync_defs.inbox import Counts
from sync_defs.orchestration.ticks import Ticks
from sync_defs.orchestration.verdicts import (
    judge_fetched,
    judge_freshness,
    judge_lag,
    judge_outcomes,
    judge_rejects,
    judge_withheld,
)

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RUN = SyncResults(name="stock", run_id="r", started_at=NOON, completed_at=NOON)


def said(verdict):
    """Green, or how bad; a verdict that could not be reached is no success and no failure either."""
    if not verdict.is_evaluated:
        assert not verdict.passed
        assert verdict.result(dg.AssetKey("stock")).metadata["sync_defs/evaluated"].value is False
        return "unknown"
    return "green" if verdict.passed else verdict.severity


def fetched(*counts):
    return [replace(RUN, fetched=count) for count in counts]


def test_outcomes_that_do_not_add_up_are_an_error():
    assert said(judge_outcomes(replace(RUN, fetched=3, created=1, rejected=2))) == "green"
    assert said(judge_outcomes(replace(RUN, fetched=3, created=1, rejected=1))) == ERROR


@pytest.mark.parametrize(
    ("rejected", "total", "still_open", "verdict"),
    [
        (0, 0, 0, "green"),
        (0, 1000, 0, "green"),
        (0, 1000, 3, WARN),
        (1, 1000, 1, WARN),
        (10, 100, 10, WARN),
        (11, 100, 11, ERROR),
        (19, 19, 19, WARN),
        (20, 20, 20, ERROR),
    ],
)
def test_a_rejected_record_is_a_warning_and_a_rate_above_the_limit_an_error(rejected, total, still_open, verdict):
    found = judge_rejects(rejected=rejected, fetched=total, still_open=still_open, limit=0.1, table=None)
    assert said(found) == verdict
    assert found.metadata["sync_defs/rejected"] == rejected


def test_withheld_deletes_are_a_warning_with_the_reason():
    held = replace(RUN, missing=19, withheld=19, withheld_reason="19 of 20 rows are missing")
    assert said(judge_withheld(replace(RUN, missing=2, deleted=2))) == "green"
    assert said(judge_withheld(held)) == WARN
    assert judge_withheld(held).description == "19 of 20 rows are missing"
    assert said(judge_withheld(None)) == "unknown"


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ([], "unknown"),
        ([100], "unknown"),
        ([50, 100], "green"),
        ([49, 100], WARN),
        ([0, 100], WARN),
        ([0, 0], "green"),
        ([900, 100], "green"),
        ([49, 100, 1, 100, 1, 100], WARN),
        # The eighth fetch before it is forgotten.
        ([10, 10, 10, 10, 10, 1000, 1000, 1000, 1000], "green"),
    ],
)
def test_a_fetch_of_less_than_half_the_usual_is_a_warning(counts, verdict):
    assert said(judge_fetched(fetched(*counts), limit=0.5)) == verdict


HOURLY, NIGHTLY, WEEKDAYS = ("0 * * * *", "UTC"), ("30 3 * * *", "Europe/Berlin"), ("0 8 * * 1-5", "UTC")


@pytest.mark.parametrize(
    ("schedule", "began", "now", "verdict"),
    [
        (HOURLY, "2026-11-23T11:00:05", "2026-11-23T11:59:00", "green"),
        # The noon sync has until half past.
        (HOURLY, "2026-11-23T11:00:05", "2026-11-23T12:29:00", "green"),
        (HOURLY, "2026-11-23T11:00:05", "2026-11-23T12:31:00", WARN),
        (HOURLY, "2026-11-23T11:00:05", "2026-11-23T13:29:00", WARN),
        (HOURLY, "2026-11-23T11:00:05", "2026-11-23T13:31:00", ERROR),
        (HOURLY, "2026-01-01T00:00:00", "2026-11-23T13:00:00", ERROR),
        # 03:30 in Berlin is 02:30 in UTC; an hour is the most that a sync may be late.
        (NIGHTLY, "2026-11-22T02:30:05", "2026-11-23T03:29:00", "green"),
        (NIGHTLY, "2026-11-22T02:30:05", "2026-11-23T03:31:00", WARN),
        (NIGHTLY, "2026-11-22T02:30:05", "2026-11-24T03:31:00", ERROR),
        # A weekend without syncs is nothing unusual.
        (WEEKDAYS, "2026-11-20T08:00:05", "2026-11-23T07:59:00", "green"),
        (WEEKDAYS, "2026-11-20T08:00:05", "2026-11-23T09:01:00", WARN),
    ],
)
def test_a_sync_is_late_by_the_ticks_of_its_schedule(schedule, began, now, verdict):
    instants = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (began, now)]
    assert said(judge_freshness(instants[0], now=instants[1], ticks=Ticks(*schedule), age=None)) == verdict


@pytest.mark.parametrize(("hours", "verdict"), [(3, "green"), (3.1, WARN), (6, WARN), (6.1, ERROR)])
def test_a_sync_is_late_by_an_age_of_the_jobs_own(hours, verdict):
    began = NOON - timedelta(hours=hours)
    assert said(judge_freshness(began, now=NOON, ticks=None, age=timedelta(hours=3))) == verdict


def test_a_job_that_was_never_synced_is_neither_fresh_nor_late():
    assert said(judge_freshness(None, now=NOON, ticks=Ticks(*HOURLY), age=None)) == "unknown"


@pytest.mark.parametrize(("seconds", "verdict"), [(0, "green"), (300, "green"), (301, WARN), (3601, ERROR)])
def test_a_message_that_waits_for_long_is_a_warning_and_then_an_error(seconds, verdict):
    assert said(judge_lag(Counts(ready=1, oldest_due_age_s=float(seconds)), limit=timedelta(minutes=5))) == verdict


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rejected": 5}, "rejected is 5; give a fraction from 0 to 1, or None for no such check"),
        ({"fetched": True}, "fetched is True; give a fraction from 0 to 1, or None for no such check"),
        ({"withheld": None}, "withheld is NoneType; give True or False"),
        ({"freshness": "1h"}, "freshness is '1h'; give 'schedule', a timedelta of a minute or more, or None"),
        ({"inbox_lag": timedelta(0)}, "inbox_lag is datetime.timedelta(0); give a timedelta of a minute or more"),
    ],
)
def test_a_limit_that_is_none_is_refused(options, sentence):
    with pytest.raises(ConfigurationError) as caught:
        Checks(**options)
    assert str(caught.value).startswith(f"Checks: {sentence}")
