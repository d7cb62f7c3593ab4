"""A way to a database server that breaks: it passes on what a client says, up to one request, and then cuts."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import sqlalchemy as sa


@dataclass(slots=True)
class Proxy:
    """Listens on 127.0.0.1; what a client sends at once counts as one request."""

    server: tuple[str, int] | str
    """Host and port, or the path of a socket."""
    port: int = 0
    cut_at: int = 0
    """The number of the request whose answer is lost, counted from `arm` on; 0 for none."""
    words: bytes = b""
    """Requests without these do not count."""
    requests: int = 0
    has_cut: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, cut_at: int, words: bytes = b"") -> None:
        """Cut at a request from now on, once; 0 for never."""
        with self._lock:
            self.cut_at, self.words, self.requests, self.has_cut = cut_at, words, 0, False

    def counts(self, request: bytes) -> bool:
        """Count a request, and tell whether its answer is to be lost."""
        with self._lock:
            if not self.cut_at or self.has_cut or self.words not in request:
                return False
            self.requests += 1
            self.has_cut = self.requests == self.cut_at
            return self.has_cut

    def serve(self, listener: socket.socket) -> None:
        """Take clients until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, self._connect() as server:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            with suppress(OSError):
                while request := client.recv(1 << 20):
                    if self.counts(request):
                        client.shutdown(socket.SHUT_RDWR)  # before the server hears: no answer can slip through
                        server.sendall(request)
                        break
                    server.sendall(request)
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)  # it does what it heard, and then sees that nobody is there
            back.join()

    def _connect(self) -> socket.socket:
        if isinstance(self.server, str):
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.server)
        else:
            server = socket.create_connection(self.server)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server


def _pump(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while answer := server.recv(1 << 20):
            with suppress(OSError):
                client.sendall(answer)


@contextmanager
def broken_way(url: str) -> Iterator[tuple[str, Proxy]]:
    """Give the URL of a database by way of a proxy, and the proxy."""
    given = sa.make_url(url)
    query = {"sslmode": "disable", "gssencmode": "disable"} if given.get_backend_name() == "postgresql" else {}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(_server_of(given), port=listener.getsockname()[1])
        threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
        way = given.set(host="127.0.0.1", port=proxy.port).difference_update_query(["host"]).update_query_dict(query)
        try:
            yield way.render_as_string(hide_password=False), proxy
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _server_of(url: sa.URL) -> tuple[str, int] | str:
    """Return where a server listens; libpq's parameter `host` may name the folder of its socket."""
    folder = url.query.get("host")
    if isinstance(folder, str) and folder.startswith("/"):
        return f"{folder}/.s.PGSQL.{url.port or 5432}"
    return url.host or "127.0.0.1", url.port or 0
