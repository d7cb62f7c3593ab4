"""Delivery of the outbox: signed by the Standard Webhooks scheme, retried until the receiver accepts.

At least once, in no promised order: messages are sent side by side, and one that failed comes later.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
from standardwebhooks import Webhook
from starlette.concurrency import run_in_threadpool

from sync_defs.testing.demo_erp.outbox import OutgoingMessage
from sync_defs.testing.demo_erp.records import Kind
from sync_defs.testing.demo_erp.state import ErpState

_AT_ONCE = 16
_LONGEST_NAP_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """Where changes are announced, and how."""

    url_for: Mapping[Kind, str]
    """The receiver of each kind; a kind without one is not announced."""
    secret: str = field(repr=False)
    """The signing key, ``whsec_`` and base64."""
    attempts: int = 20
    """After so many the message is kept but no longer sent."""
    retry_base_s: float = 0.2
    """The wait after the first failure; each further one doubles it."""
    retry_cap_s: float = 60.0
    """The longest wait between two attempts."""
    timeout_s: float = 10.0
    """How long the receiver may take to answer."""

    def delay_s(self, attempts: int) -> float | None:
        """Return the wait after this many failed attempts, None to give up."""
        if attempts >= self.attempts:
            return None
        return min(self.retry_cap_s, self.retry_base_s * 2 ** (attempts - 1))


def signed_headers(secret: str, message: OutgoingMessage, now: float) -> dict[str, str]:
    """Return the headers of one attempt; the timestamp is the attempt's, the id the message's."""
    moment = datetime.fromtimestamp(int(now), UTC)
    return {
        "content-type": "application/json",
        "webhook-id": message.message_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": Webhook(secret).sign(message.message_id, moment, message.body),
    }


async def deliver_forever(state: ErpState, webhooks: Webhooks) -> None:
    """Send what is due, sleep until more is, until cancelled."""
    wake = asyncio.Event()
    loop = asyncio.get_running_loop()
    state.on_change(lambda: _wake(loop, wake))
    kinds = frozenset(webhooks.url_for)
    try:
        async with httpx.AsyncClient(timeout=webhooks.timeout_s, trust_env=False) as client:
            while True:
                wake.clear()
                due = await run_in_threadpool(state.outbox.due, state.now(), kinds=kinds, limit=_AT_ONCE)
                await asyncio.gather(*(_deliver(client, state, webhooks, message) for message in due))
                if not due:
                    await _nap(state, kinds, wake)
    finally:
        state.on_change(None)


async def _deliver(client: httpx.AsyncClient, state: ErpState, webhooks: Webhooks, message: OutgoingMessage) -> None:
    headers = signed_headers(webhooks.secret, message, state.now())
    try:
        response = await client.post(webhooks.url_for[message.kind], content=message.body.encode(), headers=headers)
        is_accepted = response.is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        is_accepted = False
    if is_accepted:
        await run_in_threadpool(state.outbox.delivered, message.message_id)
        return
    delay_s = webhooks.delay_s(message.attempts + 1)
    due_at = None if delay_s is None else state.now() + delay_s
    await run_in_threadpool(state.outbox.failed, message.message_id, due_at=due_at)


async def _nap(state: ErpState, kinds: frozenset[Kind], wake: asyncio.Event) -> None:
    next_due = await run_in_threadpool(state.outbox.next_due, kinds=kinds)
    nap_s = _LONGEST_NAP_S if next_due is None else min(_LONGEST_NAP_S, max(0.0, next_due - state.now()))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(wake.wait(), timeout=nap_s)


def _wake(loop: asyncio.AbstractEventLoop, wake: asyncio.Event) -> None:
    # The loop may close between the change and this call; the message then goes out after the next start.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(wake.set)
