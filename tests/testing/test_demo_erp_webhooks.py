"""The demo ERP's webhooks, and starting and stopping it."""

import doctest
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

import sync_defs.testing.demo_erp.server
from sync_defs.testing.demo_erp import DemoErp, ErpState, Kind, Webhooks
from sync_defs.testing.demo_erp.webhooks import signed_headers
from tests.testing.conftest import instant

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WAIT_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def event(self) -> dict:
        return json.loads(self.body)


class Receiver:
    """A webhook receiver that answers as told, 204 afterwards, and keeps what it got."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self._got: queue.Queue[Received] = queue.Queue()
        self.may_answer = threading.Event()
        self.may_answer.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver._got.put(Received(path=self.path, headers=headers, body=body))
                receiver.may_answer.wait(WAIT_S)
                self.send_response(receiver._statuses.pop(0) if receiver._statuses else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hooks/{kind}"

    def get(self) -> Received:
        return self._got.get(timeout=WAIT_S)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


# Webhooks.


def test_each_change_sends_a_signed_message(path: Path, receiver: Receiver) -> None:
    url_for = {kind: receiver.url(kind) for kind in ("inventory", "customers")}
    with DemoErp(path=path, webhook_url_for=url_for, webhook_secret=SECRET) as erp:
        expected = []
        for event, record in (
            ("inventory.updated", erp.change("SKU-0001", quantity=1, name="Türgriff “ü”")),
            ("inventory.created", erp.create("NEW-1")),
            ("customers.updated", erp.change_customer("C-0001", blocked=True)),
        ):
            expected.append({"type": event, "timestamp": record["updated_at"], "data": record})
        got = [receiver.get() for _ in range(3)]
    for one in got:
        Webhook(SECRET).verify(one.body, dict(one.headers))
        assert one.headers["content-type"] == "application/json"
        assert one.path == f"/hooks/{one.event['type'].partition('.')[0]}"
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(one.body + b" ", dict(one.headers))
    assert len({one.headers["webhook-id"] for one in got}) == 3
    by_type = {one.event["type"]: one.event for one in got}
    assert [by_type[str(event["type"])] for event in expected] == expected


def test_a_deletion_is_told_with_its_own_time(path: Path, receiver: Receiver) -> None:
    url_for = {"inventory": receiver.url("inventory")}
    with DemoErp(path=path, webhook_url_for=url_for, webhook_secret=SECRET) as erp:
        (before,) = [item for item in erp.inventory() if item["sku"] == "SKU-0001"]
        erp.change_customer("C-0001", blocked=True)
        erp.delete("SKU-0001")
        event = receiver.get().event
    assert event["type"] == "inventory.deleted"
    assert event["data"]["sku"] == "SKU-0001"
    assert event["timestamp"] == event["data"]["updated_at"]
    assert instant(event["data"]) > instant(before)


def test_a_refused_message_comes_again_with_the_same_id_and_body(path: Path) -> None:
    with Receiver(500, 302, 429) as receiver:
        url_for = {"inventory": receiver.url("inventory")}
        with DemoErp(path=path, webhook_url_for=url_for, webhook_secret=SECRET) as erp:
            erp.change("SKU-0001", quantity=1)
            got = [receiver.get() for _ in range(4)]
    assert len({(one.headers["webhook-id"], one.body) for one in got}) == 1
    for one in got:
        Webhook(SECRET).verify(one.body, dict(one.headers))


def test_a_receiver_that_hangs_does_not_hold_up_the_api(path: Path, receiver: Receiver) -> None:
    receiver.may_answer.clear()
    url_for = {"inventory": receiver.url("inventory")}
    with (
        DemoErp(path=path, webhook_url_for=url_for, webhook_secret=SECRET) as erp,
        httpx.Client(base_url=erp.url, timeout=WAIT_S) as http,
    ):
        for quantity in range(30):
            assert http.patch("/api/inventory/SKU-0001", json={"quantity": quantity}).status_code == 200
        assert erp.pending_webhooks() == 30
        receiver.may_answer.set()
        got = {receiver.get().headers["webhook-id"] for _ in range(30)}
    assert len(got) == 30


def test_what_was_not_delivered_is_sent_after_a_restart(path: Path, receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = {"inventory": f"http://127.0.0.1:{taken.getsockname()[1]}/"}
        taken.close()
        with DemoErp(path=path, webhook_url_for=nobody, webhook_secret=SECRET) as erp:
            erp.change("SKU-0001", quantity=1)
            assert erp.pending_webhooks() == 1
    url_for = {"inventory": receiver.url("inventory")}
    with DemoErp(path=path, webhook_url_for=url_for, webhook_secret=SECRET):
        assert receiver.get().event["data"]["quantity"] == 1


def test_no_receiver_keeps_no_messages(erp: DemoErp) -> None:
    erp.simulate(changes=5)
    assert erp.pending_webhooks() == 0


def test_a_message_that_is_never_accepted_is_given_up_and_kept(path: Path) -> None:
    webhooks = Webhooks(url_for={}, secret=SECRET, attempts=3, retry_base_s=1, retry_cap_s=1.5)
    assert [webhooks.delay_s(attempts) for attempts in (1, 2, 3)] == [1, 1.5, None]
    state = ErpState(path, announce=[Kind.INVENTORY])
    try:
        state.put(Kind.INVENTORY, "A", {})
        (message,) = state.outbox.due(state.now(), kinds=[Kind.INVENTORY], limit=9)
        state.outbox.failed(message.message_id, due_at=None)
        assert state.outbox.due(state.now() + 1e6, kinds=[Kind.INVENTORY], limit=9) == []
        assert (state.outbox.next_due(kinds=[Kind.INVENTORY]), state.outbox.count()) == (None, 1)
        assert signed_headers(SECRET, message, 1_700_000_000.9)["webhook-timestamp"] == "1700000000"
    finally:
        state.close()


def test_the_secret_is_in_no_repr() -> None:
    assert "MfKQ" not in repr(Webhooks(url_for={}, secret=SECRET))


def test_the_ticker_keeps_changing_things(path: Path, receiver: Receiver) -> None:
    url_for = {"inventory": receiver.url("inventory")}
    with DemoErp(path=path, tick_s=0.01, webhook_url_for=url_for, webhook_secret=SECRET):
        types = {receiver.get().event["type"] for _ in range(7)}
    assert "inventory.updated" in types


# Starting and stopping.


@pytest.mark.parametrize("url_for", [{"inventory": "http://x"}, {"orders": "http://x"}])
def test_webhooks_need_a_secret_and_a_known_kind(path: Path, url_for: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"webhook_secret|orders"):
        DemoErp(path=path, webhook_url_for=url_for, webhook_secret=SECRET if "orders" in url_for else None)


def test_a_taken_port_is_an_error_at_start(erp: DemoErp, tmp_path: Path) -> None:
    port = int(erp.url.rpartition(":")[2])
    other = DemoErp(path=tmp_path / "other.sqlite", port=port)
    with pytest.raises(OSError, match="in use"):
        other.start()
    other.stop()


def test_a_stopped_erp_may_be_started_again(path: Path) -> None:
    erp = DemoErp(path=path)
    with pytest.raises(ValueError, match="not running"):
        _ = erp.url
    for _ in range(2):
        with erp:
            assert httpx.get(f"{erp.url}/healthz").status_code == 200
            with pytest.raises(ValueError, match="already running"):
                erp.start()
    erp.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_as_a_process_of_its_own(path: Path, receiver: Receiver, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "sync_defs.testing.demo_erp", "--port", "0", "--state", str(path)]
    command += ["--webhook-inventory", receiver.url("inventory")]
    environment = os.environ | {"SYNC_WEBHOOK_SECRET": SECRET, "SYNC_ERP_TOKEN": "right"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("demo ERP on ").strip()
        body, headers = {"quantity": 5}, {"Authorization": "Bearer right"}
        try:
            assert httpx.patch(f"{url}/api/inventory/SKU-0001", json=body).status_code == 401
            answer = httpx.patch(f"{url}/api/inventory/SKU-0001", json=body, headers=headers)
            assert answer.status_code == 200
            got = receiver.get()
        finally:
            process.send_signal(number)
        assert process.wait(WAIT_S) in {130, -number}
    Webhook(SECRET).verify(got.body, dict(got.headers))


def test_a_process_with_webhooks_needs_the_secret() -> None:
    command = [sys.executable, "-m", "sync_defs.testing.demo_erp", "--webhook-inventory", "http://x"]
    environment = {name: value for name, value in os.environ.items() if name != "SYNC_WEBHOOK_SECRET"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "SYNC_WEBHOOK_SECRET" in done.stderr


def test_example_in_docstring_runs() -> None:
    result = doctest.testmod(sync_defs.testing.demo_erp.server)
    assert result.attempted > 0
    assert result.failed == 0
