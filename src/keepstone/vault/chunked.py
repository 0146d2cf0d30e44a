"""Chunked encryption as C2SP specifies it, instance Cobblestone-256 (SHA-512, AES-256-GCM).

Promise: what decrypts is exactly what was encrypted under this key and this context; a changed,
moved, missing or added byte is refused. Memory stays flat in the length of the message, and what
is read and encrypted here is written on a second thread meanwhile.

    salt (24) || commitment (32) || chunks of 16 KiB, the last one shorter, each with its tag

Source: https://c2sp.org/chunked-encryption
"""

from __future__ import annotations

import hmac
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from keepstone.core.ports import Randomness
from keepstone.errors import VerificationError
from keepstone.vault.overlap import Ring, Sink

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
    key: bytes,
    context: bytes,
    source: Readable,
    sink: Sink,
    randomness: Randomness,
    behind: Sink | None = None,
) -> int:
    """Encrypt `source` to its end into `sink`; return the number of plaintext bytes.

    `sink` is given views of a buffer that is used again: it must take the bytes before it
    returns. A message of more than one batch reaches it on a second thread, in order. `behind` is
    given the plaintext, in order and each byte that was encrypted, on a thread of its own.
    """
    salt = randomness.token_bytes(SALT_SIZE)
    aead, base, commitment = _derive(key, salt, context)
    sink(memoryview(salt + commitment))
    plain, batch = memoryview(bytearray(_BATCH * CHUNK)), _Batch(aead, base)
    count = _fill(source, plain)
    if count < len(plain):
        if behind is not None:
            behind(plain[:count])
        sink(batch.seal(plain, count, memoryview(bytearray(_BATCH * SEALED_CHUNK))))
        return count
    plains = _Alone(plain) if behind is None else Ring(behind, _BATCH * CHUNK)
    with Ring(sink, _BATCH * SEALED_CHUNK) as ring, plains:
        total, first, plain = 0, plain, plains.free()
        if plain is not first:
            plain[:] = first
        while True:
            room = ring.free()
            # Handed on before it is encrypted: both only read it.
            plains.hand(plain, plain[:count])
            ring.hand(room, batch.seal(plain, count, room))
            total += count
            # The final batch is the first short one, empty where the length is a multiple.
            if count < len(plain):
                return total
            plain = plains.free()
            count = _fill(source, plain)


class _Alone:
    """One buffer for a thread that shares it with none, where a Ring could stand."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer

    def __enter__(self) -> _Alone:
        return self

    def __exit__(self, *_: object) -> None: ...

    def free(self) -> memoryview:
        return self._buffer

    def hand(self, buffer: memoryview, view: memoryview) -> None: ...


class _Batch:
    """Seals one batch after another; the number of a chunk is its place in the message."""

    def __init__(self, aead: AESGCM, base: int) -> None:
        self._aead = aead
        self._base = base
        self._index = 0
        # The ring's buffers come again and again; cutting one anew costs as much as encrypting.
        self._cut: dict[int, list[memoryview]] = {}

    def seal(self, plain: memoryview, count: int, room: memoryview) -> memoryview:
        """Encrypt the first `count` bytes of `plain` into `room`; return what was written."""
        full, rest = divmod(count, CHUNK)
        pieces = self._pieces(plain, CHUNK)[:full]
        for piece, place in zip(pieces, self._pieces(room, SEALED_CHUNK), strict=False):
            self._aead.encrypt_into(self._next(), piece, None, place)
        end = full * SEALED_CHUNK
        if full < _BATCH:
            # The final chunk is the only short one, empty where the length is a multiple.
            last = room[end : end + rest + TAG]
            self._aead.encrypt_into(self._next(), plain[count - rest : count], None, last)
            end += rest + TAG
        return room[:end]

    def _pieces(self, room: memoryview, size: int) -> list[memoryview]:
        if id(room) not in self._cut:
            self._cut[id(room)] = [room[i * size : (i + 1) * size] for i in range(_BATCH)]
        return self._cut[id(room)]

    def _next(self) -> bytes:
        nonce = _nonce(self._base, self._index)
        self._index += 1
        return nonce


def decrypt(
    key: bytes, context: bytes, source: Readable, sink: Sink, behind: Sink | None = None
) -> int:
    """Decrypt `source` to its end into `sink`; return the number of plaintext bytes.

    Each view given to `sink` is authentic, but only a return says that nothing is missing:
    throw away what came before when this raises. `behind` is given the same views in the same
    order on a second thread.
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
    opening = _Opening(aead, base)
    sealed = _Buffer(SEALED_CHUNK)
    count = _fill(source, sealed.whole)
    if count < len(sealed.whole):
        found = opening.open(sealed, count, memoryview(bytearray(_BATCH * CHUNK)))
        sink(found)
        if behind is not None:
            behind(found)
        return len(found)
    total = 0
    with Ring(behind or _nothing, _BATCH * CHUNK) as ring:
        while True:
            room = ring.free()
            found = opening.open(sealed, count, room)
            ring.hand(room, found)
            sink(found)
            total += len(found)
            if count < len(sealed.whole):
                return total
            count = _fill(source, sealed.whole)


class _Opening:
    """Opens one batch after another, each chunk at its own place in the message only."""

    def __init__(self, aead: AESGCM, base: int) -> None:
        self._aead = aead
        self._base = base
        self._index = 0

    def open(self, sealed: _Buffer, count: int, room: memoryview) -> memoryview:
        """Decrypt the first `count` bytes of `sealed` into `room`; return what was written."""
        full, rest = divmod(count, SEALED_CHUNK)
        # (3) Each chunk authenticates its content and, by the nonce, its place.
        for number in range(full):
            self._chunk(sealed.chunks[number], room[number * CHUNK : (number + 1) * CHUNK])
        end = full * CHUNK
        if full < _BATCH:
            # (4) The final chunk is the only short one; without it the message was cut.
            if rest < TAG:
                raise _truncated()
            last = room[end : end + rest - TAG]
            self._chunk(sealed.whole[count - rest : count], last)
            end += rest - TAG
        return room[:end]

    def _chunk(self, piece: memoryview, place: memoryview) -> None:
        try:
            self._aead.decrypt_into(_nonce(self._base, self._index), piece, None, place)
        except InvalidTag as error:
            raise VerificationError(
                "seal.corrupt",
                f"Chunk {self._index} of the sealed data was changed.",
                "Restore the vault from a backup, or add the artifact again.",
            ) from error
        self._index += 1


def _nothing(data: memoryview) -> None:
    """Nobody listens on the second thread."""


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
