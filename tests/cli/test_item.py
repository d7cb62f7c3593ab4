"""`item`: one item, from the source or from a payload."""

import io
import json
from types import SimpleNamespace

import pytest

from tests.cli.conftest import Done


@pytest.fixture
def payload(any_project):
    """Write a payload and return the file's name."""

    def write(document):
        (any_project.folder / "payload.json").write_text(json.dumps(document))
        return "payload.json"

    return write


def test_id_is_asked_of_the_source(any_project):
    assert any_project.run("item", "stock", "B") == Done(0, "created B\n", "")
    assert any_project.run("item", "stock", "B") == Done(0, "unchanged B\n", "")
    assert any_project.rows() == {"B": 2}


def test_id_that_the_source_lacks_is_a_failure(any_project):
    expected = "sync-defs: [not_in_source] the source of 'stock' has no record 'X'\n"
    assert any_project.run("item", "stock", "X") == Done(1, "", expected)


def test_rejected_item_is_code_3(any_project):
    any_project.source([{"sku": "A", "quantity": "many"}])
    done = any_project.run("item", "stock", "A")
    assert (done.code, done.err) == (3, "")
    assert done.out.startswith("rejected A: stock: ")


def test_id_that_comes_twice_has_the_outcome_of_the_last(any_project):
    any_project.source([{"sku": "A", "quantity": 1}, {"sku": "A", "quantity": 2}])
    assert any_project.run("item", "stock", "A").out == "created A\n"
    assert any_project.rows() == {"A": 2}


def test_payload_is_applied_as_a_webhook_brings_it(any_project, payload):
    any_project.run("run", "stock")
    name = payload({"type": "item.updated", "data": {"sku": "A", "quantity": 7}})
    assert any_project.run("item", "stock", "--payload", name) == Done(0, "updated A\n", "")
    assert any_project.rows() == {"A": 7, "B": 2, "C": 3}


def test_each_item_of_a_payload_is_told(any_project, payload):
    name = payload({"data": [{"sku": "A", "quantity": 7}, {"sku": "Z", "quantity": None}]})
    done = any_project.run("item", "stock", "--payload", name, "--json")
    first, second = json.loads(done.out)
    assert done.code == 3
    assert first == {"action": "created", "external_id": "A", "message": None, "code": None}
    assert (second["action"], second["external_id"]) == ("rejected", "Z")


def test_payload_can_come_from_stdin(project, monkeypatch):
    body = io.BytesIO(b'{"sku": "A", "quantity": 7}')
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=body))
    project.run("run", "stock")
    assert project.run("item", "stock", "--payload", "-") == Done(0, "updated A\n", "")


def test_payload_of_a_job_with_refetch_has_the_source_asked(any_project, payload):
    file = any_project.folder / any_project.module / "stock" / "__init__.py"
    file.write_text(file.read_text().replace("    fetch_items=chosen,", "    fetch_items=chosen,\n    refetch=True,"))
    name = payload({"type": "item.updated", "data": {"sku": "A", "quantity": 7}})
    assert any_project.run("item", "stock", "--payload", name) == Done(0, "created A\n", "")
    assert any_project.rows() == {"A": 1}
    any_project.source("away")
    done = any_project.run("item", "stock", "--payload", name)
    assert done == Done(1, "", "sync-defs: [fetch_failed] the source is away\n")


def test_payload_that_is_not_json_is_one_sentence(project):
    (project.folder / "payload.json").write_text("{")
    done = project.run("item", "stock", "--payload", "payload.json")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("sync-defs: [not_json] the body is not JSON")


def test_payload_file_that_is_not_there_is_a_usage_error(project):
    done = project.run("item", "stock", "--payload", "nowhere.json")
    assert (done.code, done.out) == (2, "")
    assert "No such file or directory: nowhere.json" in done.err


@pytest.mark.parametrize("arguments", [[], ["A", "--payload", "x"]])
def test_either_an_id_or_a_payload(project, arguments):
    done = project.run("item", "stock", *arguments)
    assert (done.code, done.out) == (2, "")
    assert "give either an ID or --payload FILE." in done.err
