"""The documents and the code say the same, and every block in them runs."""

import ast
import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import uvicorn

from sync_defs import Checks, Database, Retries
from sync_defs.declared import SyncJobAttributes
from sync_defs.declared.attributes import RestAttributes
from sync_defs.fields import Field
from sync_defs.inbox import Inbox
from sync_defs.job import Job, SyncJob, table_sync
from sync_defs.jobs import load_jobs
from sync_defs.orchestration.config import LAUNCHPAD
from sync_defs.orchestration.job_checks import DESCRIPTIONS as CHECK_DESCRIPTIONS
from sync_defs.orchestration.metadata import results_metadata
from sync_defs.policies import JobOptions, Webhook
from sync_defs.receiver import create_app
from sync_defs.results import ItemError, SampledChange, SyncResults
from sync_defs.settings import Settings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"[a-z]+(_[a-z0-9]+)*")
SECRET = "whsec_" + "c2VjcmV0LWtleS1vZi0zMi1ieXRlcy1sZW5ndGghISE="
# A block, and the text block behind it, which says what it prints.
BLOCK = re.compile(
    r"^```(?P<kind>python|sh)\n(?P<code>.*?)^```\n(?:\n+```text\n(?P<output>.*?)^```\n)?", re.MULTILINE | re.DOTALL
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(path: Path, kind: str) -> list[re.Match[str]]:
    return [found for found in BLOCK.finditer(path.read_text(encoding="utf-8")) if found["kind"] == kind]


def rows_of(text: str) -> list[str]:
    """First cells of all tables, as they are."""
    return re.findall(r"^\| (.+?) \|", text, re.MULTILINE)


def named(cells: list[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def run_python(path: Path) -> dict[str, Any]:
    """Run a document's Python blocks one after the other, as a reader would, and compare what they print."""
    names: dict[str, Any] = {"__name__": "document"}
    for block in blocks(path, "python"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block["code"], str(path), "exec"), names)  # noqa: S102 - the document's own code
        assert printed.getvalue() == (block["output"] or ""), path.name
    return names


@pytest.mark.parametrize("path", [path for path in DOCS if blocks(path, "python")], ids=lambda path: path.name)
def test_every_python_block_runs_and_prints_what_it_says(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_python(path)


# --- error codes ----------------------------------------------------------------------------------


def codes_in(tree: ast.AST) -> Iterator[str]:
    """Yield the stable codes that a module gives: to errors, to refusals, and in tables of code and sentence."""
    for node in ast.walk(tree):
        for value in [*raised_codes(node), *tabled_codes(node)]:
            yield from constants(value)
        if isinstance(node, ast.Constant) and str(node.value).startswith("sync-defs: ["):
            yield from re.findall(r"\[([a-z_]+)\]", str(node.value))


def raised_codes(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.keyword(arg="code", value=value):
            yield value
        case ast.Assign(targets=[ast.Name(id="code" | "default_code")], value=value):
            yield value
        case ast.AnnAssign(target=ast.Name(id="default_code"), value=ast.expr() as value):
            yield value
        case ast.Call(func=ast.Name(id="Refused"), args=[_, value, *_]):
            yield value
        case ast.Call(func=ast.Name(id="_refuse"), args=[_, _, value] | [value, _]):
            yield value
        case _:
            pass


def tabled_codes(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Tuple(elts=[ast.Constant() as value, ast.Constant(value=str(sentence))]) if " " in sentence:
            yield value
        case ast.Tuple(elts=[ast.Constant() as value, ast.JoinedStr()]):
            yield value
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            yield from (v for key, v in pairs if isinstance(key, ast.Constant) and key.value == "sync_defs/code")
        case _:
            pass


def constants(value: ast.AST) -> Iterator[str]:
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
            yield node.value


def codes_of_the_code() -> dict[str, str]:
    """Code to the module that gives it; what is shipped for tests has codes of its own."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "sync_defs").rglob("*.py")):
        if "testing" not in path.parts:
            for code in codes_in(ast.parse(path.read_text(encoding="utf-8"))):
                found.setdefault(code, path.relative_to(ROOT).as_posix())
    return found


def test_every_error_code_is_described_and_every_described_code_exists():
    described = named(rows_of(text_of("docs/errors.md")))
    given = codes_of_the_code()
    assert {code: place for code, place in given.items() if code not in described} == {}
    assert described - set(given) == set()


def test_the_collector_finds_codes_in_every_form():
    """If one of these goes missing, the comparison above has become blind."""
    forms = {"busy", "bad_page", "rate_limited", "timeout", "too_deep", "bad_binary", "foreign_key", "constraint"}
    assert forms | {"unexpected", "http_error", "worker_died"} <= set(codes_of_the_code())


# --- settings and options -------------------------------------------------------------------------


def test_every_setting_is_in_the_readme():
    listed = named(rows_of(text_of("README.md")))
    assert {f"SYNC_{name.upper()}" for name in Settings.model_fields} - listed == set()


def test_every_option_of_a_job_is_in_the_reference():
    listed = named(rows_of(text_of("docs/jobs.md")))
    table_options = set(table_sync.__kwdefaults__ or {}) | {"target", "key", "fields"}
    of_classes = {name for kind in (Field, Webhook, Checks, Retries) for name in kind.__dataclass_fields__}
    assert set(JobOptions.__annotations__) | table_options | of_classes <= listed


def test_every_field_of_the_launchpad_is_in_the_reference():
    assert set(LAUNCHPAD) <= named(rows_of(text_of("docs/dagster.md")))


def test_every_key_of_a_run_is_in_the_reference():
    now = datetime.now(UTC)
    facts: dict[str, Any] = {"withheld_reason": "many", "row_count": 1, "not_in_source": 1}
    facts |= {"partition": "de", "cursor_before": "1", "cursor_after": "2"}
    error = ItemError(external_id="A", message="bad", timestamp=now)
    sample = SampledChange(external_id="A", changes={"stock": ("1", "2")})
    results = SyncResults(
        name="stock", run_id="r", started_at=now, completed_at=now, errors=[error], samples=[sample], **facts
    )
    assert set(results_metadata(results, dg.AssetKey("stock"))) <= named(rows_of(text_of("docs/dagster.md")))


def test_every_attribute_in_yaml_is_in_the_reference():
    text = text_of("docs/dagster.md").partition("## Jobs in YAML")[2]
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert {*SyncJobAttributes.model_fields, *RestAttributes.model_fields} <= named([plain])


def test_every_check_is_in_the_reference():
    assert set(CHECK_DESCRIPTIONS) <= named(rows_of(text_of("docs/dagster.md")))


def test_every_method_of_a_job_is_in_the_reference():
    listed = {name.partition("(")[0] for name in named(rows_of(text_of("docs/jobs.md")))}
    derived = {name for name, value in [*vars(Job).items(), *vars(SyncJob).items()] if isinstance(value, property)}
    methods = {name for name in {*vars(Job), *vars(SyncJob)} if not name.startswith("_")}
    assert methods - derived - {"validate"} <= listed


def test_every_guarantee_names_a_test_that_exists():
    lines = [line for line in text_of("docs/guarantees.md").splitlines() if line.startswith("| G")]
    assert len(lines) > 10
    for line in lines:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line)
        assert tests, line
        for path, name in tests:
            assert re.search(rf"^def {name}\(", text_of(path), re.MULTILINE), f"{path}::{name}"


# --- README and links -----------------------------------------------------------------------------


def test_the_readme_shows_a_job_on_its_first_screen():
    before = text_of("README.md").partition("```python\n")[0]
    assert before.count("\n") + 1 < 40
    assert blocks(README, "python")[0]["code"].count("\n") < 25
    assert blocks(README, "python")[0]["output"]


@pytest.mark.parametrize("target", ["-e .", "-e '.[dev]'"])
def test_the_readme_has_each_install_command_in_one_line(target):
    [line] = [line for line in text_of("README.md").splitlines() if f"-c requirements.lock {target} &&" in line]
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_relative_link_leads_somewhere():
    broken = []
    for path in DOCS:
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            name, _, anchor = link.partition("#")
            target = path.parent / name if name else path
            if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
                broken.append(f"{path.name}: {link}")
    assert broken == []


def test_every_document_is_reachable_from_the_readme():
    seen, waiting = set(), [README]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        links = re.findall(r"\]\(([^)\s#]+)", path.read_text(encoding="utf-8"))
        targets = [(path.parent / link).resolve() for link in links if "://" not in link]
        waiting += [found for target in targets for found in (sorted(target.glob("*.md")) or [target])]
        waiting = [found for found in waiting if found.suffix == ".md"]
    assert set(DOCS) - seen == set()


# --- what no file says ----------------------------------------------------------------------------


def files_of_the_repository() -> list[Path]:
    git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if git.returncode == 0:
        names = [ROOT / name for name in git.stdout.split("\0") if name]
    else:
        hidden = {".git", ".venv", "__pycache__"}
        names = [path for path in ROOT.rglob("*") if not hidden & set(path.relative_to(ROOT).parts)]
    return [path for path in [*names, *DOCS, Path(__file__)] if path.is_file()]


def test_no_file_names_a_registry_host_or_a_path_of_one_machine():
    # Put together here, so that this file may be looked at too.
    words = [
        "pypi" + ".org",
        "python" + "hosted.org",
        "npm" + "js.org",
        "crates" + ".io",
        "/wo" + "rk/",
        "/opt/" + "sd",
    ]
    pattern = re.compile("|".join(map(re.escape, words)))
    found = []
    for path in files_of_the_repository():
        with contextlib.suppress(UnicodeDecodeError):  # a file that is no text names nothing
            text = path.read_text(encoding="utf-8")
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []


# --- webhooks by shell ----------------------------------------------------------------------------


@contextmanager
def receiving(jobs: Mapping[str, Job], secrets: Mapping[str, str], database: Database) -> Iterator[str]:
    """Serve the receiver on a free loopback port during the block; gives its address."""
    app = create_app(jobs=jobs, database=database, secrets=lambda job: [secrets[job.name]])
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:  # connections wait in its backlog until it serves
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.skipif(
    not all(map(shutil.which, ("sh", "curl", "openssl", "od"))), reason="needs sh, curl, openssl and od"
)
def test_the_shell_blocks_deliver_signed_messages(tmp_path, monkeypatch, sqlite_url):
    path = ROOT / "docs" / "webhooks.md"
    monkeypatch.chdir(tmp_path)
    order_job = run_python(path)["shop_orders"]
    state = tmp_path / ".sync_defs"
    state.mkdir()
    (state / "webhook_secret").write_text(f"{SECRET}\n")
    environment = {"PATH": os.environ["PATH"], "SYNC_WEBHOOK_SECRET_SHOP_ORDERS": "any text is a secret"}
    secrets = {"erp_inventory": SECRET, "shop_orders": environment["SYNC_WEBHOOK_SECRET_SHOP_ORDERS"]}
    jobs = {"erp_inventory": load_jobs()["erp_inventory"], "shop_orders": order_job}
    scripts = [block for block in blocks(path, "sh") if "curl" in block["code"]]
    assert len(scripts) == 2
    with Database(sqlite_url) as database, receiving(jobs, secrets, database) as address:
        for block in scripts:
            code = block["code"].replace("http://127.0.0.1:8321", address)
            done = subprocess.run(
                ["sh", "-eu", "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=30
            )
            assert (done.returncode, done.stdout.strip(), done.stderr) == (0, block["output"].strip(), "")
        waiting = Inbox(database).list_messages()
    assert sorted((message.job, message.external_id) for message in waiting) == [
        ("erp_inventory", "SKU-0001"),
        ("shop_orders", "4711"),
    ]
