from __future__ import annotations

import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.canonical import canonical
from keepstone.errors import InputError
from keepstone.gateway.commitment import Period, entry_key, open_entry

KEY = bytes(range(32))


def entry(key: bytes, sent: bytes, answer: bytes | None) -> bytes:
    def commit(domain: bytes, data: bytes) -> str:
        return hmac.digest(key, domain + b"\0" + data, "sha256").hex()

    out = None if answer is None else commit(b"output", answer)
    return canonical({"kind": "prediction", "t": 1, "in": commit(b"input", sent), "out": out})


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_only_the_very_bytes_match(sent, answer, other):
    key = entry_key(KEY, "00")
    opened = open_entry(entry(key, sent, answer), key, input=sent, output=answer)
    assert opened.input_matches is True
    assert opened.output_matches is True
    guessed = open_entry(entry(key, sent, answer), key, input=other, output=other)
    assert guessed.input_matches is (other == sent)
    assert guessed.output_matches is (other == answer)


def test_one_entrys_key_opens_no_other():
    mine, other = entry_key(KEY, "00"), entry_key(KEY, "01")
    assert mine != other
    assert open_entry(entry(other, b"a", b"b"), mine, input=b"a").input_matches is False


def test_input_and_output_cannot_stand_in_for_each_other():
    key = entry_key(KEY, "00")
    swapped = json.loads(entry(key, b"a", b"a"))
    assert swapped["in"] != swapped["out"]


def test_nothing_given_nothing_said():
    key = entry_key(KEY, "00")
    opened = open_entry(entry(key, b"a", None), key, output=b"b")
    assert opened.input_matches is None
    assert opened.output_matches is None


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"kind":"event"}', b"nope", b'{"a":1,"a":2}'])
def test_what_is_no_prediction_is_refused(body):
    with pytest.raises(InputError):
        open_entry(body, KEY)


@pytest.mark.parametrize("value", ["", "zz", "\u20ac" * 64, "é"])
def test_a_commitment_that_is_none_does_not_match(value):
    body = json.dumps({"kind": "prediction", "in": value}).encode()
    assert open_entry(body, KEY, input=b"a").input_matches is False


def test_a_periods_key_is_not_shown():
    assert "key" not in repr(Period("p", KEY, 5))
