"""`run`: what it prints, what it writes, and what it returns."""

import contextlib
import json
import os
import pty
import signal
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from sync_defs import Database
from sync_defs.cli.progress import Lines
from sync_defs.engine.ports import ChangeCounts
from sync_defs.results import RunStatus
from sync_defs.store.runs import recent_results, sync_lease
from sync_defs.store.schema import leases, runs
from tests.cli.conftest import Done, no_controls


def test_second_run_finds_all_unchanged(any_project):
    first = any_project.run("run", "stock")
    assert first == Done(0, "stock: 3 fetched = 3 created\n", "")
    assert any_project.run("run", "stock") == Done(0, "stock: 3 fetched = 3 unchanged\n", "")
    assert any_project.rows() == {"A": 1, "B": 2, "C": 3}


def test_rejected_and_withheld_are_told_and_are_no_failure(any_project):
    any_project.run("run", "stock")
    any_project.source([{"sku": "A", "quantity": "many"}])
    done = any_project.run("run", "stock")
    assert (done.code, done.out) == (0, "stock: 1 fetched = 1 rejected; 2 deletes withheld\n")
    assert "  A: stock: " in done.err
    assert done.err.count("\n") == 1
    assert any_project.rows() == {"A": 1, "B": 2, "C": 3}


def test_the_first_ten_rejected_are_listed(project):
    project.source([{"sku": f"S{number:02}", "quantity": None} for number in range(12)])
    done = project.run("run", "stock")
    lines = done.err.splitlines()
    assert [line[:6] for line in lines[:10]] == [f"  S{number:02}:" for number in range(10)]
    assert lines[10:] == ["  and 2 more records; see: sync-defs rejects stock"]


def test_rejected_records_fail_only_where_asked(project):
    project.source([{"sku": "A", "quantity": "many"}])
    assert project.run("run", "stock").code == 0
    assert project.run("run", "stock", "--fail-on-reject").code == 3


def test_dry_run_writes_nothing(any_project):
    any_project.run("run", "stock")
    any_project.source([{"sku": "A", "quantity": 9}, {"sku": "B", "quantity": 2}, {"sku": "D", "quantity": 4}])
    done = any_project.run("run", "stock", "--dry-run")
    expected = "stock: 3 fetched = 1 created + 1 updated + 1 unchanged; 1 deleted; dry run, nothing written\n"
    assert done == Done(0, expected, "")
    assert any_project.rows() == {"A": 1, "B": 2, "C": 3}


def test_chosen_ids_alone_are_synced(project):
    done = project.run("run", "stock", "--id", "A", "--id", "C")
    assert done == Done(0, "stock: 2 fetched = 2 created\n", "")
    assert project.rows() == {"A": 1, "C": 3}


def test_allowed_deletes_happen(project):
    project.run("run", "stock")
    project.source([{"sku": "A", "quantity": 1}])
    assert project.run("run", "stock", "--allow-deletes", "2").out == "stock: 1 fetched = 1 unchanged; 2 deleted\n"
    assert project.rows() == {"A": 1}


def test_json_is_one_object(project):
    done = project.run("run", "stock", "--json")
    results = json.loads(done.out)
    assert done.err == ""
    assert done.out.count("\n") == 1
    counts = {name: results[name] for name in ("name", "status", "trigger", "fetched", "created", "rejected")}
    assert counts == {
        "name": "stock",
        "status": "succeeded",
        "trigger": "cli",
        "fetched": 3,
        "created": 3,
        "rejected": 0,
    }


def test_json_of_a_failed_run_is_its_results(project):
    project.source("away")
    done = project.run("run", "stock", "--json")
    results = json.loads(done.out)
    assert (done.code, results["status"], results["error"]) == (
        1,
        "failed",
        "the source is away; nothing was written or deleted",
    )
    assert done.err == "sync-defs: [fetch_failed] the source is away\n"


def test_chosen_ids_that_the_source_lacks_are_listed(project):
    out = "stock: 1 fetched = 1 created; 1 chosen id not in the source\n"
    assert project.run("run", "stock", "--id", "A", "--id", "X") == Done(0, out, "  not in the source: X\n")
    many = [word for number in range(12) for word in ("--id", f"X{number}")]
    shown = ", ".join(f"X{number}" for number in range(10))
    assert project.run("run", "stock", "--id", "A", *many).err == f"  not in the source: {shown} and 2 more\n"


def test_a_run_that_finds_none_of_its_ids_is_code_1(project):
    err = "sync-defs: [not_in_source] the source of 'stock' has none of the 2 chosen ids, such as 'X'; check them\n"
    assert project.run("run", "stock", "--id", "X", "--id", "Y") == Done(1, "", err)


def test_fetch_error_is_one_sentence(project, database):
    project.source("away")
    expected = Done(1, "", "sync-defs: [fetch_failed] the source is away\n")
    assert project.run("run", "stock") == expected
    assert recent_results(database)[0].status is RunStatus.FAILED


def test_error_of_a_jobs_own_code_is_told_by_kind_and_place(project):
    """Its text may hold values, so it is only shown to somebody who asks for the traceback."""
    project.source("broken")
    done = project.run("run", "stock")
    place = f"source ({project.folder}/{project.module}/stock/__init__.py:23)"
    expected = f"sync-defs: [unexpected] ValueError in {place}; --debug shows the traceback\n"
    assert done == Done(1, "", expected)
    assert "ValueError: value 4711" in project.run("--debug", "run", "stock").err


