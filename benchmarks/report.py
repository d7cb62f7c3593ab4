"""Writes what was measured where people read it: `python -m benchmarks.report`.

The goals with their figures and a chart go into the README of the repository, between its markers; all figures go
into `figures.md` beside the results. With `--check` nothing is written, and the exit code says whether all is there.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.chart import Bar, Panel, svg
from benchmarks.goals import GOALS, seconds
from benchmarks.messages import KINDS
from benchmarks.messages import goals as message_goals
from benchmarks.messages import tables as message_tables
from benchmarks.peers.catalogue import OURS
from benchmarks.results import FOLDER, PEERS, Results

README = Path(__file__).parents[1] / "README.md"
_MARKED = re.compile(r"(<!-- benchmarks:start -->\n).*?(<!-- benchmarks:end -->)", re.DOTALL)
_NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite", "mariadb": "MariaDB", PEERS: "Whole processes"}
_TASKS = {
    "parse": "P, the source read and nothing else",
    "bulk_load": "C, the database's own bulk load",
    "update_all": "U, one UPDATE of every row",
    "upsert": "unprotected upsert",
    "orm_once": "loop with the ORM, one commit",
    "orm_each": "loop with the ORM, a commit each",
    "product": "sync_defs",
    "articles": "sync_defs",
    "callbacks": "sync_defs",
    "known_callbacks": "sync_defs",
    "dagster": "sync_defs in Dagster",
}
_SYNCS = {"load": "first load", "unchanged": "nothing changed", "percent": "1 % changed"}
_CHARTED = ("unchanged", "percent", "load", "changed", "full")
_LEGEND = """\
P is the time to parse the pages and do nothing with them, C that of a raw COPY (on SQLite `executemany`, on MariaDB
`LOAD DATA`) of lines that are ready and sorted by chunks, U that of one UPDATE of every row.
Each is measured beside sync_defs in the same round; a ratio is the median of the rounds'."""
_ABOUT = """\
Written by `python -m benchmarks.report`; medians of the rounds.
Memory is the peak above imports, and that of whole processes the peak of the largest process.
The log is PostgreSQL's WAL, MariaDB's redo log, or on SQLite all bytes written to files."""
_ALL_GOALS = (*GOALS, *message_goals())
_NOTHING = "Nothing has been measured yet; `python -m benchmarks` does it.\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="Writes the figures down.")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder; default: benchmarks/results")
    parser.add_argument("--readme", type=Path, default=README, help="file with the markers")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    options = parser.parse_args(arguments)
    stale = {path: text for path, text in files(options.results, options.readme).items() if _text_of(path) != text}
    for path, text in stale.items():
        if not options.check:
            path.write_text(text, encoding="utf-8")
        print(f"{'out of date' if options.check else 'written'}: {path.name}")
    return int(options.check and bool(stale))


def files(folder: Path, readme: Path) -> dict[Path, str]:
    """Return each file that shows figures, with what it has to hold."""
    results = Results(folder)
    panels = charted(results)
    section = readme_section(results, folder.resolve().relative_to(readme.parent.resolve()) / "chart.svg", panels)
    written = {readme: _MARKED.sub(lambda found: found[1] + section + found[2], _text_of(readme))}
    if panels:
        written[folder / "chart.svg"] = svg(panels)
    if any(results.all_cases()) or any(map(results.messages, KINDS)):
        written[folder / "figures.md"] = figures(results)
    return written


def readme_section(results: Results, chart: Path, panels: list[Panel]) -> str:
    """Return the Markdown between the markers: goals that something was measured for, and the chart."""
    rows = [(goal, found) for goal in _ALL_GOALS if (found := goal.find(results)) is not None]
    if not rows:
        return _NOTHING
    table = ["| Goal | Wanted | Measured | |", "| --- | --- | --- | --- |"]
    table += [f"| {goal.subject} | {goal.wanted} | {found.text} | {_mark(found.is_met)} |" for goal, found in rows]
    picture = [f"![Times of sync_defs and of what it is held against]({chart.as_posix()})", ""] if panels else []
    return "\n".join([*picture, *table, "", _LEGEND, *_surroundings(results), ""])


def figures(results: Results) -> str:
    """Return all figures as Markdown."""
    parts = ["# Figures", "", _ABOUT, "", *_goals(results)]
    for database, name in _NAMES.items():
        for rows in results.sizes(database):
            parts += [f"## {name}, {rows:,} rows", ""]
            parts += _peer_table(results, rows) if database == PEERS else _case_table(results, database, rows)
    parts += message_tables(results)
    return "\n".join(parts).rstrip() + "\n"


