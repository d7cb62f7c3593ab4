"""The benchmarks run, and their figures have the shape that the reports need; no time is judged here."""

import json
import shutil
import xml.etree.ElementTree as ET

import pytest

from benchmarks import definitions, report
from benchmarks.__main__ import main, plan
from benchmarks.cases import CASES
from benchmarks.goals import GOALS
from benchmarks.messages import goals as message_goals
from benchmarks.peers.__main__ import main as run_peers
from benchmarks.receiver import main as run_receiver
from benchmarks.results import PEERS, Results

FIGURES = {"wall_s", "client_cpu_s", "base_mb", "peak_mb", "log_mb"}
BY_NAME = {case.name: case for case in CASES}
# One of each kind: the others differ from these in what they sync, not in how they are measured.
KINDS = ["percent", "load", "parquet", "dagster", "faults_1000", "callbacks_known"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Results on SQLite, at 200 rows."""
    return measured(tmp_path_factory.mktemp("results"), ["percent"])


def measured(folder, cases):
    main(["--database", "sqlite", "--rows", "200", "--repeat", "1", "--cases", *cases, "--json", str(folder)])
    return Results(folder)


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_case_is_measured_or_says_why_not(tmp_path):
    cases = measured(tmp_path, KINDS).cases("sqlite", 200)
    assert list(cases) == KINDS
    for name, case in cases.items():
        if "skipped" in case:
            assert "needs" in case["skipped"]
            continue
        assert "failed" not in case, (name, case)
        assert case["medians"].keys() == case["runs"].keys() == {BY_NAME[name].task, *BY_NAME[name].references}
        assert case["ratios"].keys() == set(BY_NAME[name].references)
        assert all(ratio > 0 for ratios in case["ratios"].values() for ratio in ratios.values())
        assert case["medians"][case["task"]].keys() >= FIGURES
        assert case["settings"].items() >= {"repeat": 1, "seed": 1, "history": True}.items()
    assert cases["percent"]["outcomes"] == {"created": 1, "updated": 2, "unchanged": 197, "deleted": 1}
    assert cases["faults_1000"]["outcomes"] == {"created": 99, "updated": 99, "rejected": 2}


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_report_shows_every_figure(small, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmarks:start -->\n<!-- benchmarks:end -->\nafter\n")
    folder = tmp_path / "results"
    shutil.copytree(small.folder, folder)
    assert report.main(["--results", str(folder), "--readme", str(readme)]) == 0
    assert "## SQLite, 200 rows" in (folder / "figures.md").read_text()
    assert report.main(["--results", str(folder), "--readme", str(readme), "--check"]) == 0
    assert readme.read_text().startswith("before\n<!-- benchmarks:start -->\n")


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_postgresql_counts_rows_and_log(postgresql_server, tmp_path):
    url = postgresql_server.url.render_as_string(hide_password=False)
    cases = ["percent", "load"]
    options = ["--database", "postgresql", "--url", url, "--json", str(tmp_path)]
    main([*options, "--rows", "1000", "--repeat", "1", "--cases", *cases])
    results = Results(tmp_path)
    for name in cases:
        assert results.case("postgresql", 1_000, name), results.cases("postgresql", 1_000)[name]
    written = [results.figure("postgresql", 1_000, "percent", kind) for kind in ("inserted", "updated", "deleted")]
    assert written == [1, 8, 1]
    assert results.figure("postgresql", 1_000, "load", "rows_written", of="bulk_load") == 1_000
    for figure in ("server_cpu_s", "log_mb"):
        assert results.figure("postgresql", 1_000, "load", figure) is not None


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_whole_processes_are_measured(postgresql_server, tmp_path):
    url = postgresql_server.url.render_as_string(hide_password=False)
    options = ["--url", url, "--rows", "200", "--repeat", "1", "--json", str(tmp_path)]
    run_peers([*options, "--peers", "sync_defs"])
    [(database, rows, name, case)] = Results(tmp_path).all_cases()
    assert (database, rows, name) == (PEERS, 200, "sync_defs")
    assert case["medians"].keys() == {"load", "unchanged", "percent"}
    assert case["medians"]["load"].keys() == {"wall_s", "client_cpu_s", "peak_mb", "log_mb"}


def test_a_case_with_a_limit_is_measured_once_at_most_rows():
    planned = plan(list(CASES), [10_000, 1_000_000])
    places = {name: [rows for rows, cases in planned.items() if BY_NAME[name] in cases] for name in BY_NAME}
    assert places["unchanged"] == [10_000, 1_000_000]
    assert places["faults_10"] == [100_000]
    assert places["items"] == [10_000]


def keep(folder, *, parse_ratio, rows_written):
    figures = {"wall_s": 2.0, "client_cpu_s": 1.0, "server_cpu_s": 0.1, "peak_mb": 64.9, "log_mb": 0.05}
    case = {
        "title": "nothing changed",
        "task": "product",
        "medians": {"product": figures | {"rows_written": rows_written}, "parse": {"wall_s": 1.0}},
        "ratios": {"parse": {"wall": parse_ratio, "cpu": parse_ratio}},
        "settings": {"database": "PostgreSQL", "python": "3", "json": "j", "machine": "m", "repeat": 5, "commit": "c"},
    }
    Results(folder).keep("postgresql", 1_000_000, "unchanged", case)


def test_a_goal_is_met_missed_or_not_measured(tmp_path):
    keep(tmp_path, parse_ratio=2.51, rows_written=0)
    found = {goal.subject: goal.find(Results(tmp_path)) for goal in GOALS}
    told = {subject: (one.text, one.is_met) for subject, one in found.items() if one}
    assert told == {
        "PostgreSQL, 1,000,000 rows: nothing changed": ("2.51 P (2.00 s)", False),
        "PostgreSQL, 1,000,000 rows: nothing changed, processor time of the server": ("0.1 s", True),
        "PostgreSQL, 1,000,000 rows: nothing changed, rows written": ("0", True),
        "PostgreSQL, 1,000,000 rows: nothing changed, WAL": ("0.05 MB", True),
        "PostgreSQL, 1,000,000 rows: memory above imports": ("65 MB", True),
    }


def test_the_readme_gets_goals_and_a_chart(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- benchmarks:start -->\nold\n<!-- benchmarks:end -->\n")
    folder = tmp_path / "results"
    keep(folder, parse_ratio=2.4, rows_written=1)
    arguments = ["--results", str(folder), "--readme", str(readme)]
    assert report.main([*arguments, "--check"]) == 1
    assert report.main(arguments) == 0
    text = readme.read_text()
    assert "old" not in text
    assert "| PostgreSQL, 1,000,000 rows: nothing changed | ≤ 2.5 P | 2.40 P (2.00 s) | met |" in text
    assert "| PostgreSQL, 1,000,000 rows: nothing changed, rows written | 0 | 1 | **missed** |" in text
    assert "](results/chart.svg)" in text
    drawn = [part.text for part in ET.parse(folder / "chart.svg").iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own
    assert drawn == ["PostgreSQL, 1,000,000 rows: seconds, imports done", "nothing changed", "2.00 s", "P", "1.00 s"]
    assert report.main([*arguments, "--check"]) == 0


def test_figures_of_messages_are_kept_judged_and_shown(tmp_path):
    latency = {"start_ms": 9_000, "cold_median_ms": None, "median_ms": 99.4, "p99_ms": 1_000, "max_ms": 1_200}
    counts = {"runs_started": 0, "transactions": 800}
    settings = {"database": "SQLite", "python": "3", "json": "j", "machine": "m", "repeat": 5, "commit": "c"}
    results = Results(tmp_path / "results")
    results.keep_messages("latency", "sqlite, 1 jobs, inline", latency | counts | {"settings": settings})
    results.keep_messages("latency", "sqlite, 200 jobs, run", {"failed": "3 rows did not arrive"})
    queued = {"took_s": 40, "runs_started": 2, "drains_needed": 1, "transactions": 2}
    results.keep_messages("queue", "postgresql, 1 jobs, run, 1000 messages", queued)
    found = {goal.subject: goal.find(Results(results.folder)) for goal in message_goals()}
    assert {subject: (one.text, one.is_met) for subject, one in found.items() if one} == {
        "SQLite, 1 job, at once: median": ("99.4 ms", True),
        "SQLite, 1 job, at once: p99": ("1,000 ms", False),
        "SQLite, 200 jobs, cold run: median": ("failed: 3 rows did not arrive", False),
        "SQLite, 200 jobs, while a run stays: median": ("failed: 3 rows did not arrive", False),
        "PostgreSQL, 1,000 messages in the queue: runs": ("2 of 1", False),
    }
    readme = tmp_path / "README.md"
    readme.write_text("<!-- benchmarks:start -->\n<!-- benchmarks:end -->\n")
    assert report.main(["--results", str(results.folder), "--readme", str(readme)]) == 0
    assert "| SQLite, 1 job, at once: median | < 100 ms | 99.4 ms | met |" in readme.read_text()
    shown = (results.folder / "figures.md").read_text()
    assert "| sqlite, 1 jobs, inline | 9,000 |  | 99.4 | 1,000 | 1,200 | 0 | 800 |" in shown
    assert "| sqlite, 200 jobs, run | failed: 3 rows did not arrive | | | | | | |" in shown
    assert "| postgresql, 1 jobs, run, 1000 messages | 40 | 2 | 1 | 2 |" in shown


def test_a_case_measured_again_takes_the_place_of_the_old_figures(tmp_path):
    for ratio in (2.0, 3.0):
        keep(tmp_path, parse_ratio=ratio, rows_written=0)
    Results(tmp_path).keep("postgresql", 1_000_000, "load", {"title": "first load", "skipped": "no time"})
    content = json.loads((tmp_path / "postgresql-1000000.json").read_text())
    assert content["cases"]["unchanged"]["ratios"]["parse"]["wall"] == 3.0
    assert content["cases"]["load"] == {"title": "first load", "skipped": "no time"}


def test_what_the_readme_shows_is_what_was_measured():
    assert report.main(["--check"]) == 0


@pytest.mark.soak
@pytest.mark.slow
def test_the_receiver_is_measured_beside_a_bare_handler(capsys, tmp_path):
    given = ["--database", "sqlite", "--processes", "2", "--messages", "20", "--senders", "4", "--repeat", "1"]
    run_receiver([*given, "--json", str(tmp_path)])
    heading, _, row = capsys.readouterr().out.splitlines()
    assert len(heading.split(" | ")) == len(row.split(" | "))
    assert all(float(cell.strip(" |")) > 0 for cell in row.split(" | ")[1:])


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")  # Dagster reads its own
def test_the_loading_of_jobs_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(definitions, "_loaded", definitions.load)
    definitions.main(["--jobs", "2", "1", "--repeat", "1"])
    heading, one, two, whole, each = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in (heading, one, two)] == ["jobs", "1", "2"]
    assert whole.startswith("2 jobs load in 0.")
    assert each.startswith("each adds ")
