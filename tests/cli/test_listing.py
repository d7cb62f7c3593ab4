"""`jobs` and `rejects`, the global options, and what the commands load."""

import json
import subprocess
import sys

import pytest

from tests.cli.conftest import Done, environment

HEAVY = {"alembic", "dagster", "numpy", "pandas"}
LOADED = (
    "import sys; from sync_defs.cli import main; code = main({arguments!r}); "
    "print(*sorted({heavy!r} & set(sys.modules)), file=sys.stderr); sys.exit(code)"
)


def test_jobs_show_schedule_target_and_last_run(any_project):
    lines = any_project.run("jobs").out.splitlines()
    assert lines == [
        "JOB    SCHEDULE  TARGET       LAST RUN  RESULT",
        "stock  every 1h  table items  never     -",
    ]
    any_project.run("run", "stock")
    last = any_project.run("jobs").out.splitlines()[1]
    assert last.endswith("s ago, cli  3 fetched = 3 created")


def test_jobs_as_json(project):
    project.run("run", "stock")
    [job] = json.loads(project.run("jobs", "--json").out)
    last = job.pop("last_run")
    assert job == {
        "name": "stock",
        "description": "Stock, from a file.",
        "schedule": "0 * * * *",
        "timezone": "UTC",
        "target": "table items",
        "takes_webhooks": True,
    }
    assert (last["status"], last["created"]) == ("succeeded", 3)


def test_rejects_are_listed_until_a_run_keeps_them(any_project):
    any_project.source([{"sku": "A", "quantity": "many"}])
    any_project.run("run", "stock")
    [reject] = json.loads(any_project.run("rejects", "stock", "--json").out)
    assert (reject["job"], reject["external_id"], reject["field"], reject["attempts"]) == (
        "stock",
        "A",
        "stock",
        1,
    )
    assert any_project.run("rejects").out.splitlines()[1].startswith("stock  A   stock: ")
    any_project.source([{"sku": "A", "quantity": 1}])
    any_project.run("run", "stock")
    assert any_project.run("rejects") == Done(0, "no rejected records\n", "")
    assert any_project.run("rejects", "--json").out == "[]\n"


def test_rejects_of_an_unknown_job_are_not_just_none(project):
    assert project.run("rejects", "stok").code == 2


def test_help_and_version(project):
    assert project.run() == project.run("--help")
    assert project.run("--help").out.startswith("Usage: sync-defs ")
    version = project.run("--version")
    assert (version.code, version.err) == (0, "")
    assert version.out.startswith("sync-defs ")


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        (["--help"], ""),
        (["jobs"], ""),
        (["run", "stock"], "numpy"),  # what is known of the source's records
        (["item", "stock", "A"], ""),
        (["inbox"], ""),
        (["rejects"], ""),
        (["serve", "--help"], ""),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_command_loads_nothing_heavy_that_it_does_not_need(project, database, arguments, loaded):
    command = [sys.executable, "-c", LOADED.format(arguments=arguments, heavy=HEAVY)]
    done = subprocess.run(command, cwd=project.folder, env=environment(), capture_output=True, text=True, check=False)
    # Of a run that takes its time, the progress is told before.
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, loaded)
