"""`serve`: the webhook receiver alone."""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from sync_defs.cli.deployment import Deployment, deployment_of
from sync_defs.cli.ports import is_loopback, require_free
from sync_defs.errors import DatabaseNotReadyError, SyncError

if TYPE_CHECKING:
    from starlette.applications import Starlette

logger = logging.getLogger(__name__)

Host = Annotated[str | None, typer.Option("--host", help="Address; default: SYNC_RECEIVER_HOST, else 127.0.0.1.")]
Port = Annotated[
    int | None, typer.Option("--port", min=1, max=65_535, help="Port; default: SYNC_RECEIVER_PORT, else 8321.")
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Take unsigned messages, from anybody, for jobs without a secret.")
]


def serve(ctx: typer.Context, host: Host = None, port: Port = None, insecure: Insecure = False) -> None:
    """Receive webhooks into the inbox.

    Runs until SIGINT or SIGTERM; needs a secret for each job that takes webhooks.
    """
    from sync_defs import receiver

    deployment = deployment_of(ctx)
    host = host or deployment.settings.receiver_host
    port = port or deployment.settings.receiver_port
    app = _app(deployment, insecure=insecure)
    require_free(host, port, option="--port")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if insecure and not is_loopback(host):
        logger.warning("--insecure: other machines can reach %s, and anybody may send to jobs without a secret", host)
    try:
        receiver.serve(app, host, port)
    except KeyboardInterrupt:
        return  # the ordinary end of a server
    except SystemExit as error:
        raise SyncError("the receiver could not start; its log is above", code="receiver_failed") from error


def _app(deployment: Deployment, *, insecure: bool) -> "Starlette":
    from sync_defs import receiver

    environ = environment_with_file()
    app = receiver.create_app(
        jobs=deployment.jobs,
        database=deployment.database,
        secrets=lambda job: receiver.webhook_secrets(job, environ),
        insecure=insecure,
    )
    try:
        deployment.database.ensure_ready()
    except DatabaseNotReadyError as error:
        if error.code != "database_unreachable":  # that one may come up later; until then senders get 503
            raise
    return app


def environment_with_file() -> Mapping[str, str]:
    """Return the environment, and below it what `.env` says, as for every other setting."""
    from dotenv import dotenv_values

    return {name: value for name, value in dotenv_values(".env").items() if value} | dict(os.environ)
