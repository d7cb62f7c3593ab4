"""What a sender may rely on, as an OpenAPI 3.1 document."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final, cast

from sync_defs.job import Job
from sync_defs.policies import Webhook
from sync_defs.receiver.signatures import form_of

_Json = dict[str, Any]
_TEXT: Final[_Json] = {"type": "string"}
_REFUSALS: Final = {
    400: "The request can be read in two ways.",
    401: "The signature or the timestamp is absent or wrong.",
    405: "Only POST is taken.",
    408: "The body took too long.",
    413: "The body is too large.",
    415: "The body is not JSON, or is encoded.",
    422: "Signed, but of no use; only where the job rejects such messages.",
    429: "The job takes no more for now; see `Retry-After`.",
    503: "It was not stored; send it again after `Retry-After`.",
}


def openapi_schema(jobs: Mapping[str, Job] | Iterable[Job]) -> _Json:
    """Return the OpenAPI document of a receiver of these jobs, as plain JSON values; it is not served."""
    found = cast("Mapping[str, Job]", jobs).values() if isinstance(jobs, Mapping) else jobs
    paths: _Json = {
        f"/webhooks/{job.name}": {"post": _delivery(job.name, job.webhook)} for job in found if job.webhook is not None
    }
    for path, about in (("/healthz", "Whether the process lives."), ("/readyz", "Whether messages can be stored.")):
        paths[path] = {"get": _watch(about, {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}})}
    paths["/metrics"] = {"get": _watch("The metrics, for Prometheus.", {"text/plain": {"schema": _TEXT}})}
    return {
        "openapi": "3.1.0",
        "info": {"title": "sync_defs receiver", "version": version("sync_defs")},
        "paths": paths,
        "components": {
            "schemas": {
                "Status": _object("status"),
                "Accepted": _object("status", "code"),
                "Refused": _object("status", "code", "message"),
            }
        },
    }


def _delivery(name: str, webhook: Webhook) -> _Json:
    accepted = {"description": "Stored.", "content": _content("Accepted")}
    refusals = {str(status): _refusal(about) for status, about in _REFUSALS.items()}
    return {
        "operationId": f"deliver_{name}",
        "parameters": [
            {"name": header, "in": "header", "required": is_needed, "schema": _TEXT}
            for header, is_needed in _headers(webhook).items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {}}}},
        "responses": {"202": accepted} | refusals,
    }


def _headers(webhook: Webhook) -> dict[str, bool]:
    """Return the headers that are read, and whether each is needed."""
    if webhook.scheme == "standard":
        return {"webhook-id": True, "webhook-timestamp": True, "webhook-signature": True}
    if webhook.scheme == "stripe":
        return {"stripe-signature": True}
    form = form_of(webhook)
    needed = [name for name in (form.signature_header, form.timestamp_header) if name]
    return dict.fromkeys(needed, True) | dict.fromkeys(form.id_headers, False)


def _watch(about: str, content: _Json) -> _Json:
    responses = {"200": {"description": about, "content": content}, "503": _refusal("The database cannot be used.")}
    return {"summary": about, "responses": responses | {"405": _refusal("Only GET and HEAD are taken.")}}


def _refusal(about: str) -> _Json:
    return {"description": about, "content": _content("Refused")}


def _content(name: str) -> _Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _object(*names: str) -> _Json:
    return {"type": "object", "required": list(names), "properties": dict.fromkeys(names, _TEXT)}
