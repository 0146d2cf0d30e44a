"""The bytes of an HDF5 file, read at addresses that an attacker chose.

Promise: no read leaves the file, and all reads together are bounded. What does not fit raises
Hdf5Error, which says where.

Source: HDF5 File Format Specification 3.0,
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html (cited as FMT).
"""

from __future__ import annotations

from dataclasses import dataclass, field


class Hdf5Error(ValueError):
    """The file breaks the format, leaves it, or is larger than the limits: which, and where."""

    def __init__(self, word: str, reason: str, offset: int | None = None) -> None:
        super().__init__(reason)
        self.rule, self.reason, self.offset = f"hdf5.{word}", reason, offset


@dataclass(slots=True)
class Source:
    """The file's bytes, how wide its addresses and lengths are, and what may still be read."""

    data: memoryview
    offsets: int = 8
    lengths: int = 8
    base: int = 0
    left: int = 64 << 20
    steps: int = 1_000_000
    seen: set[tuple[str, int]] = field(default_factory=set)
    collections: dict[int, dict[int, tuple[int, int]]] = field(default_factory=dict)

    @property
    def undefined(self) -> int:
        """The address that stands for none: all ones."""
        return (1 << 8 * self.offsets) - 1

    def bytes(self, at: int, size: int) -> bytes:
        """`size` bytes at the address `at`."""
        begin = self.base + at
        if size < 0 or at < 0 or begin + size > len(self.data):
            raise Hdf5Error("malformed", "An address or length leads out of the file.", at)
        self.left -= size
        self.steps -= 1
        if self.left < 0 or self.steps < 0:
            raise Hdf5Error("too_large", "The file holds more structure than the limit allows.")
        return bytes(self.data[begin : begin + size])

    def cursor(self, at: int, size: int) -> Cursor:
        """A cursor over `size` bytes at the address `at`."""
        return Cursor(self.bytes(at, size), self, at)

    def once(self, what: str, at: int) -> None:
        """Refuse to enter the same place twice: structures that hold themselves never end."""
        if (what, at) in self.seen:
            raise Hdf5Error("malformed", f"A {what} is part of itself.", at)
        self.seen.add((what, at))


@dataclass(slots=True)
class Cursor:
    """Reads numbers in a row, little-endian as all of HDF5's own are (FMT III)."""

    raw: bytes
    source: Source
    address: int = 0
    at: int = 0

    @property
    def left(self) -> int:
        return len(self.raw) - self.at

    def take(self, size: int) -> bytes:
        if size < 0 or size > self.left:
            raise Hdf5Error("malformed", "A structure breaks off.", self.address + self.at)
        self.at += size
        return self.raw[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def offset(self) -> int:
        return self.number(self.source.offsets)

    def length(self) -> int:
        return self.number(self.source.lengths)

    def expect(self, mark: bytes) -> None:
        if self.take(len(mark)) != mark:
            name = mark.decode("latin-1")
            raise Hdf5Error("malformed", f"There is no {name!r} where there must be.", self.address)

    def align(self, size: int = 8) -> None:
        """Step over the padding up to the next multiple of `size`, as far as there is any."""
        self.at = min(len(self.raw), -(-self.at // size) * size)
