"""Run the demo ERP in the foreground: ``python -m sync_defs.testing.demo_erp``."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sync_defs.testing.demo_erp.server import DemoErp

_EPILOG = (
    "Secrets come from the environment: SYNC_WEBHOOK_SECRET (whsec_...) signs the webhooks and is needed "
    "with --webhook-inventory or --webhook-customers; SYNC_ERP_TOKEN, if set, is asked of each request."
)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Serve until interrupted and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sync_defs.testing.demo_erp", description="A small ERP over HTTP.", epilog=_EPILOG
    )
    parser.add_argument("--port", type=int, default=8555, help="TCP port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--state", type=Path, default=Path("demo_erp.sqlite"), help="SQLite file")
    parser.add_argument("--webhook-inventory", metavar="URL", help="send changes of items there")
    parser.add_argument("--webhook-customers", metavar="URL", help="send changes of customers there")
    parser.add_argument("--tick-s", type=float, help="seconds between small random changes")
    options = parser.parse_args(arguments)
    receivers = {"inventory": options.webhook_inventory, "customers": options.webhook_customers}
    url_for = {kind: url for kind, url in receivers.items() if url}
    secret = environment.get("SYNC_WEBHOOK_SECRET")
    if url_for and not secret:
        parser.error("a webhook URL needs the environment variable SYNC_WEBHOOK_SECRET")
    erp = DemoErp(
        path=options.state,
        port=options.port,
        api_token=environment.get("SYNC_ERP_TOKEN") or None,
        webhook_url_for=url_for,
        webhook_secret=secret,
        tick_s=options.tick_s,
    )
    try:
        erp.serve()
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
