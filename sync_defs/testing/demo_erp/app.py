"""The ERP's HTTP service: listings in pages, single records, changes, simulation and faults."""

import asyncio
import hmac
import json
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict
from decimal import Decimal
from functools import partial
from itertools import count
from typing import cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sync_defs.testing.demo_erp.faults import Faults
from sync_defs.testing.demo_erp.listing import Listing, list_records, page_request
from sync_defs.testing.demo_erp.records import InvalidRecordError, Kind
from sync_defs.testing.demo_erp.simulate import simulate
from sync_defs.testing.demo_erp.state import ErpState
from sync_defs.testing.demo_erp.webhooks import Webhooks, deliver_forever

_LOG = logging.getLogger(__name__)
_LOGIN_PAGE = "<!doctype html><title>Sign in</title><form method=post><input name=user></form>"


def create_app(
    state: ErpState,
    *,
    faults: Faults | None = None,
    api_token: str | None = None,
    webhooks: Webhooks | None = None,
    tick_s: float | None = None,
) -> Starlette:
    """Return the ASGI application over a state that the caller opens and closes.

    With ``api_token`` each request but ``/healthz`` needs ``Authorization: Bearer``. With ``webhooks`` the
    outbox is delivered while the application runs; with ``tick_s`` the inventory changes a little each time
    so many seconds have passed.
    """
    api = _Api(state, faults or Faults())
    return Starlette(
        routes=api.routes(),
        middleware=[] if api_token is None else [Middleware(RequireToken, token=api_token)],
        exception_handlers={InvalidRecordError: _answer_invalid},
        lifespan=partial(_lifespan, state=state, webhooks=webhooks, tick_s=tick_s),
    )


class RequireToken:
    """ASGI middleware that answers 401 to a request below ``/api`` without the token."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        """Guard an application."""
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] == "http" and scope["path"].startswith("/api"):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                response = _error(401, "a valid API token is needed", {"WWW-Authenticate": "Bearer"})
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Api:
    def __init__(self, state: ErpState, faults: Faults) -> None:
        self._state = state
        self._faults = faults

    def routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = [
            Route("/healthz", self._health),
            Route("/api/simulate", self._simulate, methods=["POST"]),
            Route("/api/faults", self._read_faults, methods=["GET"]),
            Route("/api/faults", self._inject, methods=["POST"]),
            Route("/api/faults", self._clear_faults, methods=["DELETE"]),
        ]
        for kind in Kind:
            one = f"/api/{kind}/{{record_id:path}}"
            routes += [
                Route(f"/api/{kind}", partial(self._list, kind)),
                Route(one, partial(self._read, kind), methods=["GET"]),
                Route(one, partial(self._change, kind), methods=["PATCH"]),
                Route(one, partial(self._put, kind), methods=["PUT"]),
                Route(one, partial(self._delete, kind), methods=["DELETE"]),
            ]
        return routes

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _list(self, kind: Kind, request: Request) -> Response:
        fault = self._faults.take()
        if fault is not None:
            return _answer_fault(fault)
        await asyncio.sleep(self._faults.switches.slow_page_s)
        wanted = page_request(kind, request.query_params)
        pages = self._faults.switches.truncate_after_pages
        if pages is not None and wanted.page_number >= pages:
            return _error(500, "internal error")
        listing: Listing = await run_in_threadpool(
            list_records, self._state, kind, wanted, malformed=self._faults.switches.malformed_items
        )
        return JSONResponse({"items": listing.items, "next_page_token": listing.next_page_token})

    async def _read(self, kind: Kind, request: Request) -> Response:
        found = await run_in_threadpool(self._state.find, kind, [_record_id(request)])
        return JSONResponse(found[0]) if found else _unknown(kind)

    async def _change(self, kind: Kind, request: Request) -> Response:
        fields = await _body(request)
        record = await run_in_threadpool(self._state.change, kind, _record_id(request), fields)
        return _unknown(kind) if record is None else JSONResponse(record)

    async def _put(self, kind: Kind, request: Request) -> Response:
        fields = await _body(request)
        record, is_new = await run_in_threadpool(self._state.put, kind, _record_id(request), fields)
        return JSONResponse(record, status_code=201 if is_new else 200)

    async def _delete(self, kind: Kind, request: Request) -> Response:
        is_deleted = await run_in_threadpool(self._state.delete, kind, _record_id(request))
        return Response(status_code=204) if is_deleted else _unknown(kind)

    async def _simulate(self, request: Request) -> Response:
        numbers = {"changes": 10, "creates": 0, "deletes": 0, "seed": None, **await _body(request)}
        unknown = numbers.keys() - {"changes", "creates", "deletes", "seed"}
        if numbers["seed"] is None:
            del numbers["seed"]
        if unknown or not all(type(value) is int for value in numbers.values()):
            message = "changes, creates, deletes and seed are integers, and there is nothing else"
            raise InvalidRecordError(message)
        done = await run_in_threadpool(partial(simulate, self._state, **cast("dict[str, int]", numbers)))
        return JSONResponse(asdict(done))

    async def _read_faults(self, _: Request) -> Response:
        return JSONResponse(asdict(self._faults.switches))

    async def _inject(self, request: Request) -> Response:
        return JSONResponse(asdict(self._faults.inject(await _body(request))))

    async def _clear_faults(self, _: Request) -> Response:
        self._faults.clear()
        return Response(status_code=204)


@asynccontextmanager
async def _lifespan(
    _: Starlette, *, state: ErpState, webhooks: Webhooks | None, tick_s: float | None
) -> AsyncGenerator[None]:
    work: list[Coroutine[object, object, None]] = []
    if webhooks is not None:
        work.append(deliver_forever(state, webhooks))
    if tick_s is not None:
        work.append(_tick_forever(state, tick_s))
    tasks = [asyncio.create_task(job) for job in work]
    for task in tasks:
        task.add_done_callback(_log_failure)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _tick_forever(state: ErpState, tick_s: float) -> None:
    for number in count(1):
        await asyncio.sleep(tick_s)
        few = partial(simulate, state, changes=3, creates=number % 10 == 0, deletes=number % 20 == 0)
        await run_in_threadpool(few)


def _log_failure(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _LOG.error("a background task of the demo ERP ended: %s", type(error).__name__, exc_info=error)


async def _body(request: Request) -> dict[str, object]:
    try:
        body: object = json.loads(await request.body(), parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        message = "the body must be JSON"
        raise InvalidRecordError(message) from error
    if not isinstance(body, dict):
        message = "the body must be a JSON object"
        raise InvalidRecordError(message)
    return cast("dict[str, object]", body)


def _record_id(request: Request) -> str:
    return cast("str", request.path_params["record_id"])


def _answer_fault(fault: str) -> Response:
    if fault == "rate_limit":
        return _error(429, "too many requests", {"Retry-After": "1"})
    if fault == "html_login_page":
        return Response(_LOGIN_PAGE, media_type="text/html")
    return _error(500, "internal error")


async def _answer_invalid(_: Request, error: Exception) -> Response:
    return _error(400, str(error))


def _unknown(kind: Kind) -> Response:
    return _error(404, f"no such record in {kind}")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status_code=status, headers=headers)
