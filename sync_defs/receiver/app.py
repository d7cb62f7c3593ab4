"""The receiver: an ASGI app that verifies a webhook, stores it, and only then answers 202.

What is refused, in this order, so that little is done for strangers: unknown route, method, duplicate headers,
framing and size, encoding and media type, size again while the body comes in, signature and age. What is signed but
unusable is stored as a dead letter and answered 202, since senders give up on an endpoint that answers 4xx.
"""

import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sync_defs.errors import ConfigurationError, DatabaseNotReadyError
from sync_defs.inbox import EnqueueResult, EnqueueStatus, Inbox, read_message
from sync_defs.job import Job
from sync_defs.policies import Webhook
from sync_defs.receiver.intake import Refused, check_headers, read_body
from sync_defs.receiver.secrets import secret_variables, webhook_secrets
from sync_defs.receiver.signatures import UnsignedVerifier, Verifier, verifier_for
from sync_defs.store.database import REVISION, Clock, Database, utc_now

logger = logging.getLogger("sync_defs.receiver")

RETRY_AFTER_S = 10


def create_app(
    *,
    jobs: Mapping[str, Job] | Iterable[Job],
    database: Database,
    secrets: Callable[[Job], list[str]] | None = None,
    clock: Clock = utc_now,
    insecure: bool = False,
) -> Starlette:
    """Return the ASGI app: `POST /webhooks/{job}`, `GET /healthz`, `GET /readyz`.

    At start it checks the database; one that cannot be reached yet is waited for with 503.

    Args:
        jobs: those with `webhook=None` get no route.
        database: where messages are stored.
        secrets: returns a job's live secrets; default: from the environment, now.
        clock: what timestamps are held against.
        insecure: take messages for jobs without secrets unsigned, instead of refusing to start.

    Raises:
        ConfigurationError: a job has no secret, or a bad one; names the job and the variable.
    """
    routes: dict[str, tuple[Job, Verifier]] = {}
    for job in _jobs(jobs):
        if job.webhook is not None:
            live = secrets(job) if secrets else webhook_secrets(job, os.environ)
            routes[job.name] = (job, _verifier(job, job.webhook, live, insecure=insecure))
    health = _Health(database)
    app = Starlette(
        routes=[
            Route("/webhooks/{job}", _Webhooks(routes, Inbox(database), clock), name="webhooks"),
            Route("/healthz", health.alive, name="healthz"),
            Route("/readyz", health.ready, name="readyz"),
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=health.lifespan,
    )
    app.router.redirect_slashes = False
    return app


class _Webhooks:
    """The endpoint of all jobs; an ASGI app, so that it sees every method."""

    def __init__(self, routes: Mapping[str, tuple[Job, Verifier]], inbox: Inbox, clock: Clock) -> None:
        self._routes = routes
        self._inbox = inbox
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one delivery."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Refused as refused:
            response = _refusal(refused)
        except ClientDisconnect:
            logger.debug("the sender went away before the body was complete")
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        route = self._routes.get(request.path_params["job"])
        if route is None:
            raise Refused(404, "not_found", "there is no such route")
        if request.method != "POST":
            raise Refused(405, "method_not_allowed", "use POST", headers={"Allow": "POST"})
        job, verifier = route
        check_headers(request.headers, once=verifier.headers)
        body = await read_body(request)
        message_id = verifier.verify(request.headers, body, now=self._clock())
        if message_id is None:
            raise Refused(401, "unauthorized", "the message is not signed by a key that counts here")
        result = await run_in_threadpool(self._store, job, message_id, body)
        code = f"{result.status}:{result.code}" if result.status is EnqueueStatus.QUARANTINED else result.status
        return JSONResponse({"status": result.status, "code": code}, status_code=202)

    def _store(self, job: Job, message_id: str, body: bytes) -> EnqueueResult:
        message = read_message(job, message_id=message_id, body=body, now=self._clock())
        try:
            result = self._inbox.enqueue(message)
        except Exception as error:  # noqa: BLE001 - whatever kept it from being stored, the sender must hear so
            reason = type(error).__name__  # not its text nor its traceback, which may hold values
            logger.warning("job %s: message %s was not stored: %s", job.name, message_id, reason)
            raise Refused(503, "unavailable", "the message was not stored; send it again later") from None
        if result.dead:
            logger.warning("job %s: message %s kept as a dead letter: %s", job.name, message_id, result.code)
        return result


class _Health:
    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncGenerator[None]:
        """Refuse to start on tables that do not fit; a database that is down may come later."""
        try:
            await run_in_threadpool(self._database.ensure_ready)
        except DatabaseNotReadyError as error:
            if error.code != "database_unreachable":
                raise
            logger.warning("%s", error)
        yield

    async def alive(self, request: Request) -> Response:
        """Answer as long as the process does."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Tell whether messages can be stored."""
        try:
            revision = await run_in_threadpool(self._database.revision)
        except Exception as error:  # noqa: BLE001 - not reachable, whatever the driver calls it
            logger.warning("not ready: %s", type(error).__name__)
            return _refusal(Refused(503, "database_unreachable", "the database cannot be used"))
        if revision != REVISION:
            return _refusal(Refused(503, "database_not_ready", "the database needs a migration"))
        return JSONResponse({"status": "ready"})


def _jobs(jobs: Mapping[str, Job] | Iterable[Job]) -> Iterable[Job]:
    return cast("Mapping[str, Job]", jobs).values() if isinstance(jobs, Mapping) else jobs


def _verifier(job: Job, webhook: Webhook, secrets: list[str], *, insecure: bool) -> Verifier:
    variables = " or ".join(secret_variables(job))
    if not secrets and insecure:
        logger.warning("job %s: webhooks are taken unsigned", job.name)
        return UnsignedVerifier()
    if not secrets:
        raise ConfigurationError(
            f"job {job.name!r}: no webhook secret; set {variables}, or webhook=None for a job without webhooks"
        )
    try:
        return verifier_for(webhook, secrets)
    except ConfigurationError as error:
        raise ConfigurationError(f"job {job.name!r}: {error.message} (see {variables})") from None


async def _http_error(_: Request, error: Exception) -> Response:
    status = cast("HTTPException", error).status_code
    known = {404: ("not_found", "there is no such route"), 405: ("method_not_allowed", "the method is not allowed")}
    code, message = known.get(status, ("http_error", "the request cannot be answered"))
    headers = cast("HTTPException", error).headers
    return _refusal(Refused(status, code, message, headers=headers))


def _refusal(refused: Refused) -> Response:
    headers = dict(refused.headers)
    if refused.status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    body = {"status": "refused", "code": refused.code, "message": refused.message}
    return JSONResponse(body, status_code=refused.status, headers=headers)
