"""A page of ids is judged at once as each of them would be by itself."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from sync_defs.engine.external_id import are_plain_ids, is_plain_id


class Name(str):
    """Text all the same, but not of the exact type."""

    __slots__ = ()


@given(
    values=st.lists(st.text(st.sampled_from("aZ0- é\x7f\t"), max_size=4) | st.integers(0, 9) | st.none(), min_size=1)
)
@example(values=["a" * 255, "b"])
@example(values=["a" * 256, "b"])
@example(values=["a b", "c"])
@example(values=[" a", "c"])
@example(values=["a ", "c"])
@example(values=["", "c"])
@example(values=["a", "\x7f"])
@example(values=["a", Name("b")])
def test_a_page_is_plain_where_each_id_is(values: list[Any]) -> None:
    assert are_plain_ids(values) == all(map(is_plain_id, values))
