"""Measures cases: the work and what it is held against, turn by turn, each in a fresh process."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa

from benchmarks import schema
from benchmarks.cases import Case
from benchmarks.databases import Place
from benchmarks.faults import BRANDS, Faults
from benchmarks.tasks import Task
from benchmarks.verify import first_difference
from benchmarks.workload import Workload

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 7_200
Say = Callable[[str], None]


class WorkError(Exception):
    """A measured process failed; says how."""


class Bench:
    """Measures cases of one size in one place; databases to start from are filled once and copied for each run."""

    def __init__(self, place: Place, workload: Workload, *, job_options: Mapping[str, Any], say: Say) -> None:
        self._place = place
        self._workload = workload
        self._job_options = job_options
        self._say = say
        self._templates: dict[str, str] = {}

    def measure(self, case: Case, repeat: int) -> dict[str, Any]:
        """Run a case so many times and return its runs, medians and ratios as plain JSON types."""
        obstacle = case.obstacle()
        if obstacle:
            self._say(f"{case.name}: skipped, {obstacle}")
            return {"title": case.title, "skipped": obstacle}
        try:
            return self._rounds(case, repeat)
        except WorkError as error:
            self._say(f"{case.name}: failed, {error}")
            return {"title": case.title, "failed": str(error)}

    def _rounds(self, case: Case, repeat: int) -> dict[str, Any]:
        names = [*case.references, case.task]
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for turn in range(repeat):
            # Now this first, now that: what gets slower or faster in the course of a round is not always the same.
            for name in names if turn % 2 == 0 else reversed(names):
                figures = self._run(case, name, is_checked=name == case.task and turn == 0)
                runs[name].append(figures)
                self._say(f"{case.name}, round {turn + 1}: {name} {figures['wall_s']:.2f} s")
        return {
            "title": case.title,
            "task": case.task,
            "outcomes": case.expected(self._workload),
            "medians": {name: medians(of) for name, of in runs.items()},
            "ratios": {name: ratios(runs[case.task], runs[name]) for name in case.references},
            "runs": runs,
        }

    def _run(self, case: Case, name: str, *, is_checked: bool) -> dict[str, Any]:
        task = self._task(case, name)
        try:
            answer = run_child(task)
            if name == case.task:
                self._check(case, task, answer["told"], reads_rows=is_checked)
            return answer["figures"]
        finally:
            if task.url:
                self._place.drop(task.url)

    def _task(self, case: Case, name: str) -> Task:
        task = Task(
            name=name, kind=self._place.kind, source=str(self._source(case, name)), form=case.form, table=case.table
        )
        if name == "parse":
            return task
        url = self._place.clone(self._template(case))
        if name not in (case.task, "product"):
            return dataclasses.replace(task, url=url)
        job = {**self._job_options, **case.options.get("job", {})}
        options = {"job": job, "run": case.options.get("run", {})}
        return dataclasses.replace(task, url=url, warm_url=self._warm_url(), options=options)

    def _source(self, case: Case, name: str) -> Path:
        if case.bad is not None:
            faults = case.faults(self._workload.directory, self._workload.rows)
            return dataclasses.replace(faults, bad=0 if name == "upsert" else faults.bad).pages()
        if name == "bulk_load":
            return self._workload.lines(self._place.kind)
        return self._workload.pages(case.state) if case.form == "pages" else self._workload.parquet()

    def _check(self, case: Case, task: Task, told: dict[str, Any], *, reads_rows: bool) -> None:
        """Raise if a run did not report what it should, or once in a while if the rows are not as they should be."""
        expected = case.expected(self._workload)
        if told["outcomes"] != expected or told["status"] != "succeeded":
            raise WorkError(f"wrong result: {told['outcomes']} instead of {expected}")
        if case.bad is not None:
            skus = case.faults(self._workload.directory, self._workload.rows).bad_skus
            if set(told["errors"]) != skus:
                raise WorkError(f"wrong result: {len(skus ^ set(told['errors']))} bad records are reported wrongly")
        if reads_rows and task.url:
            difference = first_difference(task.url, case.table, case.stored(self._workload))
            if difference:
                raise WorkError(f"wrong result: the target holds {difference}")

    # --- databases to start from ------------------------------------------------------------------

    def _template(self, case: Case) -> str:
        """Return the database that a case starts from; what a job left there came from the same kind of source."""
        if case.start == "base":
            options = json.dumps(case.options.get("job", {}))  # what is kept for a proof depends on them
            return self._made(f"{case.task} {case.form} {options}", lambda: self._loaded(case))
        return self._made(case.start, self._with_articles if case.start == "articles" else self._place.prepare)

    def _made(self, name: str, make: Callable[[], str]) -> str:
        if name not in self._templates:
            self._templates[name] = make()
        return self._templates[name]

    def _warm_url(self) -> str:
        return self._made("warm", self._place.prepare)

    def _loaded(self, case: Case) -> str:
        url = self._place.clone(self._made("empty", self._place.prepare))
        pages = self._workload.pages() if case.form == "pages" else self._workload.parquet()
        options = {"job": self._job_options | case.options.get("job", {})}
        run_child(
            Task(name=case.task, kind=self._place.kind, url=url, source=str(pages), form=case.form, options=options)
        )
        self._place.settle(url)
        return url

    def _with_articles(self) -> str:
        url = self._place.clone(self._made("empty", self._place.prepare))
        engine = sa.create_engine(url)
        articles = Faults(self._workload.directory, self._workload.rows, 0).before()
        with engine.begin() as connection:
            connection.execute(sa.insert(schema.brand), [{"name": name} for name in BRANDS])
            rows = [row._asdict() | {"price": str(row.price)} for row in articles]
            statement = schema.article.insert().values({name: sa.bindparam(name) for name in rows[0]})
            connection.execute(statement, rows)
        engine.dispose()
        self._place.settle(url)
        return url


def run_child(task: Task) -> dict[str, Any]:
    """Measure a task in a fresh process.

    Raises:
        WorkError: the process failed.
    """
    command = [sys.executable, "-m", "benchmarks.child"]
    given = json.dumps(dataclasses.asdict(task))
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, cwd=ROOT, timeout=TIMEOUT_S
    )
    if done.returncode != 0:
        told = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        print("\n".join(told[-20:]), file=sys.stderr)
        raise WorkError(f"{task.name}: {told[-1][:200]}")
    return json.loads(done.stdout)


def medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median of each figure that every run has."""
    names = [name for name in runs[0] if all(run[name] is not None for run in runs)]
    return {name: round(median(run[name] for run in runs), 4) for name in names}


def ratios(work: list[dict[str, Any]], reference: list[dict[str, Any]]) -> dict[str, float]:
    """Return how many times a reference the work takes: the median of the ratios within each round."""
    pairs = list(zip(work, reference, strict=True))
    return {
        "wall": round(median(a["wall_s"] / b["wall_s"] for a, b in pairs), 3),
        "cpu": round(median(_cpu_s(a) / _cpu_s(b) for a, b in pairs), 3),
    }


def _cpu_s(figures: dict[str, Any]) -> float:
    return max(figures["client_cpu_s"] + (figures["server_cpu_s"] or 0.0), 0.001)
