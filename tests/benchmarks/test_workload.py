"""The rows of the benchmarks are what their README says."""

import json
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from benchmarks.faults import Faults
from benchmarks.workload import COLUMNS, State, Workload, percent_changes, read_pages


def records(workload, state=State.BASE):
    return [record for page in read_pages(workload.pages(state)) for record in page]


def test_a_row_is_244_bytes_of_json(tmp_path):
    workload = Workload(tmp_path, 5_000)
    assert abs(workload.pages().stat().st_size / workload.rows - 244) <= 5


def test_the_rows_follow_from_the_seed(tmp_path):
    one, same, other = (Workload(tmp_path / name, 3_000, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert one.pages(State.PERCENT).read_bytes() == same.pages(State.PERCENT).read_bytes()
    assert one.pages().read_bytes() != other.pages().read_bytes()


def test_pages_hold_2000_rows_in_random_order(tmp_path):
    pages = list(read_pages(Workload(tmp_path, 5_000).pages()))
    assert [len(page) for page in pages] == [2_000, 2_000, 1_000]
    skus = [record["sku"] for page in pages for record in page]
    assert len(set(skus)) == 5_000
    assert sum(a < b for a, b in pairwise(skus)) in range(2_300, 2_700)


def test_the_wire_form_is_unlike_the_stored_one(tmp_path):
    workload = Workload(tmp_path, 1_000)
    stored = {row.sku: row for row in workload.stored(State.BASE)}
    for record in records(workload):
        row = stored[record["sku"]]
        assert list(record) == list(COLUMNS)
        assert Decimal(record["price"]) == row.price
        instant = datetime.fromisoformat(record["updated_at"])
        assert (instant, instant.utcoffset()) == (row.updated_at, timedelta(hours=2))
        assert json.loads(record["attributes"])["size"] in {"S", "M", "L", "XL"}
    assert any(record["price"] != str(stored[record["sku"]].price) for record in records(workload))


def test_one_percent_is_8_changed_1_new_1_gone_in_each_1000(tmp_path):
    workload = Workload(tmp_path, 5_000)
    before, after = ({record["sku"]: record for record in records(workload, state)} for state in list(State)[:2])
    changed = Counter(int(sku[4:]) // 1_000 for sku in before.keys() & after.keys() if before[sku] != after[sku])
    gone = Counter(int(sku[4:]) // 1_000 for sku in before.keys() - after.keys())
    assert changed == dict.fromkeys(range(5), 8)
    assert gone == dict.fromkeys(range(5), 1)
    assert sorted(after.keys() - before.keys()) == [f"SKU-{number:08d}" for number in range(5_000, 5_005)]


def test_a_few_rows_have_one_of_each_change():
    changes = percent_changes(1, 200)
    assert (len(changes.changed), len(changes.new), len(changes.gone)) == (2, 1, 1)


def test_every_row_changes_in_the_state_changed(tmp_path):
    workload = Workload(tmp_path, 1_000)
    before, after = ({r["sku"]: r for r in records(workload, state)} for state in (State.BASE, State.CHANGED))
    assert before.keys() == after.keys()
    assert all(after[sku] == before[sku] | {"quantity": before[sku]["quantity"] + 1} for sku in before)


def test_bad_articles_are_bad_in_each_way_among_new_and_known_ones(tmp_path):
    faults = Faults(tmp_path, 10_000, 100)
    ways = Counter((number % 2, way) for number, way in faults.bad_numbers.items())
    assert ways == {(parity, way): 10 for parity in (0, 1) for way in range(5)}
    known, good = {row.sku for row in faults.before()}, {row.sku: row for row in faults.after()}
    assert len(known) == 5_000
    assert len(faults.bad_skus) == 100
    assert good.keys() == {f"SKU-{number:08d}" for number in range(10_000)} - (faults.bad_skus - known)


def test_what_a_bad_article_claims_belongs_to_a_good_one(tmp_path):
    faults = Faults(tmp_path, 1_000, 10)
    articles = {record["sku"]: record for page in read_pages(faults.pages()) for record in page}
    good = {
        name: {r[name] for sku, r in articles.items() if sku not in faults.bad_skus} for name in ("barcode", "slug")
    }
    broken = Counter()
    for sku in faults.bad_skus:
        record = articles[sku]
        broken["quantity"] += record["quantity"] == -1
        broken["name"] += record["name"] is None
        broken["brand"] += record["brand"] == "no such brand"
        broken["barcode"] += record["barcode"] in good["barcode"]
        broken["slug"] += record["slug"] in good["slug"]
    assert broken == dict.fromkeys(("quantity", "name", "brand", "barcode", "slug"), 2)
