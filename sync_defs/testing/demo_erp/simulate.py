"""Random changes to the inventory, as a working day makes them; a seed makes them repeatable."""

import random
from dataclasses import dataclass

from sync_defs.testing.demo_erp.records import InvalidRecordError, Kind, Record
from sync_defs.testing.demo_erp.seed import INVENTORY_COUNT
from sync_defs.testing.demo_erp.state import ErpState, Writer

MAX_SIMULATED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """The SKUs that a simulation touched; no SKU is in two lists."""

    changed: list[str]
    """Items with a new price or quantity."""
    created: list[str]
    """Items with SKUs never used before."""
    deleted: list[str]
    """Items that are gone."""


def simulate(
    state: ErpState,
    *,
    changes: int = 10,
    creates: int = 0,
    deletes: int = 0,
    seed: int | None = None,
) -> Simulated:
    """Make random changes in one transaction; fewer where the inventory is smaller than asked for.

    Raises:
        InvalidRecordError: A number is negative or above 100,000.
    """
    if not all(0 <= number <= MAX_SIMULATED for number in (changes, creates, deletes)):
        message = f"changes, creates and deletes must be 0 to {MAX_SIMULATED}"
        raise InvalidRecordError(message)
    chance = random.Random(seed)  # noqa: S311 - test data, no secret
    with state.writing() as writer:
        skus = writer.ids(Kind.INVENTORY)
        picked = chance.sample(skus, min(changes + deletes, len(skus)))
        deleted, to_change = picked[:deletes], picked[deletes:]
        for sku in to_change:
            _change(writer, sku, chance)
        created = [_create(writer, chance) for _ in range(creates)]
        for sku in deleted:
            writer.delete(Kind.INVENTORY, sku)
    return Simulated(changed=to_change, created=created, deleted=deleted)


def _change(writer: Writer, sku: str, chance: random.Random) -> None:
    held = writer.get(Kind.INVENTORY, sku) or {}
    fields: Record = {}
    if chance.random() < 0.7:
        fields["quantity"] = _other(held.get("quantity"), [chance.randrange(250), chance.randrange(250, 500)])
    else:
        fields["price"] = _other(held.get("price"), [_price(chance), f"{chance.randrange(500, 900)}.00"])
    writer.change(Kind.INVENTORY, sku, fields)


def _create(writer: Writer, chance: random.Random) -> str:
    sku = f"SKU-{writer.next_number('inventory', first=INVENTORY_COUNT + 1):04d}"
    while writer.get(Kind.INVENTORY, sku) is not None:
        sku = f"SKU-{writer.next_number('inventory', first=INVENTORY_COUNT + 1):04d}"
    fields = {"name": f"New {sku}", "quantity": chance.randrange(250), "price": _price(chance)}
    writer.put(Kind.INVENTORY, sku, fields)
    return sku


def _other(held: object, candidates: list[object]) -> object:
    return next(candidate for candidate in candidates if candidate != held)


def _price(chance: random.Random) -> str:
    cents = chance.randrange(100, 49900)
    return f"{cents // 100}.{cents % 100:02d}"
