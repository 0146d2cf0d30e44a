from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.mac import Mac
from keepstone.errors import InputError


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_it_is_the_standard_librarys_hmac(key: bytes, message: bytes) -> None:
    expected = hmac.digest(key, message, "sha256")
    assert Mac(key).digest(message) == expected
    assert Mac(key).hexdigest(message) == expected.hex()


@pytest.mark.parametrize("size", [0, 31, 33, 64, 65])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InputError) as caught:
        Mac(bytes(size))
    assert caught.value.code == "mac.bad_key"
