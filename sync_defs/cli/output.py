"""What is printed: lines, tables and JSON, never a control character of somebody else's."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime


def printable(text: str) -> str:
    """Return a text with all that could steer a terminal, or break a line, written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(line: str) -> None:
    """Print a line on stdout, at once."""
    sys.stdout.write(f"{printable(line)}\n")
    sys.stdout.flush()


def tell(line: str) -> None:
    """Print a line on stderr: progress, remarks and errors."""
    sys.stderr.write(f"{printable(line)}\n")
    sys.stderr.flush()


def say_json(value: object) -> None:
    """Print one JSON document on stdout, in ASCII; on one line unless a person is reading."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(value, indent=indent, allow_nan=False) + "\n")
    sys.stdout.flush()


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: fitted to a terminal, and in a pipe one aligned line for each row."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _fitted(columns, cells)
        return
    lines = [list(columns), *cells]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(padded.rstrip() + "\n")


def _fitted(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def ago(then: datetime, now: datetime | None = None) -> str:
    """Return how long ago an instant was, such as `5 min ago`."""
    seconds = max(((now or datetime.now(UTC)) - then).total_seconds(), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 message`, `2 messages`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
