"""The endpoint of webhooks: one delivery from its first header to its answer."""

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from sync_defs.inbox import EnqueueResult, EnqueueStatus, Inbox, Message, read_message
from sync_defs.job import Job
from sync_defs.policies import Webhook
from sync_defs.receiver.intake import Refused, check_headers, read_body
from sync_defs.receiver.limits import RETRY_AFTER_S, Admission, Limits, Place, Rate
from sync_defs.receiver.metrics import Metrics
from sync_defs.receiver.signatures import Verifier
from sync_defs.receiver.writer import Writer, not_stored
from sync_defs.store.database import Clock

logger = logging.getLogger("sync_defs.receiver")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A job that takes webhooks, and who may deliver them."""

    job: Job
    webhook: Webhook
    verifier: Verifier


class Deliveries:
    """The endpoint of all jobs; an ASGI app, so that it sees every method."""

    def __init__(self, sources: Mapping[str, Source], *, inbox: Inbox, clock: Clock, limits: Limits) -> None:
        """Take the jobs by name, where messages go, and the bounds."""
        self._sources = sources
        self._rates = {name: Rate(source.webhook.max_per_minute) for name, source in sources.items()}
        self._writer = Writer(inbox)
        self._clock = clock
        self._limits = limits
        self._admission = Admission(limits)
        self.metrics = Metrics(sources)

    @property
    def under_way(self) -> int:
        """Return how many deliveries are neither refused nor stored yet."""
        return self._admission.deliveries

    def close(self) -> None:
        """Wait until what was taken is stored."""
        self._writer.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one delivery."""
        request = Request(scope, receive)
        job = request.path_params["job"]
        try:
            response = await self._answer(request, job)
        except Refused as refused:
            self.metrics.count_refused(job, refused.code)
            response = refusal(refused)
        except ClientDisconnect:
            logger.debug("the sender went away before the body was complete")
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request, name: str) -> Response:
        source = self._sources.get(name)
        if source is None:
            raise Refused(404, "not_found", "there is no such route", headers={"Connection": "close"})
        if request.method != "POST":
            raise Refused(405, "method_not_allowed", "use POST", headers={"Allow": "POST", "Connection": "close"})
        with ExitStack() as stack:
            place = self._admission.enter()
            stack.callback(place.leave)
            promise = await self._take(request, source, place)
            # From here on the place is held until the message is stored, whether or not the sender waits for it.
            leave = stack.pop_all()
            promise.add_done_callback(lambda _: leave.close())
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                result = await asyncio.wrap_future(promise)
        except TimeoutError:
            raise not_stored() from None
        return self._accepted(name, result)

    async def _take(self, request: Request, source: Source, place: Place) -> Future[EnqueueResult]:
        # A copy: a server may append the trailers of a chunked body to the headers of the request.
        headers = Headers(raw=list(request.headers.raw))
        check_headers(headers, once=source.verifier.headers, accepts_gzip=source.webhook.accepts_gzip)
        timeout_s = self._limits.timeout_s
        body = await read_body(request.stream(), headers, timeout_s=timeout_s, reserve=place.reserve)
        message_id = source.verifier.verify(headers, body, now=self._clock())
        if message_id is None:
            raise Refused(401, "unauthorized", "the message is not signed by a key that counts here")
        self._rates[source.job.name].take()
        return self._writer.submit(lambda: self._read(source, message_id, body))

    def _read(self, source: Source, message_id: str, body: bytes) -> Message:
        id_field = source.verifier.id_field
        message = read_message(source.job, message_id=message_id, body=body, now=self._clock(), id_field=id_field)
        code = message.items[0].code
        if source.webhook.on_invalid == "reject" and all(item.code for item in message.items):
            raise Refused(422, code or "", "the message is signed, but of no use")
        return message

    def _accepted(self, name: str, result: EnqueueResult) -> Response:
        self.metrics.count_received(name, result.status)
        if result.dead:
            logger.warning("job %s: %d items of a message kept as dead letters: %s", name, result.dead, result.code)
        code = f"{result.status}:{result.code}" if result.status is EnqueueStatus.QUARANTINED else result.status
        return JSONResponse({"status": result.status, "code": code}, status_code=202)


def refusal(refused: Refused) -> Response:
    """Return the response to a refused request."""
    headers = dict(refused.headers)
    if refused.status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    body = {"status": "refused", "code": refused.code, "message": refused.message}
    return JSONResponse(body, status_code=refused.status, headers=headers)