def charted(results: Results) -> list[Panel]:
    """Return the panels: the cases on PostgreSQL and the whole processes, each at the most rows measured."""
    panels: list[Panel] = []
    for rows in results.sizes("postgresql")[-1:]:
        cases = {name: results.case("postgresql", rows, name) for name in _CHARTED}
        groups = [_bars(case) for case in cases.values() if case]
        if groups:
            panels.append(Panel(title=f"PostgreSQL, {rows:,} rows: seconds, imports done", groups=groups))
    for rows in results.sizes(PEERS)[-1:]:
        bars = [
            Bar(label=case["title"], value=wall, text=seconds(wall), is_ours=name == OURS)
            for name, case in results.cases(PEERS, rows).items()
            if (wall := results.figure(PEERS, rows, name, "wall_s", of="unchanged")) is not None
        ]
        if bars:
            bars.sort(key=lambda bar: bar.value)
            panels.append(Panel(title=f"{rows:,} rows, nothing changed: seconds, whole process", groups=[bars]))
    return panels


def _bars(case: dict[str, Any]) -> list[Bar]:
    letters = {"parse": "P", "bulk_load": "C", "update_all": "U", case["task"]: case["title"]}
    walls = [(name, case["medians"][name]["wall_s"]) for name in letters if name in case["medians"]]
    walls.sort(key=lambda pair: pair[0] != case["task"])
    return [
        Bar(label=letters[name], value=wall, text=seconds(wall), is_ours=name == case["task"]) for name, wall in walls
    ]


def _goals(results: Results) -> list[str]:
    lines = ["## Goals", "", "| Goal | Wanted | Measured | |", "| --- | --- | --- | --- |"]
    for goal in _ALL_GOALS:
        found = goal.find(results)
        cells = (found.text, _mark(found.is_met)) if found else ("not measured", "")
        lines.append(f"| {goal.subject} | {goal.wanted} | {cells[0]} | {cells[1]} |")
    return [*lines, "", _LEGEND, ""]


def _case_table(results: Results, database: str, rows: int) -> list[str]:
    lines = [
        "| Case | What | Wall | sync_defs takes | Client CPU | Server CPU | Memory | Log | Rows written |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for case in results.cases(database, rows).values():
        if "medians" not in case:
            reason = f"skipped: {case['skipped']}" if "skipped" in case else f"failed: {case['failed']}"
            lines.append(f"| {case['title']} | {_escaped(reason)} | | | | | | | |")
            continue
        for name in [case["task"], *case["ratios"]]:
            found = case["medians"][name]
            ratio = case["ratios"].get(name, {}).get("wall")
            cells = [
                case["title"] if name == case["task"] else "",
                _TASKS[name],
                _cell(found, "wall_s", "s"),
                f"{ratio:.2f} times" if ratio else "",
                _cell(found, "client_cpu_s", "s"),
                _cell(found, "server_cpu_s", "s"),
                _cell(found, "peak_mb", "MB"),
                _cell(found, "log_mb", "MB"),
                f"{found['rows_written']:,.0f}" if "rows_written" in found else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _peer_table(results: Results, rows: int) -> list[str]:
    lines = [
        "| Tool | Sync | Wall | of sync_defs' | CPU of client | Memory | WAL |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for case in results.cases(PEERS, rows).values():
        if "failed" in case:
            lines.append(f"| {case['title']} | {_escaped(case['failed'])} | | | | | |")
            continue
        for sync, found in case["medians"].items():
            ratio = case["ratios"].get(sync, {}).get("wall")
            cells = [
                case["title"] if sync == "load" else "",
                _SYNCS[sync],
                _cell(found, "wall_s", "s"),
                f"{ratio:.1f} times" if ratio else "",
                _cell(found, "client_cpu_s", "s"),
                _cell(found, "peak_mb", "MB"),
                _cell(found, "log_mb", "MB"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _surroundings(results: Results) -> list[str]:
    """Return a line for each setting in which something was measured, with the commits."""
    commits: dict[str, set[str]] = {}
    cases = [case for _, _, _, case in results.all_cases() if "medians" in case]
    cases += [found for kind in KINDS for found in results.messages(kind).values()]
    for case in cases:
        if "settings" in case:
            about = case["settings"]
            line = f"{about['database']}, Python {about['python']}, {about['json']}, {about['machine']}"
            commits.setdefault(f"{line}, {about['repeat']} rounds", set()).add(about["commit"])
    return [f"Measured on {line}, at {' and '.join(sorted(at))}." for line, at in sorted(commits.items())]


def _cell(found: dict[str, float], name: str, unit: str) -> str:
    return f"{found[name]:.3g} {unit}" if name in found else ""


def _mark(is_met: bool) -> str:
    return "met" if is_met else "**missed**"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
