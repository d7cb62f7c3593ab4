"""Records of which some are bad: articles with a CHECK, a NOT NULL, a foreign key and two unique keys to break.

Half of the articles are there already, with another quantity: half of the work is updates.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.workload import PAGE, replacing, stored_row

BRANDS = tuple(f"brand {letter}" for letter in "ABCDEFGH")


class Article(NamedTuple):
    """One article in stored form."""

    sku: str
    quantity: int
    price: Decimal
    name: str
    brand: str
    barcode: str
    slug: str


def article(number: int, *, is_new_state: bool) -> Article:
    """Return the good article of a number, as it was stored before or as the source has it now."""
    row = stored_row(1, number)
    return Article(
        sku=row.sku,
        quantity=row.quantity + int(is_new_state),
        price=row.price,
        name=row.name,
        brand=BRANDS[number % len(BRANDS)],
        barcode=f"{4_000_000_000_000 + number}",
        slug=f"article-{number}",
    )


@dataclass(frozen=True, slots=True)
class Faults:
    """The articles of one size, of which `bad` are bad in turn in each of five ways."""

    directory: Path
    rows: int
    bad: int

    @property
    def bad_numbers(self) -> dict[int, int]:
        """Return the numbers of the bad articles, evenly spread over new and known ones, and the way of each."""
        if not self.bad:
            return {}
        step = self.rows // self.bad
        return {turn * step + turn % 2: turn % 5 for turn in range(self.bad)}

    @property
    def bad_skus(self) -> set[str]:
        """Return the keys that have to be rejected."""
        return {article(number, is_new_state=True).sku for number in self.bad_numbers}

    def before(self) -> Iterator[Article]:
        """Yield the articles that are stored before, by key."""
        for number in range(0, self.rows, 2):
            yield article(number, is_new_state=False)

    def after(self) -> Iterator[Article]:
        """Yield the articles that have to be stored afterwards, by key: a bad one leaves what was there."""
        bad = self.bad_numbers
        for number in range(self.rows):
            if number not in bad:
                yield article(number, is_new_state=True)
            elif number % 2 == 0:
                yield article(number, is_new_state=False)

    def pages(self) -> Path:
        """Return a file of JSON pages."""
        path = self.directory / f"{self.rows}-faults-{self.bad}.pages"
        if not path.exists():
            bad = self.bad_numbers
            with replacing(path) as part, part.open("w", encoding="utf-8") as file:
                for start in range(0, self.rows, PAGE):
                    numbers = range(start, min(start + PAGE, self.rows))
                    page = [self._record(number, bad.get(number)) for number in numbers]
                    file.write(json.dumps(page, separators=(",", ":")) + "\n")
        return path

    def _record(self, number: int, way: int | None) -> dict[str, Any]:
        record = article(number, is_new_state=True)._asdict() | {
            "price": f"{stored_row(1, number).price.normalize():f}"
        }
        if way is None:
            return record
        # An even number is known, and this one is not bad itself: it holds what the bad one claims.
        holder = article((number // 2 * 2 + 2) % self.rows, is_new_state=True)
        broken = (
            {"quantity": -1},
            {"name": None},
            {"brand": "no such brand"},
            {"barcode": holder.barcode},
            {"slug": holder.slug},
        )
        return record | broken[way]
