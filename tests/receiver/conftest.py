"""A receiver over a fresh database, and a sender that signs with the Standard Webhooks library."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook as Signer
from starlette.testclient import TestClient

from sync_defs.inbox import Inbox
from sync_defs.job import TableSync, table_sync
from sync_defs.policies import Webhook
from sync_defs.receiver import create_app
from sync_defs.store.database import Database

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
SECRET = "whsec_" + "c2VjcmV0LWtleS1vZi0zMi1ieXRlcy1sZW5ndGghISE="
PREVIOUS = "whsec_" + "cHJldmlvdXMta2V5LW9mLTMyLWJ5dGVzLWxlbmd0aCE="


def make_job(name: str = "erp", webhook: Webhook | None = None) -> TableSync:
    columns = (sa.Column("id", sa.String(255), primary_key=True), sa.Column("name", sa.String(50)))
    target = sa.Table(f"{name}_items", sa.MetaData(), *columns)

    def fetch():
        return []

    return table_sync(target=target, key="id", fields={"name": "name"}, name=name, webhook=webhook or Webhook())(fetch)


@dataclass
class Sender:
    """Sends signed messages; every part can be bent."""

    client: TestClient
    now: datetime = NOW
    secret: str = SECRET
    path: str = "/webhooks/erp"
    sent: list[str] = field(default_factory=list)

    def headers(self, body: bytes, message_id: str) -> dict[str, str]:
        signature = Signer(self.secret).sign(message_id, self.now, body.decode("utf-8", "replace"))
        return {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(self.now.timestamp())),
            "webhook-signature": signature,
        }

    def post(self, data: object, *, message_id: str = "m1", **changed: str | None):
        """Post JSON data or raw bytes; `changed` replaces headers (with `_` for `-`), None drops one."""
        body = data if isinstance(data, bytes) else json.dumps({"data": data}).encode()
        headers = self.headers(body, message_id)
        for name, value in changed.items():
            headers.pop(name.replace("_", "-"), None)
            if value is not None:
                headers[name.replace("_", "-")] = value
        return self.client.post(self.path, content=body, headers=headers)


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    with Database(migrated_url, clock=lambda: NOW) as database:
        yield database


@pytest.fixture
def inbox(database: Database) -> Inbox:
    return Inbox(database)


@pytest.fixture
def make_client(database: Database) -> Iterator[Callable[..., TestClient]]:
    """Make clients of a receiver; by default of one job with two live secrets."""
    opened = []

    def make(**options: Any) -> TestClient:
        given: dict[str, Any] = {
            "jobs": [make_job()],
            "database": database,
            "secrets": lambda _: [SECRET, PREVIOUS],
            "clock": lambda: NOW,
        }
        client = TestClient(create_app(**given | options), raise_server_exceptions=False)
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def sender(make_client: Callable[..., TestClient]) -> Sender:
    return Sender(make_client())
