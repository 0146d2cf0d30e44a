"""A strict reader of FlatBuffers that copies nothing: every offset is held to the file.

FlatBuffers' own readers trust offsets unless a verifier ran before; a table may overlap another,
so reads are bounded by a budget rather than by the size of the file.

Source: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass


class FlatError(ValueError):
    """An offset or length leads out of the file, or the budget ran out."""

    def __init__(self, word: str, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.word, self.reason, self.offset = word, reason, offset


_U16, _U32, _I32, _U64 = (struct.Struct(f"<{form}") for form in "HIiQ")
_FORMS = {1: struct.Struct("<B"), 2: _U16, 4: _U32, 8: _U64}


@dataclass(slots=True)
class Flat:
    """The file, how many reads are left, and how far into it any read has reached."""

    data: memoryview
    left: int = 4_000_000
    reach: int = 0

    def number(self, form: struct.Struct, at: int) -> int:
        self.left -= 1
        if self.left < 0:
            raise FlatError("too_large", "The file holds more than the limit allows.", at)
        if at < 0 or at + form.size > len(self.data):
            raise FlatError("malformed", "An offset leads out of the file.", at)
        return int(form.unpack_from(self.data, at)[0])

    def root(self) -> Table:
        return self.table(self.number(_U32, 0))

    def table(self, at: int) -> Table:
        """The table at `at`, whose first number leads back to the list of its fields."""
        fields = at - self.number(_I32, at)
        size = self.number(_U16, fields)
        if size < 4 or size % 2 or fields + size > len(self.data):
            raise FlatError("malformed", "A table has no list of its fields.", at)
        return Table(self, at, fields, size)


@dataclass(frozen=True, slots=True)
class Table:
    """One table. A field that is not there reads as its default: 0, or nothing."""

    flat: Flat
    at: int
    fields: int
    size: int

    def place(self, index: int) -> int:
        """Where the field lies; 0 where it is not there."""
        entry = 4 + 2 * index
        if entry >= self.size:
            return 0
        offset = self.flat.number(_U16, self.fields + entry)
        return self.at + offset if offset else 0

    def number(self, index: int, width: int, default: int = 0) -> int:
        place = self.place(index)
        return self.flat.number(_FORMS[width], place) if place else default

    def vector(self, index: int, width: int) -> tuple[int, int]:
        """Where a vector's elements of `width` bytes lie, and how many there are."""
        place = self.place(index)
        if not place:
            return 0, 0
        at = place + self.flat.number(_U32, place)
        count = self.flat.number(_U32, at)
        end = at + 4 + count * width
        if end > len(self.flat.data):
            raise FlatError("malformed", "A vector runs past the end of the file.", at)
        self.flat.reach = max(self.flat.reach, end)
        return at + 4, count

    def tables(self, index: int) -> Iterator[Table]:
        at, count = self.vector(index, 4)
        for place in range(at, at + 4 * count, 4):
            yield self.flat.table(place + self.flat.number(_U32, place))

    def numbers(self, index: int) -> list[int]:
        """A vector of 32-bit numbers, signed."""
        at, count = self.vector(index, 4)
        self.flat.left -= count
        if self.flat.left < 0:
            raise FlatError("too_large", "The file holds more than the limit allows.", at)
        return list(struct.unpack_from(f"<{count}i", self.flat.data, at)) if count else []

    def raw(self, index: int) -> memoryview:
        """A vector of bytes, or a text."""
        at, count = self.vector(index, 1)
        return self.flat.data[at : at + count]

    def text(self, index: int, limit: int = 1 << 16) -> str:
        return bytes(self.raw(index)[:limit]).decode("utf-8", "replace")
