"""A broken system is tried again, a bad record is not, and a wrong configuration is told at once."""

import dagster as dg
import httpx
import pytest
import sqlalchemy as sa

from sync_defs import BusyError, ConfigurationError, FetchError, Retries
from sync_defs.errors import DatabaseNotReadyError, DatabaseTroubleError, LeaseLostError, TooManyRejectsError
from sync_defs.orchestration.retries import Attempts

QUICK = Retries(times=3, first_wait_s=0.01)


def answer(status, **headers):
    request = httpx.Request("GET", "https://erp.example.com/")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, headers=headers))


def attempts(failed=0, **options):
    return Attempts(policy=Retries(**options), failed=failed, spread=lambda: 1.0)


@pytest.mark.parametrize(
    ("error", "wait_s"),
    [
        (FetchError("the shop is closed"), 10),
        (FetchError("busy", code="rate_limited", retry_after_s=42.5), 42.5),
        (FetchError("come back tomorrow", retry_after_s=86_400), None),
        (FetchError("no", code="not_authorized"), None),
        (FetchError("no", code="bad_page"), None),
        (FetchError("404", code="http_status", is_passing=False), None),
        (BusyError("stock", "another", 30), 10),
        (DatabaseTroubleError("deadlock"), 10),
        (DatabaseNotReadyError("no tables"), None),
        (DatabaseNotReadyError("starting", is_passing=True), 10),
        (LeaseLostError("lost"), None),
        (TooManyRejectsError("stock", 30, 40, 0.5), None),
        (ConfigurationError("no such table"), None),
        (ConnectionRefusedError(), 10),
        (TimeoutError(), 10),
        (httpx.ConnectError("no"), 10),
        (httpx.ReadTimeout("no"), 10),
        (answer(503), 10),
        (answer(429, **{"Retry-After": "7"}), 7),
        (answer(404), None),
        (ValueError("a bug"), None),
        (FileNotFoundError(), None),
    ],
)
def test_what_is_tried_again_and_when(error, wait_s):
    assert attempts().wait_s(error) == wait_s


def test_the_wait_doubles_up_to_a_limit_and_the_attempts_end():
    waits = [attempts(failed, times=5, longest_wait_s=60).wait_s(ConnectionError()) for failed in range(6)]
    assert waits == [10, 20, 40, 60, 60, None]
    assert Attempts(policy=Retries(), failed=0, spread=lambda: 0.0).wait_s(ConnectionError()) == 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"times": -1}, "times is -1; give an integer, 0 or more"),
        ({"times": 1.5}, "times is 1.5; give an integer"),
        ({"first_wait_s": "1m"}, "first_wait_s is '1m'; give seconds from 0 to 3600"),
        ({"longest_wait_s": 9999}, "longest_wait_s is 9999; give seconds"),
    ],
)
def test_a_policy_that_is_none_is_refused(options, sentence):
    with pytest.raises(ConfigurationError) as caught:
        Retries(**options)
    assert str(caught.value).startswith(f"Retries: {sentence}")


# --- in a run ---------------------------------------------------------------------------------------


def waits_of(result):
    """Seconds of each wait, by the step that asked for it."""
    events = [e for e in result.all_events if e.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY]
    return [(event.step_key, event.event_specific_data.seconds_to_wait) for event in events]


def failure_of(result):
    [event] = [e for e in result.all_events if e.event_type is dg.DagsterEventType.STEP_FAILURE]
    return event.step_failure_data.user_failure_data


def failing(source, *errors):
    """Let the source's next fetches fail, one after the other."""
    left, fetch = list(errors), source.fetch

    def fail_or_fetch(since):
        if left:
            raise left.pop(0)
        yield from fetch(since)

    source.fetch = fail_or_fetch
    return left


def test_a_source_that_is_away_is_asked_again_when_it_says(shop):
    shop.job.retries = QUICK
    shop.source.records = [{"sku": "A", "qty": 1}]
    failing(shop.source, FetchError("503", retry_after_s=0.125), answer(429, **{"Retry-After": "0"}), TimeoutError())
    result = shop.run()
    assert result.success
    assert [step for step, _ in waits_of(result)] == ["stock.fetch"] * 3
    assert [wait for _, wait in waits_of(result)][:2] == [0.125, 0]
    assert shop.rows() == {"A": 1}
    assert len(shop.materializations()) == 1


def test_the_sign_of_a_run_lasts_until_its_next_attempt(shop, monkeypatch):
    kept = []
    monkeypatch.setattr("sync_defs.orchestration.stages.sign_of_waiting", lambda *told: kept.append(told[1:]))
    shop.job.retries = QUICK
    failing(shop.source, FetchError("503", retry_after_s=0.125))
    result = shop.run()
    assert kept == [(result.run_id, 0.125)]


