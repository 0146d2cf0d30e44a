"""Canonical JSON: one value, one byte string; and JSON is read without a second meaning."""

from __future__ import annotations

import json
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.canonical import MAX_SAFE_INTEGER, canonical, parse_json
from keepstone.errors import InputError, KeepstoneError

INTEGERS = st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_reads_back_and_is_written_the_same(value: Any) -> None:
    written = canonical(value)
    assert parse_json(written) == value
    assert canonical(parse_json(written)) == written


@given(VALUES)
def test_it_agrees_with_a_public_rfc_8785_writer(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(st.dictionaries(TEXT, INTEGERS, max_size=6), st.randoms())
def test_the_order_of_members_does_not_count(value: dict[str, int], random: Any) -> None:
    pairs = list(value.items())
    random.shuffle(pairs)
    assert canonical(dict(pairs)) == canonical(value)


def test_members_are_ordered_by_utf_16_units() -> None:
    # RFC 8785 3.2.3: U+1F600 begins with the unit D83D, so it stands before U+FB33.
    value = {"\ufb33": 1, "\U0001f600": 2, "": 3}
    assert canonical(value) == '{"":3,"\U0001f600":2,"\ufb33":1}'.encode()


def test_plain_types_stand_for_their_look_alikes() -> None:
    class Colour(StrEnum):
        RED = "red"

    class Number(IntEnum):
        TWO = 2

    value = MappingProxyType({Colour.RED: (Number.TWO, True, None)})
    assert canonical(value) == b'{"red":[2,true,null]}'


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (1.5, "canonical.bad_type"),
        ({"a": float("nan")}, "canonical.bad_type"),
        (b"bytes", "canonical.bad_type"),
        ({1, 2}, "canonical.bad_type"),
        (object(), "canonical.bad_type"),
        ({1: "a"}, "canonical.bad_key"),
        ({"\ud800": 1}, "canonical.bad_string"),
        (["\udfff"], "canonical.bad_string"),
        (MAX_SAFE_INTEGER + 1, "canonical.bad_number"),
        (-MAX_SAFE_INTEGER - 1, "canonical.bad_number"),
        # Too long even to be printed in the message.
        pytest.param(10**5000, "canonical.bad_number", id="huge"),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: Any, code: str) -> None:
    with pytest.raises(InputError) as caught:
        canonical(value)
    assert caught.value.code == code


def test_nesting_is_bounded() -> None:
    value: list[Any] = []
    for _ in range(64):
        value = [value]
    assert canonical(value)
    with pytest.raises(InputError, match=r"canonical\.too_deep"):
        canonical([value])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"a": 1, "a": 2}', "json.duplicate_key"),
        ('[{"a": {"b": 1, "b": 1}}]', "json.duplicate_key"),
        # The same name, written in two ways.
        ('{"a": 1, "\\u0061": 2}', "json.duplicate_key"),
        ("NaN", "json.bad_number"),
        ("[-Infinity]", "json.bad_number"),
        ("1e400", "json.bad_number"),
        ('{"a": -1e999}', "json.bad_number"),
        ("", "json.malformed"),
        ("{} {}", "json.malformed"),
        ("{'a': 1}", "json.malformed"),
        ('{"a": 1,}', "json.malformed"),
        ("\ufeff{}", "json.malformed"),
        ('"\\ud800"', "json.malformed"),
        ('{"\\uDFFF": 1}', "json.malformed"),
        pytest.param("1" * 5000, "json.malformed", id="long"),
        pytest.param("[" * 100_000, "json.malformed", id="deep"),
        ('"' + "x" * 1100 + '"', "json.too_large"),
    ],
)
def test_json_with_a_second_meaning_is_refused(text: str, code: str) -> None:
    limit = 1000 if code == "json.too_large" else 1 << 20
    for data in (text, text.encode()):
        with pytest.raises(InputError) as caught:
            parse_json(data, limit=limit)
        assert caught.value.code == code


def test_bytes_that_are_not_utf_8_and_texts_that_cannot_be_are_refused() -> None:
    for data in (b'"\xff"', '"\ud800"', "{}".encode("utf-16")):
        with pytest.raises(InputError, match=r"json\.malformed"):
            parse_json(data)


def test_the_limit_counts_bytes() -> None:
    assert parse_json('"é"', limit=4) == "é"
    with pytest.raises(InputError, match=r"json\.too_large"):
        parse_json('"é"', limit=3)


def test_whole_surrogate_pairs_and_finite_floats_are_read() -> None:
    assert parse_json('["\\ud83d\\ude00", 1.5e3]') == ["\U0001f600", 1500.0]


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_arbitrary_input_parses_or_ends_in_a_coded_error(data: bytes | str) -> None:
    try:
        value = parse_json(data)
    except KeepstoneError:
        return
    text = data if isinstance(data, str) else data.decode()
    assert value == json.loads(text)
