"""The rows that every benchmark moves, made from a seed: as JSON pages, as lines in stored form and as Parquet.

A row has 7 columns and 244 bytes of JSON. It arrives in random order of keys, and its wire form is unlike the
stored one: `"1.1"` for 1.10, `+02:00` for UTC.
"""

import json
import random
from array import array
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

PAGE = 2_000
BLOCK = 1_000
"""Keys of which 8 change, 1 is new and 1 is gone in the state `percent`."""
CHANGED, NEW, GONE = 8, 1, 1

COLUMNS = ("sku", "quantity", "price", "name", "active", "updated_at", "attributes")
SOURCE_ZONE = timezone(timedelta(hours=2))

_MASK = (1 << 64) - 1
_START = datetime(2026, 1, 1, tzinfo=UTC)
_FINISHES = ("oiled", "matte", "waxed", "brushed", "painted", "polished", "lacquered", "galvanised")
_MATERIALS = ("oak", "ash", "pine", "steel", "brass", "beech", "maple", "copper")
_THINGS = ("hinge", "shelf", "handle", "bracket", "drawer", "castor", "cabinet", "worktop")
_COLORS = ("red", "blue", "green", "black", "white", "yellow", "orange", "purple")
_SIZES = ("S", "M", "L", "XL")


class State(StrEnum):
    """What the source holds."""

    BASE = "base"
    PERCENT = "percent"
    """In each 1,000 keys 8 changed, 1 new, 1 gone."""
    CHANGED = "changed"
    """Every quantity is one more."""


class Row(NamedTuple):
    """One row in stored form."""

    sku: str
    quantity: int
    price: Decimal
    name: str
    active: bool
    updated_at: datetime
    attributes: str


def loads() -> Any:
    """Return the parser of pages: orjson's where it is installed, else the standard library's."""
    return import_module("orjson").loads if find_spec("orjson") else json.loads