def test_a_source_that_stays_away_fails_the_run_with_the_number_of_attempts(shop):
    shop.job.retries = QUICK
    failing(shop.source, *(FetchError("the shop is closed") for _ in range(9)))
    result = shop.run()
    assert len(waits_of(result)) == 3
    assert failure_of(result).description == "the shop is closed; 4 attempts failed"


def test_data_and_configuration_are_not_tried_again(shop):
    shop.job.retries = QUICK
    shop.source.records = [{"sku": "A", "qty": "many"}]
    rejected = shop.run()
    assert (rejected.success, waits_of(rejected)) == (True, [])
    shop.source.records = [{"sku": f"S{number}", "qty": "many"} for number in range(30)]
    stopped = shop.run({"full": True})
    assert (stopped.success, waits_of(stopped)) == (False, [])
    assert failure_of(stopped).metadata["sync_defs/code"].value == "too_many_rejects"
    shop.job.create_table = False
    with shop.database.write() as connection:
        shop.job.target.drop(connection)
    refused = shop.run()
    assert (refused.success, waits_of(refused)) == (False, [])
    assert "create it, or pass create_table=True" in failure_of(refused).description


# A sequence and a table without transactions remember what a transaction that was rolled back did.
DEADLOCK_ONCE = {
    "postgresql": [
        "CREATE SEQUENCE tries",
        """CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('tries') = 1 THEN RAISE EXCEPTION 'SECRET' USING ERRCODE = '40P01'; END IF; RETURN NEW; END $$""",
        "CREATE TRIGGER deadlock BEFORE INSERT ON stock FOR EACH ROW EXECUTE FUNCTION deadlock()",
    ],
    "mariadb": [
        "CREATE TABLE tries (n INT) ENGINE=MyISAM",
        "INSERT INTO tries VALUES (0)",
        """CREATE TRIGGER deadlock BEFORE INSERT ON stock FOR EACH ROW BEGIN
        UPDATE tries SET n = n + 1;
        IF (SELECT n FROM tries) = 1 THEN
        SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'SECRET'; END IF; END""",
    ],
}


@pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.each_database
def test_a_deadlock_of_the_upsert_is_tried_again_from_the_stage(shop):
    """The records wait in the stage meanwhile: they are fetched once."""
    shop.job.retries = QUICK
    shop.put([{"sku": "Z", "quantity": 1}])
    with shop.database.write() as connection:
        for statement in DEADLOCK_ONCE[shop.database.dialect.name]:
            connection.exec_driver_sql(statement)
    shop.source.records = [{"sku": "A", "qty": 1}]
    result = shop.run()
    assert result.success
    assert [step for step, _ in waits_of(result)] == ["stock.upsert"]
    assert (shop.rows(), len(shop.source.since)) == ({"A": 1, "Z": 1}, 1)
    assert "SECRET" not in "".join(repr(event) for event in result.all_events)


@pytest.mark.each_database
def test_a_lock_that_is_held_for_long_is_tried_again(shop):
    """The op that waits in vain for a lock of the database finds it free at the next attempt."""
    shop.job.retries = QUICK
    shop.source.records = [{"sku": "A", "qty": 1}]
    statements = {
        "sqlite": "CREATE TABLE busy (n INT)",
        "postgresql": "CREATE TABLE busy AS SELECT 1 AS n",
        "mariadb": "CREATE TABLE busy AS SELECT 1 AS n",
    }
    with shop.database.write() as connection:
        connection.exec_driver_sql(statements[shop.database.dialect.name])
    fetch, calls = shop.source.fetch, []

    def fetch_from_a_locked_table(since):
        calls.append(since)
        if len(calls) == 1:
            wait_in_vain(shop.database.engine)
        yield from fetch(since)

    shop.source.fetch = fetch_from_a_locked_table
    result = shop.run()
    assert (result.success, len(waits_of(result)), shop.rows()) == (True, 1, {"A": 1})


def wait_in_vain(engine):
    """Ask for a lock that another connection holds, without patience."""
    other = sa.create_engine(engine.url, poolclass=sa.NullPool)
    with other.connect() as holder, other.connect() as asker:
        if engine.dialect.name == "sqlite":
            asker.exec_driver_sql("PRAGMA busy_timeout = 0")
            for connection in (holder, asker):
                connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            for connection in (holder, asker):
                connection.exec_driver_sql("SELECT n FROM busy FOR UPDATE NOWAIT").all()
