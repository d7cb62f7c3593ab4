"""Strict JSON: one meaning of a document, exact numbers, bounded work."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_defs.errors import MessageError
from sync_defs.inbox.strict_json import decode, encode

texts = st.text(st.characters(codec="utf-8"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**40) + 1, 10**40 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
documents = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30)


@given(documents, st.booleans())
def test_agrees_with_the_standard_library_on_valid_documents(document, escaped):
    text = json.dumps(document, ensure_ascii=escaped)
    assert decode(text.encode()) == json.loads(text, parse_float=Decimal)


@given(documents)
def test_encode_gives_back_what_decode_read(document):
    value = decode(json.dumps(document).encode())
    assert decode(encode(value).encode()) == value


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\u0d8e1-.Nan ', max_size=200).map(str.encode))
def test_anything_else_is_a_message_error(body):
    codes = {"not_utf8", "not_json", "too_deep", "duplicate_key", "non_finite_number", "number_too_long"}
    outcome = None
    try:
        decode(body)
    except MessageError as error:
        outcome = error.code
    assert outcome in codes | {None, "lone_surrogate"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_json"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b'{"a": "\xe9"}', "not_utf8"),
        ('{"a": 1}'.encode("utf-16"), "not_utf8"),
        (b'{"a": 1, "\\u0061": 2}', "duplicate_key"),
        (b"-Infinity", "non_finite_number"),
        (b"1e400", "non_finite_number"),
        (b"1e-99999999999999999999", "number_too_long"),
        (b"0e99999", "number_too_long"),
        (b"0." + b"1" * 500, "number_too_long"),
        (b"-" + b"9" * 41, "number_too_long"),
        (b"9" * 5_000, "number_too_long"),
        (b'["\\udc00"]', "lone_surrogate"),
        (b'{"\\ud83d": 1}', "lone_surrogate"),
        (b"[" * 65 + b"]" * 65, "too_deep"),
        (b"[" * 1_000_000, "too_deep"),
        (b'"' + b'\\"' * 500_000 + b"[" * 65, "not_json"),
    ],
)
def test_refuses(body, code):
    with pytest.raises(MessageError) as caught:
        decode(body)
    assert caught.value.code == code


def test_takes_what_is_just_within_the_limits():
    assert decode(b"9" * 40) == 10**40 - 1
    assert decode(b"[" * 64 + b"]" * 64) == json.loads("[" * 64 + "]" * 64)
    assert decode(b'["' + b"[" * 100 + b'"]') == ["[" * 100]
    assert decode(b'"\\ud83d\\ude00"') == "\U0001f600"


def test_money_is_exact():
    assert decode(b'{"price": 19.90}') == {"price": Decimal("19.90")}
    assert encode({"price": Decimal("19.90")}) == '{"price":19.90}'


def test_encode_refuses_what_is_not_json():
    for value in ({1: 2}, object(), (1,), [b"x"]):
        with pytest.raises(TypeError):
            encode(value)
