"""Notices as they arrive, at a web server and a mail server of the test's own."""

import json
import socket
import socketserver
import threading
from contextlib import contextmanager
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sync_defs import ConfigurationError
from sync_defs.alerts import MailNotifier, Notice, Problem, SlackNotifier, State
from sync_defs.errors import AlertError

NOTICE = Notice(
    job="stock",
    before=State.OK,
    now=State.ERROR,
    problems=(
        Problem(source="sync_stock", state=State.ERROR, sentence="the shop is closed; 4 attempts failed"),
        Problem(source="no_rejected_records", state=State.WARN, sentence="1 of 2 rejected, <1> & more open"),
    ),
    url="https://dagster.example.com/assets/stock",
)
TEXT = """stock: OK → ERROR
ERROR sync_stock: the shop is closed; 4 attempts failed
WARN no_rejected_records: 1 of 2 rejected, <1> & more open
https://dagster.example.com/assets/stock"""


@contextmanager
def serving(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def chat():
    """A web server that takes whatever is posted, or answers with a status; gives (received, answers, address)."""
    received, answers = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, self.headers["content-type"], json.loads(body)))
            self.send_response(answers.pop(0) if answers else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield received, answers, f"http://127.0.0.1:{port}/services/T0/B0/s3cret"


@pytest.fixture
def post_office():
    """A mail server that keeps what it takes, and refuses recipients of `refused.example`."""
    received = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.say("220 post office")
            recipients = []
            while line := self.rfile.readline().decode().strip():
                verb = line.partition(" ")[0].upper()
                if verb == "RCPT" and "refused.example" in line:
                    self.say("550 nobody")
                elif verb == "RCPT":
                    recipients.append(line.partition("<")[2].rstrip(">"))
                    self.say("250 ok")
                elif verb == "DATA":
                    self.say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    received.append((recipients, message_from_bytes(b"".join(lines), policy=policy.default)))
                    self.say("250 ok")
                elif verb == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 ok")

        def say(self, line):
            self.wfile.write(f"{line}\r\n".encode())

    with serving(socketserver.TCPServer(("127.0.0.1", 0), Handler)) as port:
        yield received, f"smtp://127.0.0.1:{port}"


def test_a_chat_gets_a_line_for_each_reason_without_markup(chat):
    received, _, url = chat
    SlackNotifier(url).notify(NOTICE)
    text = TEXT.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert received == [("/services/T0/B0/s3cret", "application/json", {"text": text})]


def test_a_chat_that_refuses_is_told_without_its_address(chat):
    _, answers, url = chat
    answers.append(404)
    with pytest.raises(AlertError, match=r"^the chat's webhook answered 404$"):
        SlackNotifier(url).notify(NOTICE)
    assert "s3cret" not in repr(SlackNotifier(url))


def test_a_chat_that_is_away_is_told_without_its_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(AlertError, match=r"^the chat's webhook gave no answer \(ConnectError\)$"):
        SlackNotifier(f"http://127.0.0.1:{port}/s3cret").notify(NOTICE)


def test_a_mail_has_the_change_as_subject_and_the_reasons_as_text(post_office):
    received, url = post_office
    MailNotifier(url=url, sender="sync@example.com", recipients=["ops@example.com", "shop@example.com"]).notify(NOTICE)
    [(recipients, message)] = received
    assert recipients == ["ops@example.com", "shop@example.com"]
    assert (message["Subject"], message["From"]) == ("[sync_defs] stock: OK → ERROR", "sync@example.com")
    assert message.get_content().splitlines() == TEXT.splitlines()


def test_a_mail_that_is_not_taken_for_all_is_told_of(post_office):
    _, url = post_office
    notifier = MailNotifier(url=url, sender="sync@example.com", recipients=["a@example.com", "b@refused.example"])
    with pytest.raises(AlertError, match=r"^the mail server refused 1 of 2 recipients$"):
        notifier.notify(NOTICE)


def test_a_mail_server_that_is_away_is_told_without_the_password():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    notifier = MailNotifier(url=f"smtp://me:s3cret@127.0.0.1:{port}", sender="a@b.de", recipients=["c@d.de"])
    with pytest.raises(AlertError, match=r"^the mail server did not take the notice \(ConnectionRefusedError\)$"):
        notifier.notify(NOTICE)
    assert "s3cret" not in repr(notifier)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SlackNotifier("hooks.slack.com/s3cret"), "does not begin with https:// or http://"),
        (lambda: MailNotifier(url="mail:25", sender="a@b.de", recipients=["c@d.de"]), "it looks like smtp://user"),
        (lambda: MailNotifier(url="smtp://mail", sender="a@b.de", recipients=[]), "at least one recipient"),
    ],
)
def test_an_address_that_is_none_is_refused_without_being_told(make, sentence):
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        make()
    assert "s3cret" not in str(caught.value)
