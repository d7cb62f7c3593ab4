"""From what YAML says of a source to the function that fetches."""

import inspect
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from sync_defs.connectors import JsonClient
from sync_defs.declared.attributes import RestAttributes
from sync_defs.errors import ConfigurationError
from sync_defs.fields import Cursor


def find_object(dotted: str, *, attribute: str) -> Any:
    """Return a Python object by its dotted name.

    Raises:
        ConfigurationError: there is no such module or name.
    """
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{attribute}: {dotted!r}: there is no module {error.name!r}") from None
    except AttributeError:
        raise ConfigurationError(f"{attribute}: {dotted!r}: module {module!r} has no {name!r}") from None


def fetch_function(source: "str | RestAttributes") -> Callable[..., Any]:
    """Return the fetch: the named function, or one that reads a JSON API.

    Raises:
        ConfigurationError: the name leads to nothing that can be called.
    """
    if isinstance(source, RestAttributes):
        return _rest_fetch(source)
    found = find_object(source, attribute="source")
    if not callable(found):
        raise ConfigurationError(f"source: {source!r} is {type(found).__name__}, not a function")
    return found


def description_of(fetch: Callable[..., Any]) -> str:
    """Return the docstring of a fetch."""
    return inspect.getdoc(fetch) or ""


def _rest_fetch(rest: RestAttributes) -> Callable[..., Any]:
    def pages(since: str | None) -> Iterator[list[dict[str, object]]]:
        params = {rest.since_param: since} if rest.since_param and since is not None else {}
        named = {"items": rest.items, "next_token": rest.next_token, "token_param": rest.token_param}
        yield from _client(rest).pages(rest.path, params, **named)

    def fetch_changes(cursor: Cursor) -> Iterator[list[dict[str, object]]]:
        """Records of a JSON API that have changed since the cursor."""
        return pages(cursor.value)

    def fetch_all() -> Iterator[list[dict[str, object]]]:
        """All records of a JSON API."""
        return pages(None)

    return fetch_changes if rest.since_param else fetch_all


def _client(rest: RestAttributes) -> JsonClient:
    token = None
    if rest.token_env is not None:
        token = os.environ.get(rest.token_env)
        if not token:
            raise ConfigurationError(f"the environment variable {rest.token_env} with the token is not set")
    try:
        return JsonClient(rest.base_url, token=token)
    except ValueError as error:
        raise ConfigurationError(f"source: {error}") from None
