"""Running the receiver in a process of its own: uvicorn, made impatient and bounded.

uvicorn waits for ever for a request that does not come to its end, keeps as much of its headers as is sent, and, with
httptools, adds the trailers of a chunked body to its headers.
"""

import asyncio
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sync_defs.receiver.limits import RETRY_AFTER_S

TIMEOUT_S: Final = 10.0
MAX_CONNECTIONS: Final = 1_000
MAX_HEADER_BYTES: Final = 64 * 1024
_ANSWERS: Final = {
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: f"Service Unavailable\r\nretry-after: {RETRY_AFTER_S}",
}


def serve(
    app: Starlette,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    timeout_s: float = TIMEOUT_S,
    max_connections: int = MAX_CONNECTIONS,
) -> None:
    """Serve until the process is told to stop; requests under way are answered first.

    There is no access log: paths and addresses of senders are the proxy's business.

    Args:
        app: what `create_app` returned.
        host: the address to listen on.
        port: the port; 0 for a free one.
        timeout_s: seconds for the headers of a request to come in, and then for its body.
        max_connections: connections at once; further ones are answered 503 and closed.
    """
    uvicorn.Server(server_config(app, host, port, timeout_s=timeout_s, max_connections=max_connections)).run()


def server_config(
    app: ASGIApp, host: str, port: int, *, timeout_s: float = TIMEOUT_S, max_connections: int = MAX_CONNECTIONS
) -> uvicorn.Config:
    """Return the configuration of `serve`."""

    class Protocol(BoundedProtocol):
        request_timeout_s = timeout_s
        connection_limit = max_connections

    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Protocol,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=10,
        ws="none",
    )


class BoundedProtocol(HttpToolsProtocol):
    """One connection, which is closed if a request does not come in soon or has too long headers."""

    request_timeout_s = TIMEOUT_S
    connection_limit = MAX_CONNECTIONS
    _deadline: asyncio.TimerHandle | None = None
    _has_headers = False
    _is_last_wait = False
    _unread = 0
    """Bytes since anything came of them: headers that are complete, or a piece of a body."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.connection_limit:
            self._give_up(503)
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, as long as the sender makes progress."""
        if self.transport.is_closing():
            return
        if self._deadline is None:
            self._wait()
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._give_up(431)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Leave the trailers of a chunked body out: nobody has checked them."""
        if not self._has_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to wait for the body."""
        self._has_headers = True
        self._is_last_wait = False
        self._unread = 0
        self._wait()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note the progress."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop waiting: the next move is ours."""
        self._stop_waiting()
        self._has_headers = False
        self._unread = 0
        super().on_message_complete()

    def _wait(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(self.request_timeout_s, self._time_out)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _time_out(self) -> None:
        if self._is_answering() and not self._is_last_wait:
            # The app has a limit of its own, and an answer; the second time is for one that has none. While the
            # answer to a whole request is due, the next one may wait.
            self._is_last_wait = self._has_headers
            self._wait()
        else:
            self._give_up(408)

    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _give_up(self, status: int) -> None:
        if self.transport.is_closing():
            return
        if not self._has_headers and not self._is_answering():
            answer = f"HTTP/1.1 {status} {_ANSWERS[status]}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(answer.encode())
        self.transport.close()
