"""`up`: everything on this machine, for a first look and for development."""

import os
import sys
import time
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, TypeVar

import typer

from sync_defs.cli.children import Children
from sync_defs.cli.db import revision_of
from sync_defs.cli.deployment import Deployment, deployment_of
from sync_defs.cli.feed import Feed, never_synced
from sync_defs.cli.output import say
from sync_defs.cli.stack import (
    Part,
    Ports,
    needs_demo_erp,
    parts_of,
    prepare_state,
    project_folder,
    require_ports,
)
from sync_defs.cli.stopping import Stop, stopping_by_signal
from sync_defs.errors import SyncError

_PATIENCE_S = 180.0
_PROBE_S = 0.25
_LOOK_S = 1.0
_T = TypeVar("_T")


_port = partial(typer.Option, min=1, max=65_535)
WebPort = Annotated[
    int | None, _port("--port", help="Port of the web interface; default: SYNC_WEBSERVER_PORT, else 3000.")
]
ReceiverPort = Annotated[
    int | None, _port("--receiver-port", help="Port of the receiver; default: SYNC_RECEIVER_PORT, else 8321.")
]
ErpPort = Annotated[int, _port("--erp-port", help="Port of the demo ERP.")]
Tick = Annotated[
    float, typer.Option("--tick", min=0, metavar="SECONDS", help="How often the demo ERP changes; 0: never.")
]
Browser = Annotated[bool, typer.Option(help="Open the web interface in a browser.")]


class _Stopped(Exception):  # noqa: N818 - not an error: somebody said stop while the parts were starting
    pass


def up(
    ctx: typer.Context,
    *,
    port: WebPort = None,
    receiver_port: ReceiverPort = None,
    erp_port: ErpPort = 8320,
    tick_s: Tick = 60.0,
    browser: Browser = True,
) -> None:
    """Run everything on this machine.

    That is a demo ERP (where SYNC_ERP_URL is not set), the receiver and Dagster, until Ctrl-C.
    """
    deployment = deployment_of(ctx)
    settings = deployment.settings
    folder = project_folder()
    ports = Ports(
        webserver=port or settings.webserver_port,
        receiver=receiver_port or settings.receiver_port,
        erp=erp_port,
    )
    require_ports(ports, has_erp=needs_demo_erp(deployment))
    state = prepare_state(settings.state_dir)
    revision_of(deployment.database)  # says plainly that it cannot be reached
    deployment.database.upgrade()
    say(f"database  {deployment.database.label}")
    parts = parts_of(deployment, folder, state, ports, tick_s=tick_s)
    children = Children(folder=folder, logs=state / "logs")
    with stopping_by_signal() as stop:
        try:
            with suppress(_Stopped):
                _run(deployment, parts, children, stop, browser=browser)
        finally:
            _try_to_say("stopping")
            children.stop(stop)
    _try_to_say("stopped")


def _run(deployment: Deployment, parts: list[Part], children: Children, stop: Stop, *, browser: bool) -> None:
    from sync_defs.cli.first_syncs import Dagster, launch_first

    say(f"starting  {', '.join(part.name for part in parts)}")
    for part in reversed(parts):  # Dagster first: it takes the longest
        children.start(part.name, part.command, part.environment)
    for part in parts:
        _wait(part.name, lambda part=part: _answers(part), children, stop)
        say(f"{part.name:9} {part.url}")
    dagster = Dagster(parts[-1].url)
    known = _wait("dagster's definitions", dagster.jobs, children, stop)
    feed = Feed(deployment)
    launched = launch_first(dagster, never_synced(deployment), known)
    if launched:
        say(f"first     sync of {', '.join(launched)}")
    for line in _hints(deployment, parts):
        say(line)
    if browser and sys.stdout.isatty() and (sys.platform == "darwin" or os.environ.get("DISPLAY")):
        webbrowser.open(parts[-1].url)
    while not stop.wait(_LOOK_S):
        children.check()
        feed.show()


def _try_to_say(line: str) -> None:
    """Print a line, if there is still somebody to read it: the terminal may be what has gone."""
    with suppress(OSError):
        say(line)


def _wait(what: str, probe: Callable[[], _T | None], children: Children, stop: Stop) -> _T:
    """Return what the probe finds, as soon as it is not None.

    Raises:
        SyncError: a child ended, or the wait was too long.
        _Stopped: somebody said stop.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        children.check()
        found = probe()
        if found is not None:
            return found
        if stop.wait(_PROBE_S):
            raise _Stopped
    raise SyncError(f"{what}: no answer within {_PATIENCE_S:.0f} s; see the logs", code="start_timeout")


def _answers(part: Part) -> bool | None:
    """Return True once a part is up, else None."""
    import httpx

    try:
        with httpx.Client(trust_env=False, timeout=2.0) as client:
            return client.get(part.url + part.health).status_code == 200 or None
    except httpx.HTTPError:
        return None


def _hints(deployment: Deployment, parts: list[Part]) -> list[str]:
    """Return what to try next, with commands that work as they stand."""
    urls = {part.name: part.url for part in parts}
    lines: list[str] = []
    if "receiver" in urls:
        lines.append(f"webhooks  POST {urls['receiver']}/webhooks/JOB")
    if "demo-erp" in urls and "erp_inventory" in deployment.jobs:
        headers = "-H 'content-type: application/json'"
        if deployment.settings.erp_token is not None:
            headers += ' -H "authorization: Bearer $SYNC_ERP_TOKEN"'
        lines.append("try       change an item in the ERP, which then sends a signed webhook:")
        item = f"{urls['demo-erp']}/api/inventory/SKU-0001"
        lines.append(f"  curl -X PATCH {item} {headers} -d '{{\"quantity\": 7}}'")
    return [*lines, "Ctrl-C    stops everything"]
