"""The webhook receiver, an ASGI app: verify, store, answer 202.

May import the inbox, the store and the nouns, and Starlette; never Dagster.

In reading order: `intake` (headers, size, time), `secrets` (where they come from), `signatures` (who may deliver),
`app` (the routes), `server` (a process of its own).
"""

from sync_defs.receiver.app import create_app
from sync_defs.receiver.secrets import secret_variables, webhook_secrets
from sync_defs.receiver.server import serve
from sync_defs.receiver.signatures import HmacVerifier, StandardVerifier, Verifier, verifier_for

__all__ = [
    "HmacVerifier",
    "StandardVerifier",
    "Verifier",
    "create_app",
    "secret_variables",
    "serve",
    "verifier_for",
    "webhook_secrets",
]