def test_busy_job_is_code_4(project, database):
    project.run("run", "stock")
    held = {"token": "t", "holder": "process 1", "expires_at": datetime.now(UTC) + timedelta(seconds=60)}
    with database.write() as connection:
        connection.execute(sa.update(leases).where(leases.c.name == sync_lease("stock")).values(held))
    done = project.run("run", "stock")
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("sync-defs: [busy] job 'stock' is being synced by process 1;")


def test_unknown_job_lists_the_known_ones(project):
    expected = "sync-defs: [unknown_job] there is no job 'stok'; known jobs: stock\n"
    assert project.run("run", "stok") == Done(2, "", expected)


def test_wrong_setting_is_named_and_its_value_is_not_repeated(project, monkeypatch):
    monkeypatch.setenv("SYNC_RECEIVER_PORT", "hunter2")
    done = project.run("run", "stock")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("sync-defs: [configuration] SYNC_RECEIVER_PORT: ")
    assert "hunter2" not in done.err


def test_absent_jobs_module_is_told(project, monkeypatch):
    monkeypatch.setenv("SYNC_JOBS_MODULE", "no_such_module")
    expected = "sync-defs: [configuration] SYNC_JOBS_MODULE: there is no package 'no_such_module'\n"
    assert project.run("run", "stock") == Done(2, "", expected)


@pytest.mark.parametrize("arguments", [["run"], ["run", "stock", "--wait", "x"], ["bogus"], ["run", "--bogus"]])
def test_usage_error_is_code_2_and_one_sentence(project, arguments):
    done = project.run(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("sync-defs: [usage] ")


def test_full_and_ids_exclude_each_other(project):
    done = project.run("run", "stock", "--full", "--id", "A")
    assert (done.code, done.out) == (2, "")
    assert "--full and --id exclude each other." in done.err


def test_broken_import_of_a_job_is_named(project):
    path = project.folder / project.module / "stock" / "__init__.py"
    path.write_text("import no_such_package\n")
    done = project.run("jobs")
    reason = "ModuleNotFoundError: No module named 'no_such_package'"
    expected = f"sync-defs: [unexpected] {reason} in <module> ({path}:1); --debug shows the traceback\n"
    assert done == Done(1, "", expected)


def test_pipe_gets_a_line_every_three_seconds(capsys):
    clock = SimpleNamespace(now=0.0)
    watch = Lines("stock", clock=lambda: clock.now)
    told = (
        (1, lambda: watch.on_fetched(1_000)),
        (3, lambda: watch.on_fetched(2_000)),
        (4, lambda: watch.on_diffed(ChangeCounts())),
        (5.9, lambda: watch.on_written(1_000)),
        (6, lambda: watch.on_written(2_000)),
    )
    for clock.now, tell in told:
        tell()
    assert capsys.readouterr().err == "stock: 2,000 records fetched\nstock: 2,000 records handled\n"


def test_text_from_outside_cannot_steer_a_terminal(project):
    project.source([{"sku": "\x1b[2J\x07é\u202e", "quantity": "x"}, {"sku": "ok\nnot", "quantity": "x"}])
    process = project.start("run", "stock")
    out, err = (stream.decode() for stream in process.communicate())
    assert process.returncode == 0
    assert no_controls([out, err]), (out, err)
    assert out == "stock: 2 fetched = 2 rejected\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_is_recorded_as_failed(any_project, number):
    (any_project.folder / "hold").touch()
    process = any_project.start("run", "stock")
    wait_for((any_project.folder / "held").exists)
    process.send_signal(number)
    out, err = (stream.decode() for stream in process.communicate(timeout=30))
    assert (process.returncode, out) == (130, "")
    assert err == "sync-defs: [interrupted] stopped by a signal\n"
    (any_project.folder / "hold").unlink()
    with Database(any_project.database_url) as database, database.read() as connection:
        assert connection.execute(sa.select(runs.c.status)).scalars().all() == ["failed"]
    assert any_project.run("run", "stock").out == "stock: 3 fetched = 3 created\n"  # and its lease is free


def test_terminal_gets_a_bar_and_stdout_stays_clean(project):
    master, slave = pty.openpty()
    process = project.start("run", "stock", stderr=slave)
    os.close(slave)
    shown = read_terminal(master)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, b"stock: 3 fetched = 3 created\n")
    assert b"stock: " in shown
    assert b"\x1b[" in shown


def read_terminal(master):
    """Read all that is written to a terminal, which holds 4 KB at most: its program waits for the rest to be read."""
    shown = b""
    with contextlib.suppress(OSError):  # how Linux tells that the last writer has closed it
        while part := os.read(master, 65_536):
            shown += part
    os.close(master)
    return shown


def test_closed_pipe_is_no_traceback(project):
    process = project.start("jobs")
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 1


def wait_for(condition, seconds=30):
    """Wait until a condition holds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_since_excludes_full_and_chosen_ids(project):
    done = project.run("run", "stock", "--full", "--since", "5")
    assert (done.code, "since and full exclude each other; give one of them" in done.err) == (2, True)
