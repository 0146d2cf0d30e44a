"""A layer's blob as the tar archive that comes out of it: a stream that is never held whole.

Promise: memory stays at a few pieces, whatever the blob claims; what comes out is counted, hashed
(for the configuration's `diff_id`) and stopped where it is a bomb. Several gzip members, or
Zstandard frames, in a row are one stream, as runtimes take them.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator

from keepstone.errors import InputError
from keepstone.scan.archive.compressed import Decompressor, Zstandard, is_bomb
from keepstone.scan.images.blobs import STEP
from keepstone.scan.images.limits import Limits

PLAIN = "plain"
# RFC 1952 2.3.1; RFC 8878 3.1.1, and 3.1.2 for frames that are skipped.
_MARKS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    *((bytes([0x50 + one]) + b"\x2a\x4d\x18", "zstd") for one in range(16)),
)


class LayerStream:
    """The archive that comes out of a blob's pieces, read from its beginning to its end.

    What it reads from may raise; so does the stream. InputError `image.layer_broken` where the
    compression is broken, `image.bomb` where far too much comes out of it, and OperationalError
    `image.limit`.
    """

    def __init__(self, pieces: Iterator[bytes], limits: Limits) -> None:
        self._pieces, self._limits = self._counted(pieces), limits
        self._state = hashlib.sha256()
        self._waiting, self._from = memoryview(b""), 0
        self._packed = self.unpacked = self.at = 0
        first = next(self._pieces, b"")
        self.kind = next((kind for mark, kind in _MARKS if first.startswith(mark)), PLAIN)
        whole = _with_first(first, self._pieces)
        self._out = whole if self.kind == PLAIN else _inflated(whole, _MACHINES[self.kind])

    def piece(self, at: int, length: int) -> bytes:
        """`length` bytes from `at`, which lies ahead; fewer where the archive ends."""
        return b"".join(self.read(length)) if self.reaches(at) else b""

    def reaches(self, end: int) -> bool:
        """Go on to `end`; what comes before it is let go. True where the archive has so much."""
        for _ in self.read(end - self.at):
            pass
        return self.at >= end

    def read(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes, in pieces; fewer where the archive ends."""
        while count > 0:
            if self._from == len(self._waiting) and not self._more():
                return
            piece = self._waiting[self._from : self._from + count]
            self._from += len(piece)
            self.at += len(piece)
            count -= len(piece)
            yield piece

    def finish(self) -> str:
        """Read to the end of the blob, and return the digest of all that came out."""
        while self._more():
            pass
        for _ in self._pieces:
            pass
        return f"sha256:{self._state.hexdigest()}"

    def _more(self) -> bool:
        out = next(self._out, b"")
        self._waiting, self._from = memoryview(out), 0
        self._state.update(out)
        self.unpacked += len(out)
        self._limits.charge(len(out))
        if self.kind != PLAIN and is_bomb(self.unpacked, self._packed):
            raise InputError("image.bomb", "The layer unpacks to far more than it holds.")
        return bool(out)

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._packed += len(piece)
            yield piece


class _Gzip:
    """zlib's machine, which gives back what it did not get to; this one keeps it."""

    def __init__(self) -> None:
        self._machine = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._machine.eof

    @property
    def unused_data(self) -> bytes:
        return self._machine.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._machine.decompress(self._machine.unconsumed_tail + data, max_length)


_MACHINES: dict[str, Callable[[], Decompressor]] = {"gzip": _Gzip, "zstd": Zstandard}


def _inflated(pieces: Iterator[bytes], new: Callable[[], Decompressor]) -> Iterator[bytes]:
    """What comes out of compressed streams in a row. Zeros behind the last are padding."""
    machine, begun = new(), False
    try:
        for given in pieces:
            piece = given
            while piece:
                if not begun and not piece.strip(b"\x00"):
                    break
                begun = True
                while True:
                    out = machine.decompress(piece, STEP)
                    piece = b""
                    if out:
                        yield out
                    if machine.eof or len(out) < STEP:
                        break
                if machine.eof:
                    piece, machine, begun = machine.unused_data, new(), False
    except (zlib.error, EOFError, MemoryError, RuntimeError, ValueError) as error:
        raise InputError("image.layer_broken", "The layer's compression is broken.") from error
    if begun:
        raise InputError("image.layer_broken", "The layer's compressed stream breaks off.")


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest
