"""The webhook receiver, an ASGI app: verify, store, answer 202.

May import the inbox, the store and the nouns, and Starlette; never Dagster.

In reading order: `intake` (headers, size, time), `limits` (how much at once), `secrets` (where they come from),
`signatures` (who may deliver), `writer` (group commit), `metrics` (what is counted), `deliveries` (one delivery),
`health` (for whoever watches), `app` (the routes), `server` (a process of its own), `openapi` (what a sender may rely
on).
"""

from sync_defs.receiver.app import create_app
from sync_defs.receiver.limits import Limits
from sync_defs.receiver.openapi import openapi_schema
from sync_defs.receiver.secrets import secret_variables, webhook_secrets
from sync_defs.receiver.server import serve
from sync_defs.receiver.signatures import (
    HmacForm,
    HmacVerifier,
    StandardVerifier,
    StripeVerifier,
    Verifier,
    verifier_for,
)

__all__ = [
    "HmacForm",
    "HmacVerifier",
    "Limits",
    "StandardVerifier",
    "StripeVerifier",
    "Verifier",
    "create_app",
    "openapi_schema",
    "secret_variables",
    "serve",
    "verifier_for",
    "webhook_secrets",
]
