"""Messages of the storms: what they say, how they are signed, and the ways to bring them to a receiver."""

import base64
import hmac
import http.client
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.faults.judge import Ledger
from tests.faults.shop import JOBS, SECRET, record_of


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a job: its id, and the revisions of items that it tells of."""

    job: str
    message_id: str
    items: tuple[tuple[str, int], ...]

    @property
    def path(self) -> str:
        """Return where it goes."""
        return f"/webhooks/{self.job}"

    @property
    def body(self) -> bytes:
        """Return its bytes; each time the same."""
        records = [record_of(sku, revision) for sku, revision in self.items]
        return json.dumps({"data": records if len(records) > 1 else records[0]}).encode()

    def headers(self) -> dict[str, str]:
        """Return the headers of a sender that signs it now, by Standard Webhooks."""
        timestamp = str(int(time.time()))
        signed = b".".join((self.message_id.encode(), timestamp.encode(), self.body))
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        return {
            "content-type": "application/json",
            "webhook-id": self.message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode(),
        }

    def is_made(self, ledger: Ledger) -> None:
        """Note that the source has what it tells of, and will send it."""
        for sku, revision in self.items:
            ledger.make(self.job, sku, revision)
            ledger.messages[self.job, sku] += 1

    def is_acknowledged(self, ledger: Ledger) -> None:
        """Note that it was answered 202."""
        for sku, revision in self.items:
            ledger.acknowledge(self.job, sku, revision)


@dataclass(slots=True)
class Post:
    """A sender's connection to one receiver, kept open as long as that lives."""

    port: int
    timeout_s: float = 15.0
    _open: http.client.HTTPConnection | None = field(default=None)

    def send(self, message: Message) -> int | None:
        """Return the status, or None where there was no complete answer."""
        connection = self._open or http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout_s)
        self._open = connection
        try:
            connection.request("POST", message.path, message.body, message.headers())
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        return answer.status

    def close(self) -> None:
        """Let the connection go."""
        if self._open is not None:
            self._open.close()
            self._open = None


async def call(app: Any, message: Message) -> int | None:
    """Bring a message to an ASGI app in this process, and return the status."""
    headers = [(name.encode(), value.encode()) for name, value in message.headers().items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": message.path,
        "raw_path": message.path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": None,
        "server": None,
    }
    parts = iter([{"type": "http.request", "body": message.body, "more_body": False}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(parts)

    async def send(part: Any) -> None:
        sent.append(part)

    await app(scope, receive, send)
    return sent[0]["status"]


def planned(seed: int, messages: int, items: int) -> Iterator[tuple[float, Message]]:
    """Yield messages with the place at which each is delivered; the one at an integer was made then.

    Most come nearly in order, one of twenty much later, and one of seven again. Versions of an item grow as they are
    made. Half of them are about a tenth of the items.
    """
    random = Random(seed)
    revisions: dict[tuple[str, str], int] = {}
    for number in range(messages):
        job = random.choices([*JOBS], [6, 2, 3])[0]
        told = []
        for _ in range(random.choices([1, 3, 8], [12, 3, 1])[0]):
            sku = f"{job}-{random.randrange(items // 10 if random.random() < 0.5 else items)}"
            if sku not in dict(told):
                revisions[job, sku] = revisions.get((job, sku), 0) + 1
                told.append((sku, revisions[job, sku]))
        message = Message(job, f"msg-{seed}-{number}", tuple(told))
        place = number + (random.uniform(0, messages) if random.random() < 0.05 else abs(random.gauss(0, 8)))
        yield place, message
        if random.random() < 1 / 7:
            yield place + abs(random.gauss(0, 40)), message


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
