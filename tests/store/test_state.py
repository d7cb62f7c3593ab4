"""The packed state finds keys by their first bits, and gives back what was packed."""

import numpy as np
import pytest

from sync_defs.store.state import State, fingerprints, joined, unknown


@pytest.mark.parametrize("spread", [2**64 - 1, 2**40, 7], ids=["hashes", "one bucket", "repeated"])
@pytest.mark.parametrize("count", [1, 2, 3, 100, 4_096, 20_000])
def test_keys_are_found_where_a_search_finds_them(count, spread):
    random = np.random.default_rng(count)
    keys = np.sort(random.integers(0, spread, count, np.uint64, endpoint=True))
    asked = random.integers(0, 2**64 - 1, 200, np.uint64, endpoint=True)
    asked = np.concatenate([keys, asked, np.array([0, 1, 2**64 - 1], np.uint64)])
    places, is_there = State(unknown(keys)).find(asked)
    assert places.tolist() == np.minimum(np.searchsorted(keys, asked), count - 1).tolist()
    assert is_there.tolist() == np.isin(asked, keys).tolist()


def test_nothing_is_found_in_an_empty_state():
    _, is_there = State.empty().find(np.array([0, 7], np.uint64))
    assert is_there.tolist() == [False, False]


def test_entries_give_back_the_fingerprints_that_were_packed():
    given = [(7, bytes(range(16))), (2**64 - 1, b"\xff" * 16), (1, bytes(16))]
    packed = [key.to_bytes(8) + content for key, content in given]
    assert fingerprints(joined(packed)) == [packed[0], packed[1], None]
    assert fingerprints(joined([])) == []
