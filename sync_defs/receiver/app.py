"""The receiver: an ASGI app that verifies a webhook, stores it, and only then answers 202.

What is refused, in this order, so that little is done for strangers: unknown route, method, too much under way,
duplicate headers, framing and size, encoding and media type, size again while the body comes in, signature and age,
and too many messages. What is signed but unusable is stored as a dead letter and answered 202, since senders give up on
an endpoint that answers 4xx.
"""

import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_defs.errors import ConfigurationError, DatabaseNotReadyError
from sync_defs.inbox import Inbox
from sync_defs.job import Job
from sync_defs.policies import Webhook
from sync_defs.receiver.deliveries import Deliveries, Source, refusal
from sync_defs.receiver.health import Health
from sync_defs.receiver.intake import Refused
from sync_defs.receiver.limits import Limits
from sync_defs.receiver.secrets import secret_variables, webhook_secrets
from sync_defs.receiver.signatures import UnsignedVerifier, Verifier, verifier_for
from sync_defs.store.database import Clock, Database, utc_now

logger = logging.getLogger("sync_defs.receiver")


def create_app(
    *,
    jobs: Mapping[str, Job] | Iterable[Job],
    database: Database,
    secrets: Callable[[Job], list[str]] | None = None,
    clock: Clock = utc_now,
    insecure: bool = False,
    limits: Limits | None = None,
) -> Starlette:
    """Return the ASGI app: `POST /webhooks/{job}`, `GET /healthz`, `GET /readyz`, `GET /metrics`.

    At start it checks the database; one that cannot be reached yet is waited for with 503. It may be mounted in
    another app, which need not run its lifespan: the check then comes with the first message.

    Args:
        jobs: those with `webhook=None` get no route.
        database: where messages are stored.
        secrets: returns a job's live secrets; default: from the environment, now.
        clock: what timestamps are held against.
        insecure: take messages for jobs without secrets unsigned, instead of refusing to start.
        limits: how much it takes on at once.

    Raises:
        ConfigurationError: a job has no secret, or a bad one; names the job and the variable.
    """
    sources: dict[str, Source] = {}
    for job in _jobs(jobs):
        if job.webhook is not None:
            live = secrets(job) if secrets else webhook_secrets(job, os.environ)
            verifier = _verifier(job, job.webhook, live, insecure=insecure)
            sources[job.name] = Source(job=job, webhook=job.webhook, verifier=verifier)
    inbox = Inbox(database)
    deliveries = Deliveries(sources, inbox=inbox, clock=clock, limits=limits or Limits())
    health = Health(inbox, deliveries.metrics, under_way=lambda: deliveries.under_way)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        try:
            await run_in_threadpool(database.ensure_ready)
        except DatabaseNotReadyError as error:
            if error.code != "database_unreachable":
                raise
            logger.warning("%s", error)
        yield
        await run_in_threadpool(deliveries.close)

    app = Starlette(
        routes=[
            Route("/webhooks/{job}", deliveries, name="webhooks"),
            Route("/healthz", health.alive, name="healthz"),
            Route("/readyz", health.ready, name="readyz"),
            Route("/metrics", health.measure, name="metrics"),
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


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
    headers = dict(cast("HTTPException", error).headers or {}) | {"Connection": "close"}
    return refusal(Refused(status, code, message, headers=headers))
