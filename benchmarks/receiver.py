"""Measures the receiver beside a bare handler that only inserts the row: `python -m benchmarks.receiver`.

The receiver takes signed messages, each with an id and an item of its own, and answers after the commit. The bare
handler is a Starlette route that reads the body and inserts it in a transaction of its own, by SQLAlchemy in
Starlette's thread pool. Both run under the same uvicorn, with 1 and 4 processes on one socket, and the same senders ask
them in turn. A ratio is the median of the rounds'.
"""

import argparse
import asyncio
import base64
import hmac
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.databases import Place, UnavailableError, open_place
from benchmarks.results import FOLDER, Results, surroundings
from sync_defs import Database, table_sync
from sync_defs.receiver import create_app

HANDLERS = ("receiver", "bare")
SECRET = "whsec_" + base64.b64encode(b"benchmark key of 32 bytes length").decode()  # guards nothing
_KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
_BARE = sa.Table(
    "bare_messages",
    sa.MetaData(),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("payload", sa.LargeBinary, nullable=False),
)
_ITEMS = sa.Table("items", sa.MetaData(), sa.Column("id", sa.String(64), primary_key=True), sa.Column("name", sa.Text))
_WARM = 100


@table_sync(target=_ITEMS, key="id", fields={"name": "name"}, create_table=True)
def items():
    """Take messages only."""
    return []


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.receiver", description="Measures the receiver.")
    parser.add_argument("--database", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--messages", type=int, default=2_000, help="in each round; default: 2000")
    parser.add_argument("--senders", type=int, default=64, help="connections at once; default: 64")
    parser.add_argument("--repeat", type=int, default=5, help="rounds, of which the median is taken; default: 5")
    parser.add_argument("--json", type=Path, default=FOLDER, help="folder for the results; default: benchmarks/results")
    parser.add_argument("--serve", nargs=3, metavar=("HANDLER", "URL", "SOCKET"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        handler, url, descriptor = options.serve
        _serve(handler, url, int(descriptor))
        return
    print("| Database | Processes | Receiver, a second | Bare, a second | Ratio | Receiver, CPU ms | Bare, CPU ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in options.database:
        with tempfile.TemporaryDirectory(prefix="sync_benchmark_") as folder:
            place = open_place(kind, Path(folder), None)
            try:
                label = place.version()
                for processes in options.processes:
                    figures = _measure(place, processes, options)
                    print(f"| {label} | {processes} | {_cells(figures)} |", flush=True)
                    settings = surroundings(label) | {"repeat": options.repeat}
                    name = f"{kind}, {processes} processes"
                    Results(options.json).keep_messages("receiver", name, figures | {"settings": settings})
            except UnavailableError as error:
                print(f"skipped: {error}")
            finally:
                place.close()


def _cells(figures: dict[str, float]) -> str:
    whole = [f"{figures[name]:.0f}" for name in ("receiver_per_s", "bare_per_s")]
    return " | ".join(whole + [f"{figures[name]:.2f}" for name in ("ratio", "receiver_cpu_ms", "bare_cpu_ms")])


def _measure(place: Place, processes: int, options: argparse.Namespace) -> dict[str, float]:
    rates: dict[str, list[float]] = {handler: [] for handler in HANDLERS}
    costs: dict[str, list[float]] = {handler: [] for handler in HANDLERS}
    for number in range(options.repeat):
        for handler in HANDLERS if number % 2 == 0 else HANDLERS[::-1]:
            rate, cost_ms = _round(place, handler, processes, options)
            rates[handler].append(rate)
            costs[handler].append(cost_ms)
    ratio = median(ours / theirs for ours, theirs in zip(*rates.values(), strict=True))
    figures = {f"{handler}_per_s": round(median(rates[handler])) for handler in HANDLERS}
    cost = {f"{handler}_cpu_ms": round(median(costs[handler]), 3) for handler in HANDLERS}
    return {**figures, "ratio": round(ratio, 3), **cost}


def _round(place: Place, handler: str, processes: int, options: argparse.Namespace) -> tuple[float, float]:
    """Return messages a second, and milliseconds of the server's processors a message, in a new database."""
    url = place.create()
    with Database(url) as database:
        database.upgrade()
        _BARE.create(database.engine)
    with socket.create_server(("127.0.0.1", 0), backlog=1_000) as listener:
        command = [sys.executable, "-m", "benchmarks.receiver", "--serve", handler, url, str(listener.fileno())]
        pipes: dict[str, Any] = {"pass_fds": [listener.fileno()], "stdout": subprocess.PIPE, "text": True}
        children = [subprocess.Popen(command, **pipes) for _ in range(processes)]
        try:
            for child in children:
                assert child.stdout is not None
                assert child.stdout.readline() == "ready\n"
            address = listener.getsockname()
            asyncio.run(_send_all(address, "warm", _WARM * processes, options.senders))
            before = time.perf_counter()
            asyncio.run(_send_all(address, "m", options.messages, options.senders))
            took_s = time.perf_counter() - before
        finally:
            for child in children:
                child.send_signal(signal.SIGTERM)
            outputs = [child.communicate()[0] for child in children]
    sent = options.messages + _WARM * processes
    _check(url, handler, sent)
    place.drop(url)
    return options.messages / took_s, sum(map(float, outputs)) * 1_000 / sent


def _check(url: str, handler: str, expected: int) -> None:
    """Compare what is stored with what was answered; else there are no figures."""
    with Database(url) as database, database.read() as connection:
        schema = f"{database.dialect.schema}." if database.dialect.schema else ""
        table = f"{schema}sync_queue" if handler == "receiver" else _BARE.name
        found = connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one()
    assert found == expected, f"{handler}: {found} rows of {expected}"


async def _send_all(address: tuple[str, int], prefix: str, count: int, senders: int) -> None:
    requests = iter([_request(f"{prefix}{number}") for number in range(count)])
    await asyncio.gather(*[_send(address, requests) for _ in range(senders)])


async def _send(address: tuple[str, int], requests: Iterator[bytes]) -> None:
    reader, writer = await asyncio.open_connection(*address)
    for request in requests:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r")[0]))
        assert head.startswith(b"http/1.1 202"), head
    writer.close()
    await writer.wait_closed()


def _request(message_id: str) -> bytes:
    body = json.dumps({"type": "item.updated", "data": {"id": message_id, "name": "a name of some length"}}).encode()
    now = str(int(time.time()))
    signed = f"{message_id}.{now}.".encode() + body
    signature = base64.b64encode(hmac.digest(_KEY, signed, "sha256")).decode()
    head = (
        f"POST /webhooks/items HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        f"\r\nwebhook-id: {message_id}\r\nwebhook-timestamp: {now}\r\nwebhook-signature: v1,{signature}\r\n\r\n"
    )
    return head.encode() + body


def _serve(handler: str, url: str, descriptor: int) -> None:
    """Serve on a socket of the parent; print a line when ready, and at the end the seconds of processor time."""
    with Database(url) as database:
        if handler == "receiver":
            app = create_app(jobs=[items], database=database, secrets=lambda _: [SECRET])
        else:
            app = _bare_app(database)
        config = uvicorn.Config(app, access_log=False, log_level="warning", server_header=False, ws="none")
        with socket.socket(fileno=descriptor) as listener:
            _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._cpu_s = time.process_time()
        print("ready", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        print(time.process_time() - self._cpu_s, flush=True)


def _bare_app(database: Database) -> Starlette:
    def insert(message_id: str, body: bytes) -> None:
        with database.write() as connection:
            connection.execute(sa.insert(_BARE), {"id": message_id, "payload": body})

    async def handle(request: Request) -> JSONResponse:
        await run_in_threadpool(insert, request.headers["webhook-id"], await request.body())
        return JSONResponse({"status": "queued"}, status_code=202)

    return Starlette(routes=[Route("/webhooks/items", handle, methods=["POST"])])


if __name__ == "__main__":
    main()
