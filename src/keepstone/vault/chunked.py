"""Chunked encryption as C2SP specifies it, instance Cobblestone-256 (SHA-512, AES-256-GCM).

Promise: what decrypts is exactly what was encrypted under this key and this context; a changed,
moved, missing or added byte is refused. Memory stays flat in the length of the message.

    salt (24) || commitment (32) || chunks of 16 KiB, the last one shorter, each with its tag

Source: https://c2sp.org/chunked-encryption
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from keepstone.core.ports import Randomness
from keepstone.errors import VerificationError

KEY_SIZE = 32
CHUNK = 16 << 10
TAG = 16
SEALED_CHUNK = CHUNK + TAG
SALT_SIZE, COMMITMENT_SIZE, NONCE_SIZE = 24, 32, 12
HEADER_SIZE = SALT_SIZE + COMMITMENT_SIZE
MAX_CHUNKS = 1 << 38

_LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"
# Chunks that one read, one write and one progress call handle together: 1 MiB.
_BATCH = 64


class Readable(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill `buffer` from the front and return how many bytes came; 0 at the end."""
        ...


Sink = Callable[[memoryview], None]


def sealed_size(plain: int) -> int:
    """How long the ciphertext of `plain` bytes is."""
    return HEADER_SIZE + plain + TAG * (plain // CHUNK + 1)


def plain_size(sealed: int) -> int:
    """How long the plaintext of `sealed` bytes is. Raises `seal.truncated` where none is."""
    full, last = divmod(sealed - HEADER_SIZE, SEALED_CHUNK)
    if full < 0 or last < TAG:
        raise _truncated()
    return full * CHUNK + last - TAG


def encrypt(
    key: bytes, context: bytes, source: Readable, sink: Sink, randomness: Randomness
) -> int:
    """Encrypt `source` to its end into `sink`; return the number of plaintext bytes.

    `sink` is given views of a buffer that is used again: it must take the bytes before it
    returns.
    """
    salt = randomness.token_bytes(SALT_SIZE)
    aead, base, commitment = _derive(key, salt, context)
    sink(memoryview(salt + commitment))
    plain, sealed = _Buffer(CHUNK), _Buffer(SEALED_CHUNK)
    index = total = 0
    while True:
        count = _fill(source, plain.whole)
        full, rest = divmod(count, CHUNK)
        for piece, place in zip(plain.chunks[:full], sealed.chunks, strict=False):
            aead.encrypt_into(_nonce(base, index), piece, None, place)
            index += 1
        total += count
        end = full * SEALED_CHUNK
        final = full < _BATCH
        if final:
            # The final chunk is the first short one, empty where the length is a multiple.
            last = sealed.whole[end : end + rest + TAG]
            aead.encrypt_into(_nonce(base, index), plain.whole[count - rest : count], None, last)
            end += rest + TAG
        sink(sealed.whole[:end])
        if final:
            return total


def decrypt(key: bytes, context: bytes, source: Readable, sink: Sink) -> int:
    """Decrypt `source` to its end into `sink`; return the number of plaintext bytes.

    Each view given to `sink` is authentic, but only a return says that nothing is missing:
    throw away what came before when this raises.
    Raises VerificationError `seal.wrong_key`, `seal.corrupt`, `seal.truncated`.
    """
    header = memoryview(bytearray(HEADER_SIZE))
    # (1) C2SP chunked-encryption, key derivation: salt and commitment come first.
    if _fill(source, header) < HEADER_SIZE:
        raise _truncated()
    aead, base, commitment = _derive(key, bytes(header[:SALT_SIZE]), context)
    # (2) The commitment is checked before any chunk is decrypted.
    if not hmac.compare_digest(commitment, header[SALT_SIZE:]):
        raise VerificationError(
            "seal.wrong_key",
            "The data was not sealed under this key for this artifact and name.",
            "Restore the vault from a backup, or add the artifact again.",
        )
    plain, sealed = _Buffer(CHUNK), _Buffer(SEALED_CHUNK)
    index = total = 0
    while True:
        count = _fill(source, sealed.whole)
        full, rest = divmod(count, SEALED_CHUNK)
        end = full * CHUNK
        final = full < _BATCH
        # (3) Each chunk authenticates its content and, by the nonce, its place.
        try:
            for piece, place in zip(sealed.chunks[:full], plain.chunks, strict=False):
                aead.decrypt_into(_nonce(base, index), piece, None, place)
                index += 1
            if final:
                # (4) The final chunk is the only short one; without it the message was cut.
                if rest < TAG:
                    raise _truncated()
                last = plain.whole[end : end + rest - TAG]
                aead.decrypt_into(
                    _nonce(base, index), sealed.whole[count - rest : count], None, last
                )
                end += rest - TAG
        except InvalidTag as error:
            raise VerificationError(
                "seal.corrupt",
                f"Chunk {index} of the sealed data was changed.",
                "Restore the vault from a backup, or add the artifact again.",
            ) from error
        total += end
        sink(plain.whole[:end])
        if final:
            return total


class _Buffer:
    """Room for one batch of chunks, cut once: cutting it again for each costs a third."""

    def __init__(self, chunk: int) -> None:
        self.whole = memoryview(bytearray(_BATCH * chunk))
        self.chunks = [self.whole[i * chunk : (i + 1) * chunk] for i in range(_BATCH)]


def _derive(key: bytes, salt: bytes, context: bytes) -> tuple[AESGCM, int, bytes]:
    """The AEAD under the message's own key, the base nonce as a number, and the commitment."""
    expanded = HKDFExpand(
        hashes.SHA512(), KEY_SIZE + NONCE_SIZE + COMMITMENT_SIZE, _LABEL + salt + context
    ).derive(key)
    base = int.from_bytes(expanded[KEY_SIZE : KEY_SIZE + NONCE_SIZE], "big")
    return AESGCM(expanded[:KEY_SIZE]), base, expanded[KEY_SIZE + NONCE_SIZE :]


def _nonce(base: int, index: int) -> bytes:
    if index >= MAX_CHUNKS:
        raise VerificationError("seal.too_large", "The message has more than 2**38 chunks.")
    return (base ^ index).to_bytes(NONCE_SIZE, "big")


def _fill(source: Readable, buffer: memoryview) -> int:
    """Read until `buffer` is full or the source ends: a short read is not the end."""
    filled = 0
    while filled < len(buffer):
        count = source.readinto(buffer[filled:])
        if not count:
            break
        filled += count
    return filled


def _truncated() -> VerificationError:
    return VerificationError(
        "seal.truncated",
        "The sealed data ends too early.",
        "Restore the vault from a backup, or add the artifact again.",
    )