def read_pages(path: str | Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the pages of a file that has one JSON array a line."""
    parse = loads()
    with Path(path).open("rb") as lines:
        for line in lines:
            yield parse(line)


def stored_row(seed: int, number: int, increase: int = 0) -> Row:
    """Return the row of a key's number; `increase` is added to its quantity."""
    bits = _mix((seed << 40) ^ number)
    name = f"{_FINISHES[bits & 7]} {_MATERIALS[bits >> 3 & 7]} {_THINGS[bits >> 6 & 7]} {bits >> 9 & 0xFFFFFFF:09d}"
    attributes = (
        f'{{"color":"{_COLORS[bits >> 12 & 7]}","size":"{_SIZES[bits >> 15 & 3]}",'
        f'"weight":{100 + (bits >> 17 & 4095)},"ean":"{4_000_000_000_000 + (bits >> 20 & 0xFFFFFFFFF)}"}}'
    )
    return Row(
        sku=f"SKU-{number:08d}",
        quantity=(bits >> 29) % 1_000 + increase,
        price=Decimal((bits >> 33) % 100_000).scaleb(-2),
        name=name,
        active=bits >> 50 & 7 != 0,
        updated_at=_START + timedelta(seconds=(bits >> 38) % 20_000_000),
        attributes=attributes,
    )


def wire_form(row: Row) -> dict[str, object]:
    """Return a row as the source writes it."""
    price = f"{row.price:f}"
    return {
        "sku": row.sku,
        "quantity": row.quantity,
        "price": price.rstrip("0").rstrip(".") if "." in price else price,
        "name": row.name,
        "active": row.active,
        "updated_at": row.updated_at.astimezone(SOURCE_ZONE).isoformat(),
        "attributes": row.attributes,
    }


def line_for(database: str, row: Row) -> str:
    """Return a row as a line of tab-separated values, as the database's own bulk load reads it."""
    if database == "postgresql":
        active, instant = "t" if row.active else "f", f"{row.updated_at:%Y-%m-%d %H:%M:%S}+00"
    else:
        active, instant = str(int(row.active)), f"{row.updated_at:%Y-%m-%d %H:%M:%S}"
    # SQLAlchemy writes the fraction of a second on SQLite, and reads nothing else back.
    instant += ".000000" if database == "sqlite" else ""
    return f"{row.sku}\t{row.quantity}\t{row.price}\t{row.name}\t{active}\t{instant}\t{row.attributes}\n"


@dataclass(frozen=True, slots=True)
class Changes:
    """What the state `percent` changes, by number of key."""

    changed: frozenset[int]
    gone: frozenset[int]
    new: range


def percent_changes(seed: int, rows: int) -> Changes:
    """Return which keys change; a last block of less than 1,000 keys has its share, but at least one of each."""
    changed: list[int] = []
    gone: list[int] = []
    new = 0
    for start in range(0, rows, BLOCK):
        size = min(BLOCK, rows - start)
        shares = [max(1, round(count * size / BLOCK)) for count in (CHANGED, GONE, NEW)]
        chosen = random.Random(f"{seed}/{start}").sample(range(start, start + size), shares[0] + shares[1])
        changed += chosen[: shares[0]]
        gone += chosen[shares[0] :]
        new += shares[2]
    return Changes(changed=frozenset(changed), gone=frozenset(gone), new=range(rows, rows + new))


@dataclass(frozen=True, slots=True)
class Workload:
    """The rows of one size; what is asked of it as a file is written at first use."""

    directory: Path
    rows: int
    seed: int = 1

    def stored(self, state: State, *, is_shuffled: bool = True) -> Iterator[Row]:
        """Yield the rows of a state: in the order of their arrival, or else of their keys."""
        changes = percent_changes(self.seed, self.rows) if state is State.PERCENT else None
        order = array("I", range(changes.new.stop if changes else self.rows))
        if is_shuffled:
            random.Random(f"{self.seed}/{state}").shuffle(order)
        for number in order:
            if changes is None:
                yield stored_row(self.seed, number, int(state is State.CHANGED))
            elif number not in changes.gone:
                yield stored_row(self.seed, number, int(number in changes.changed))

    def pages(self, state: State = State.BASE) -> Path:
        """Return a file of JSON pages."""
        path = self._path(f"{state}.pages")
        if not path.exists():
            with replacing(path) as part, part.open("w", encoding="utf-8") as file:
                page: list[dict[str, object]] = []
                for row in self.stored(state):
                    page.append(wire_form(row))
                    if len(page) == PAGE:
                        file.write(_page_text(page))
                        page = []
                if page:
                    file.write(_page_text(page))
        return path

    def lines(self, database: str) -> Path:
        """Return a file of lines in stored form, in the order of arrival, for the raw bulk load of a database."""
        path = self._path(f"{database}.lines")
        if not path.exists():
            with replacing(path) as part, part.open("w", encoding="utf-8") as file:
                file.writelines(line_for(database, row) for row in self.stored(State.BASE))
        return path

    def parquet(self, state: State = State.BASE) -> Path:
        """Return a Parquet file in stored types, in the order of arrival; needs pyarrow."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._path(f"{state}.parquet")
        if not path.exists():
            kinds = (pa.string(), pa.int64(), pa.decimal128(12, 2), pa.string(), pa.bool_())
            kinds = (*kinds, pa.timestamp("us", "UTC"), pa.string())
            schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
            with replacing(path) as part, pq.ParquetWriter(part, schema) as writer:
                rows = self.stored(state)
                while batch := [row._asdict() for row in islice(rows, 100_000)]:
                    writer.write_table(pa.Table.from_pylist(batch, schema=schema))
        return path

    def _path(self, name: str) -> Path:
        return self.directory / f"{self.rows}-{self.seed}-{name}"


def _page_text(page: list[dict[str, object]]) -> str:
    return json.dumps(page, separators=(",", ":")) + "\n"


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Give a name to write to, which becomes the path once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    yield part
    part.replace(path)


def _mix(value: int) -> int:
    """Return 64 well mixed bits (the finaliser of SplitMix64): a generator per row would cost ten times as much."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
