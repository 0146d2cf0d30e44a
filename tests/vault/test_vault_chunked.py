"""C2SP chunked encryption: the construction, and that nothing changed gets through."""

from __future__ import annotations

import hashlib
import hmac
import io
import tracemalloc

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.errors import VerificationError
from keepstone.vault import chunked
from keepstone.vault.chunked import (
    CHUNK,
    HEADER_SIZE,
    SEALED_CHUNK,
    decrypt,
    encrypt,
    plain_size,
    sealed_size,
)

KEY = bytes(range(32))


class Fixed:
    """A salt that a test can know."""

    def token_bytes(self, count: int) -> bytes:
        return bytes(range(100, 100 + count))


class Dribble(io.BytesIO):
    """A source that never fills the buffer: a short read must not end the message."""

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return super().readinto(buffer[:1000])


def sealed(data: bytes, context: bytes = b"context", key: bytes = KEY) -> bytes:
    sink = io.BytesIO()
    assert encrypt(key, context, io.BytesIO(data), lambda d: void(sink.write(d)), Fixed()) == len(
        data
    )
    return sink.getvalue()


def opened(data: bytes, context: bytes = b"context", key: bytes = KEY) -> bytes:
    sink = io.BytesIO()
    decrypt(key, context, io.BytesIO(data), lambda d: void(sink.write(d)))
    return sink.getvalue()


def void(_: object) -> None:
    return None


def refusal(data: bytes, context: bytes = b"context", key: bytes = KEY) -> str:
    with pytest.raises(VerificationError) as caught:
        opened(data, context, key)
    return caught.value.code


def reference(data: bytes, context: bytes) -> bytes:
    """The specification once more, written for reading: HKDF-Expand by hand, whole in memory."""
    salt = bytes(range(100, 124))
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + salt + context
    first = hmac.new(KEY, info + b"\x01", hashlib.sha512).digest()
    stream = first + hmac.new(KEY, first + info + b"\x02", hashlib.sha512).digest()
    key, base, commitment = stream[:32], stream[32:44], stream[44:76]
    out = salt + commitment
    for index, start in enumerate(range(0, len(data) + 1, 16384)):
        nonce = bytes(a ^ b for a, b in zip(base, index.to_bytes(12, "big"), strict=True))
        out += AESGCM(key).encrypt(nonce, data[start : start + 16384], b"")
    return out


SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 64 * CHUNK - 1, 64 * CHUNK, 64 * CHUNK + 1, 130 * CHUNK]


@pytest.mark.parametrize("size", SIZES)
def test_every_boundary_follows_the_specification(size: int) -> None:
    data = hashlib.shake_256(b"data").digest(size)
    cipher = sealed(data)
    assert cipher == reference(data, b"context")
    assert opened(cipher) == data
    assert (len(cipher), plain_size(len(cipher))) == (sealed_size(size), size)


@given(st.binary(max_size=3 * CHUNK), st.binary(max_size=64))
def test_what_is_sealed_opens(data: bytes, context: bytes) -> None:
    sink = io.BytesIO()
    encrypt(KEY, context, Dribble(data), lambda d: void(sink.write(d)), Fixed())
    assert sink.getvalue() == sealed(data, context)
    back = io.BytesIO()
    decrypt(KEY, context, Dribble(sink.getvalue()), lambda d: void(back.write(d)))
    assert back.getvalue() == data


def test_salts_do_not_repeat() -> None:
    from keepstone.core.ports import SystemRandomness

    sinks = [io.BytesIO(), io.BytesIO()]
    for sink in sinks:
        encrypt(KEY, b"", io.BytesIO(b"x"), lambda d, s=sink: void(s.write(d)), SystemRandomness())
    assert sinks[0].getvalue() != sinks[1].getvalue()


def test_every_truncation_of_a_small_message_is_refused() -> None:
    cipher = sealed(b"twenty bytes of data")
    for length in range(len(cipher)):
        assert refusal(cipher[:length]) in ("seal.truncated", "seal.corrupt")


@pytest.mark.parametrize("size", [CHUNK + 5, 64 * CHUNK + 5, 64 * CHUNK])
def test_truncation_around_every_boundary_is_refused(size: int) -> None:
    cipher = sealed(bytes(size))
    ends = range(HEADER_SIZE, len(cipher), SEALED_CHUNK)
    for length in {end + d for end in ends for d in (-17, -16, -1, 0, 1, 15, 16, 17)}:
        if 0 <= length < len(cipher):
            assert refusal(cipher[:length]) in ("seal.truncated", "seal.corrupt")


def test_every_bit_of_a_small_message_counts() -> None:
    cipher = bytearray(sealed(b"data"))
    for position in range(len(cipher) * 8):
        cipher[position // 8] ^= 1 << position % 8
        assert refusal(bytes(cipher)) in ("seal.wrong_key", "seal.corrupt")
        cipher[position // 8] ^= 1 << position % 8
    assert opened(bytes(cipher)) == b"data"


@settings(max_examples=200)
@given(st.data())
def test_bit_flips_in_a_large_message_are_refused(data: st.DataObject) -> None:
    cipher = bytearray(_LARGE)
    position = data.draw(st.integers(0, len(cipher) * 8 - 1))
    cipher[position // 8] ^= 1 << position % 8
    assert refusal(bytes(cipher)) in ("seal.wrong_key", "seal.corrupt")


_LARGE = sealed(bytes(3 * CHUNK + 100))


def test_chunks_cannot_move() -> None:
    head, body = _LARGE[:HEADER_SIZE], _LARGE[HEADER_SIZE:]
    first, second, rest = (
        body[:SEALED_CHUNK],
        body[SEALED_CHUNK : 2 * SEALED_CHUNK],
        body[2 * SEALED_CHUNK :],
    )
    assert refusal(head + second + first + rest) == "seal.corrupt"
    assert refusal(head + first + first + rest) == "seal.corrupt"
    assert refusal(head + first + rest) == "seal.corrupt"
    other = sealed(b"\x01" * (3 * CHUNK + 100), context=b"other")
    assert refusal(head + other[HEADER_SIZE:]) == "seal.corrupt"


def test_added_bytes_are_refused() -> None:
    assert refusal(_LARGE + b"\x00") == "seal.corrupt"
    assert refusal(_LARGE + bytes(SEALED_CHUNK)) == "seal.corrupt"
    exact = sealed(bytes(CHUNK))
    assert refusal(exact + exact[-16:]) in ("seal.corrupt", "seal.truncated")


def test_key_and_context_are_committed() -> None:
    assert refusal(_LARGE, context=b"another") == "seal.wrong_key"
    assert refusal(_LARGE, key=bytes(32)) == "seal.wrong_key"


@pytest.mark.parametrize("size", [0, 55, HEADER_SIZE, HEADER_SIZE + 15, HEADER_SIZE + SEALED_CHUNK])
def test_lengths_that_no_message_has(size: int) -> None:
    with pytest.raises(VerificationError) as caught:
        plain_size(size)
    assert caught.value.code == "seal.truncated"


def test_the_counter_cannot_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "MAX_CHUNKS", 2)
    with pytest.raises(VerificationError) as caught:
        sealed(bytes(2 * CHUNK))
    assert caught.value.code == "seal.too_large"


def test_memory_is_flat() -> None:
    class Zeros(io.RawIOBase):
        left = 64 << 20

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            count = min(len(buffer), self.left)
            self.left -= count
            return count

    tracemalloc.start()
    try:
        encrypt(KEY, b"", Zeros(), void, Fixed())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Four buffers travel between the two threads.
    assert peak < 8 << 20
