"""The receiver on a real socket: what no client library would send, and senders that take their time."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import uvicorn

from sync_defs.receiver import Limits, create_app
from sync_defs.receiver.intake import MAX_BODY
from sync_defs.receiver.server import MAX_HEADER_BYTES, server_config
from sync_defs.store.database import Database
from tests.receiver.conftest import NOW, SECRET, Sender, make_job
from tests.receiver.test_bad_inputs import raw_cases

BODY = b'{"id": 7}'
GIVE_UP_S = 30


@contextlib.contextmanager
def serving(app, **options) -> Iterator[tuple[str, int]]:
    """Serve on a free loopback port during the block."""
    server = uvicorn.Server(server_config(app, "127.0.0.1", 0, **options))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()


Serve = Callable[..., contextlib.AbstractContextManager[tuple[str, int]]]


@pytest.fixture
def database(sqlite_url) -> Iterator[Database]:
    with Database(sqlite_url) as database:
        database.upgrade()
        yield database


@pytest.fixture
def serve(database) -> Serve:
    def make(*, timeout_s: float = 10.0, **options):
        app = create_app(
            jobs=[make_job()],
            database=database,
            secrets=lambda _: [SECRET],
            clock=lambda: NOW,
            limits=Limits(timeout_s=timeout_s),
        )
        return serving(app, timeout_s=timeout_s, **options)

    return make


def connect(address) -> socket.socket:
    return socket.create_connection(address, timeout=GIVE_UP_S)


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes; one that does not is an error."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


def drip(connection: socket.socket, part: bytes) -> bytes:
    """Send a part again and again until the other side closes, and return what it answered."""
    found = b""
    connection.settimeout(0.02)
    for _ in range(int(GIVE_UP_S / 0.02)):
        try:
            connection.sendall(part)
            part_found = connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return found
        if not part_found:
            return found
        found += part_found
    raise AssertionError("the connection is still open")


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def head(*lines: str, body: bytes = BODY) -> bytes:
    signed = [f"{name}: {value}" for name, value in Sender(None).headers(body, "m1").items()]
    return "\r\n".join(["POST /webhooks/erp HTTP/1.1", "Host: x", *signed, *lines, "", ""]).encode()


def test_a_signed_message_is_taken(serve, inbox):
    with serve() as address, connect(address) as connection:
        connection.sendall(head(f"Content-Length: {len(BODY)}", "Connection: close") + BODY)
        assert status_of(read_all(connection)) == 202
    assert inbox.counts("erp").ready == 1


@pytest.mark.parametrize("case", raw_cases())
def test_what_is_no_request_is_refused_and_the_receiver_lives_on(case, serve, inbox):
    with serve(timeout_s=0.2) as address:
        with connect(address) as connection:
            connection.sendall(case["input"]["raw_latin1"].replace("/hooks/", "/webhooks/").encode("latin-1"))
            answer = read_all(connection)
        assert not answer or 400 <= status_of(answer) < 500
        with connect(address) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert status_of(read_all(connection)) == 200
    assert inbox.depth() == {}


@pytest.mark.parametrize("sent", [b"", b"POST /webhooks/erp HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half"])
def test_a_sender_that_falls_silent_in_the_headers_is_cut_off(serve, sent):
    with serve(timeout_s=0.2) as address, connect(address) as connection:
        connection.sendall(sent)
        assert status_of(read_all(connection)) == 408


@pytest.mark.parametrize("part", [b"X-a: b\r\n", b"X"], ids=["lines", "bytes"])
def test_headers_that_drip_are_cut_off(serve, part):
    with serve(timeout_s=0.2) as address, connect(address) as connection:
        connection.sendall(b"POST /webhooks/erp HTTP/1.1\r\nHost: x\r\n")
        assert status_of(drip(connection, part)) == 408


def test_empty_lines_after_an_answer_do_not_hold_a_connection(serve):
    with serve(timeout_s=0.2) as address, connect(address) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b'{"status":"ok"}' in drip(connection, b"\r\n")


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_body_that_drips_is_cut_off(serve, inbox, framing):
    part = b"1\r\n{\r\n" if "chunked" in framing else b"{"
    with serve(timeout_s=0.2) as address, connect(address) as connection:
        connection.sendall(head(framing))
        answer = drip(connection, part)
    assert (status_of(answer), b'"timeout"' in answer) == (408, True)
    assert inbox.depth() == {}


def test_a_body_that_nobody_reads_is_cut_off_too(serve):
    with serve(timeout_s=0.2) as address, connect(address) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert status_of(drip(connection, b"{")) == 200


def test_an_app_that_never_answers_does_not_hold_a_slow_sender():
    async def app(scope, receive, send):
        while scope["type"] == "http" and (await receive())["type"] != "http.disconnect":
            pass

    with serving(app, timeout_s=0.1) as address, connect(address) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert drip(connection, b"{") == b""


def test_an_answer_that_is_due_is_not_lost_to_a_next_request_that_drips(serve, database, inbox):
    """The first one waits for the database longer than a request may take to come in."""
    with serve(timeout_s=0.3) as address, connect(address) as connection, database.write():
        connection.sendall(head(f"Content-Length: {len(BODY)}") + BODY)
        answer = drip(connection, b"\r\n")
    assert (status_of(answer), b'"unavailable"' in answer) == (503, True)


def test_endless_headers_are_cut_off_before_they_fill_the_memory(serve):
    with serve() as address, connect(address) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(b"POST /webhooks/erp HTTP/1.1\r\nHost: x\r\nX: " + b"x" * (2 * MAX_HEADER_BYTES))
        assert status_of(read_all(connection)) == 431


@pytest.mark.parametrize("framing", ["chunk extension", "trailer"])
def test_endless_framing_is_cut_off_too(serve, inbox, framing):
    start = b"1;" if framing == "chunk extension" else b"1\r\n{\r\n0\r\nX: "
    with serve() as address, connect(address) as connection:
        connection.sendall(head("Transfer-Encoding: chunked") + start)
        with contextlib.suppress(OSError):
            connection.sendall(b"x" * (4 * MAX_HEADER_BYTES))
        read_all(connection)
    assert inbox.depth() == {}


def test_trailers_are_no_headers(serve, inbox):
    """Otherwise a signature could come behind the checks of the headers."""
    lines = head("Transfer-Encoding: chunked", "Connection: close").split(b"\r\n")
    signature = next(line for line in lines if line.startswith(b"webhook-signature"))
    unsigned = b"\r\n".join(line for line in lines if line is not signature)
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    with serve() as address:
        for start, trailer, status in [(unsigned, signature, 401), (b"\r\n".join(lines), signature, 202)]:
            with connect(address) as connection:
                connection.sendall(start + chunks + trailer + b"\r\n\r\n")
                assert status_of(read_all(connection)) == status
    assert inbox.counts("erp").ready == 1


def test_an_endless_chunked_body_is_cut_off_at_the_limit(serve, inbox):
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    sent = 0
    with serve() as address, connect(address) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        with contextlib.suppress(OSError):
            for _ in range(200 * MAX_BODY // len(chunk)):
                connection.sendall(chunk)
                sent += len(chunk)
    # What it took before it closed, and what the sockets hold.
    assert sent < 20 * MAX_BODY
    assert inbox.depth() == {}


def test_more_connections_than_allowed_are_told_to_come_later(serve):
    with serve(max_connections=1) as address, connect(address) as first, connect(address) as second:
        answer = read_all(second)
        assert (status_of(answer), b"retry-after: 10" in answer) == (503, True)
        first.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status_of(read_all(first)) == 200


def test_a_sender_that_goes_away_amid_the_body_leaves_no_row_and_no_traceback(serve, inbox, caplog):
    with serve() as address:
        with connect(address) as connection:
            connection.sendall(head("Content-Length: 1000") + b"{")
        with connect(address) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert status_of(read_all(connection)) == 200
    assert inbox.depth() == {}
    assert "Traceback" not in caplog.text
