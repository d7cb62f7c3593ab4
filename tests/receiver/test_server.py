"""The receiver as a process of its own."""

import re
import signal
import subprocess
import sys

import httpx
import pytest

PROGRAM = """
import sys
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from sync_defs.receiver import serve

serve(Starlette(routes=[Route("/healthz", lambda request: PlainTextResponse("ok"))]), port=0)
"""


@pytest.mark.e2e
def test_it_serves_until_it_is_told_to_stop():
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address, lines = "", []
        while not address:
            lines.append(process.stderr.readline())
            found = re.search(r"http://127\.0\.0\.1:\d+", lines[-1])
            address = found[0] if found else ""
        response = httpx.get(f"{address}/healthz?token=geheim", trust_env=False)
        process.send_signal(signal.SIGTERM)
        lines += process.stderr.readlines()
        process.wait(30)
    assert (response.text, "server" in response.headers) == ("ok", False)
    assert "geheim" not in "".join(lines)
