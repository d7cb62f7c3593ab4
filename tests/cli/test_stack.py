"""What `up` would start, and when it refuses to."""

import json
import socket
import stat

import httpx
import pytest

from sync_defs.cli.deployment import Deployment
from sync_defs.cli.first_syncs import Dagster, launch_first
from sync_defs.cli.stack import Ports, parts_of, prepare_state, webhook_secret
from sync_defs.errors import SyncError
from sync_defs.receiver import StandardVerifier
from tests.cli.test_serve import SECRET, free_port

PORTS = Ports(webserver=3000, receiver=8321, erp=8320)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project's folder with the jobs of this repository; nothing is configured."""
    for name in ("workspace.yaml", "dagster.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parts(folder, **options):
    with Deployment() as deployment:
        state = prepare_state(deployment.settings.state_dir)
        return {part.name: part for part in parts_of(deployment, folder, state, PORTS, **({"tick_s": 60.0} | options))}


def test_secret_is_made_once_and_for_the_owner_alone(folder):
    state = prepare_state(folder / "state")
    secret = webhook_secret(state, {})
    StandardVerifier([secret])  # takes it
    assert stat.S_IMODE((state / "webhook_secret").stat().st_mode) == 0o600
    assert webhook_secret(state, {}) == secret
    assert (state / ".gitignore").read_text() == "*\n"


def test_configured_secret_is_taken(folder):
    state = prepare_state(folder / "state")
    assert webhook_secret(state, {"SYNC_WEBHOOK_SECRET": SECRET}) == SECRET
    assert not (state / "webhook_secret").exists()


def test_parts_know_of_each_other(folder):
    found = parts(folder)
    assert list(found) == ["demo-erp", "receiver", "dagster"]
    erp = " ".join(found["demo-erp"].command)
    assert "--webhook-inventory http://127.0.0.1:8321/webhooks/erp_inventory " in erp
    assert "--webhook-customers http://127.0.0.1:8321/webhooks/erp_customers " in erp
    assert erp.endswith("--tick-s 60.0")
    assert {part.environment["SYNC_WEBHOOK_SECRET"] for part in found.values()} == {
        (folder / ".sync_defs" / "webhook_secret").read_text().strip()
    }
    assert found["dagster"].environment["SYNC_ERP_URL"] == "http://127.0.0.1:8320"
    assert found["dagster"].environment["DAGSTER_HOME"] == str(folder)


def test_configured_erp_takes_the_place_of_the_demo(folder, monkeypatch):
    monkeypatch.setenv("SYNC_ERP_URL", "https://erp.example.com")
    assert list(parts(folder)) == ["receiver", "dagster"]


def test_first_of_several_live_secrets_signs(folder, monkeypatch):
    monkeypatch.setenv("SYNC_WEBHOOK_SECRET", f"{SECRET} whsec_old")
    found = parts(folder)
    assert found["demo-erp"].environment["SYNC_WEBHOOK_SECRET"] == SECRET
    assert found["receiver"].environment["SYNC_WEBHOOK_SECRET"] == f"{SECRET} whsec_old"


def test_no_secret_is_shown(folder):
    """A part may end up in a log or a traceback."""
    assert "whsec_" not in repr(parts(folder))


def test_up_needs_a_projects_folder(project):
    done = project.run("up")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("sync-defs: [not_a_project] there is no workspace.yaml and no dagster.yaml in ")


@pytest.mark.parametrize("option", ["--port", "--receiver-port"])
def test_up_starts_nothing_where_a_port_is_in_use(project, option):
    for name in ("workspace.yaml", "dagster.yaml"):
        (project.folder / name).touch()
    others = {name: str(free_port()) for name in ("--port", "--receiver-port")}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        others[option] = str(taken.getsockname()[1])
        done = project.run("up", *(part for pair in others.items() for part in pair))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("sync-defs: [port_in_use] ")
    assert done.err.endswith(f"or choose another with {option}\n")
    assert not (project.folder / ".sync_defs").exists()


def test_up_needs_different_ports(project):
    for name in ("workspace.yaml", "dagster.yaml"):
        (project.folder / name).touch()
    port = str(free_port())
    expected = "sync-defs: [port_in_use] --port, --receiver-port must be different ports\n"
    assert project.run("up", "--port", port, "--receiver-port", port).err == expected


def dagster(answer):
    """Make a Dagster that answers with GraphQL data, or fails with an exception."""
    asked = []

    def respond(request):
        asked.append(json.loads(request.content))
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(200, json=answer)

    return Dagster("http://dagster", transport=httpx.MockTransport(respond)), asked


def workspace(loaded, status="LOADED"):
    entry = {"name": "sync_defs", "loadStatus": status, "locationOrLoadError": loaded}
    return {"data": {"workspaceOrError": {"__typename": "Workspace", "locationEntries": [entry]}}}


def test_known_jobs_are_read_from_the_workspace():
    repository = {"name": "__repository__", "jobs": [{"name": "sync_a"}, {"name": "a_inbox"}]}
    client, _ = dagster(workspace({"__typename": "RepositoryLocation", "repositories": [repository]}))
    assert client.jobs() == {
        "sync_a": ("sync_defs", "__repository__"),
        "a_inbox": ("sync_defs", "__repository__"),
    }


@pytest.mark.parametrize("answer", [httpx.ConnectError("not yet"), workspace(None, "LOADING")])
def test_dagster_that_is_not_ready_is_asked_again(answer):
    assert dagster(answer)[0].jobs() is None


def test_definitions_that_do_not_load_are_told():
    client, _ = dagster(workspace({"__typename": "PythonError", "message": "ImportError: shop\n"}))
    with pytest.raises(SyncError, match="Dagster cannot load the location sync_defs: ImportError: shop"):
        client.jobs()


def test_jobs_that_dagster_does_not_know_are_not_launched():
    client, asked = dagster({"data": {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": "1"}}}})
    assert launch_first(client, ["a", "b"], {"sync_b": ("place", "repository")}) == ["b"]
    [question] = asked
    assert question["variables"] == {
        "params": {
            "selector": {
                "repositoryLocationName": "place",
                "repositoryName": "repository",
                "jobName": "sync_b",
            },
            "runConfigData": {},
        }
    }


def test_refused_launch_is_told(capsys):
    client, _ = dagster({"data": {"launchRun": {"__typename": "PythonError", "message": "no"}}})
    with pytest.raises(SyncError, match="Dagster did not launch sync_a: no"):
        client.launch("sync_a", "place", "repository")
    assert launch_first(client, ["a"], {"sync_a": ("place", "repository")}) == []
    assert capsys.readouterr().err == "sync-defs: [not_launched] Dagster did not launch sync_a: no\n"
