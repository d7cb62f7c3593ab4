"""What the parent asks a measured process to do, and what it hears back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Work = Callable[[], dict[str, Any]]
"""The measured part; returns what is worth telling of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One piece of work for a fresh process; plain JSON."""

    name: str
    kind: str = "none"
    """Of database."""
    url: str | None = None
    warm_url: str | None = None
    """A prepared database in which the process may do a little of the work first, so that all is imported."""
    source: str = ""
    """The file that is fetched."""
    form: str = "pages"
    """How it is fetched."""
    table: str = "product"
    options: dict[str, Any] = field(default_factory=dict[str, Any])
