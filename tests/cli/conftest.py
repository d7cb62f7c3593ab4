"""A deployment of one job in a folder of its own, and ways to run the command line there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from sync_defs.cli import main
from sync_defs.store.database import Database

ROOT = Path(__file__).parents[2]
JOB = '''
import json
import time
from pathlib import Path

import sqlalchemy as sa

from sync_defs import FetchError, table_sync

items = sa.Table(
    "items",
    sa.MetaData(),
    sa.Column("sku", sa.String(50), primary_key=True),
    sa.Column("stock", sa.Integer, nullable=False),
)


def source():
    found = json.loads(Path("source.json").read_text())
    if found == "away":
        raise FetchError("the source is away")
    if found == "broken":
        raise ValueError("value 4711")
    return found


def chosen(external_ids):
    return [record for record in source() if record["sku"] in external_ids]


@table_sync(
    target=items,
    key="sku",
    fields={"stock": "quantity"},
    fetch_items=chosen,
    on_missing="delete",
    max_delete_rows=1,
    max_delete_fraction=0,
    create_table=True,
    every="1h",
)
def stock():
    """Stock, from a file."""
    yield source()
    while Path("hold").exists():
        Path("held").touch()
        time.sleep(0.02)
'''


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with a source that tests set, and a database."""

    folder: Path
    database_url: str
    module: str
    capsys: pytest.CaptureFixture[str] = field(repr=False)

    def source(self, records: object) -> None:
        """Set what the job fetches; `away` and `broken` make it fail."""
        (self.folder / "source.json").write_text(json.dumps(records))

    def run(self, *arguments: str) -> Done:
        """Run a command in this process."""
        self.capsys.readouterr()
        code = main(arguments)
        out, err = self.capsys.readouterr()
        return Done(code, out, err)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a command in a process of its own."""
        command = [sys.executable, "-m", "sync_defs.cli", *arguments]
        streams: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        return subprocess.Popen(command, cwd=self.folder, env=environment(), **streams | options)

    def rows(self) -> dict[str, int]:
        """Return what the target holds."""
        engine = sa.create_engine(self.database_url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            found = connection.execute(sa.text("SELECT sku, stock FROM items ORDER BY sku"))
            return {row.sku: row.stock for row in found}


def environment() -> dict[str, str]:
    """Return the environment of a child that finds this working tree."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return dict(os.environ) | {"PYTHONPATH": path, "PYTHONWARNINGS": "error"}


@pytest.fixture
def project_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Project]:
    """Make the project of this test over a database."""

    def make(url: str) -> Project:
        # A name of its own, since the tests of this process share `sys.modules`.
        module = f"shop_{uuid4().hex}"
        folder = tmp_path / "project"
        (folder / module / "stock").mkdir(parents=True)
        (folder / module / "__init__.py").touch()
        (folder / module / "stock" / "__init__.py").write_text(JOB)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setenv("SYNC_JOBS_MODULE", module)
        monkeypatch.setenv("SYNC_DATABASE_URL", url)
        project = Project(folder, url, module, capsys)
        project.source([{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 2}, {"sku": "C", "quantity": 3}])
        return project

    return make


@pytest.fixture
def project(project_at: Callable[[str], Project], sqlite_url: str) -> Project:
    """A project over SQLite, the embedded default."""
    return project_at(sqlite_url)


@pytest.fixture
def any_project(project_at: Callable[[str], Project], migrated_url: str) -> Project:
    """A project over each kind of database, with its tables."""
    return project_at(migrated_url)


@pytest.fixture
def database(project: Project) -> Iterator[Database]:
    """The project's database, with its tables."""
    with Database(project.database_url) as opened:
        opened.upgrade()
        yield opened


def no_controls(texts: Sequence[str]) -> bool:
    """Tell whether texts hold nothing but printable characters and line ends."""
    return all(char == "\n" or char.isprintable() for text in texts for char in text)
