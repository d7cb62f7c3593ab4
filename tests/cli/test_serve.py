"""`serve`: the receiver as a process, and when it refuses to start."""

import json
import re
import signal
import socket
import subprocess

import httpx
import pytest

from sync_defs.inbox import Inbox
from tests.cli.conftest import ROOT, environment
from tests.cli.test_run import wait_for

SECRET = "whsec_" + "c2VjcmV0" * 4


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def receiver(project, database, port, monkeypatch):
    """The receiver of the project in a process of its own, stopped after the test."""
    (project.folder / ".env").write_text(f"SYNC_WEBHOOK_SECRET={SECRET}\n")
    process = project.start("serve", "--port", str(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/readyz"))
    yield process
    process.kill()
    process.wait()


def answers(url: str) -> bool:
    """Tell whether somebody answers 200."""
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_a_server_is_success(receiver, number):
    receiver.send_signal(number)
    assert receiver.wait(30) == 0


def test_the_openssl_example_of_the_docs_works(receiver, project, database, port):
    """The secret comes from `.env`, which `serve` reads as every other command does."""
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    [script] = re.findall(r"```bash\n(secret=.*?)```", text, re.DOTALL)
    script = script.replace("8321", str(port)).replace("erp_inventory", "stock")
    state = project.folder / ".sync_defs"
    state.mkdir()
    (state / "webhook_secret").write_text(SECRET + "\n")
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=project.folder, env=environment(), capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == {"status": "queued", "code": "queued"}, done.stderr
    [message] = Inbox(database).list_messages("stock")
    assert (message.external_id, message.code) == ("SKU-0001", None)


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
def test_refuses_to_start_without_a_secret(project, port, host):
    done = project.run("serve", "--port", str(port), "--host", host)
    assert (done.code, done.out) == (2, "")
    assert "no webhook secret; set SYNC_WEBHOOK_SECRET_STOCK or SYNC_WEBHOOK_SECRET" in done.err


def test_insecure_is_enough_without_a_secret_on_any_address(project):
    """It gets as far as listening, which no machine can on an address for documentation."""
    done = project.run("serve", "--insecure", "--host", "192.0.2.1")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1].startswith("sync-defs: [port_in_use] ")


def test_port_in_use_is_one_sentence(project, monkeypatch):
    monkeypatch.setenv("SYNC_WEBHOOK_SECRET", SECRET)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = project.run("serve", "--port", str(port))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"sync-defs: [port_in_use] port {port} on 127.0.0.1 cannot be used ")
