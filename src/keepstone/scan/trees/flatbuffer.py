"""FlatBuffers, read by a layout: every offset is followed once and must stay inside.

A reader in C++ trusts the offsets of a buffer it has not verified. Here a table is read by the
list of its fields; a field that the list does not have is handed back as unknown.
Source: https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_TABLES = 2_000_000


class FlatbufferError(Exception):
    """An offset leads outside, or the tables are more than the limit."""


@dataclass(frozen=True, slots=True)
class Table:
    """Fields in their order: a letter of `struct`, "text", or a `Table` or `Many`."""

    name: str
    fields: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Many:
    """A vector of numbers (a `struct` form), of texts, or of tables."""

    of: Any


@dataclass(slots=True)
class Buffer:
    """`data` from its start; `unknown` are fields that a layout does not have."""

    data: memoryview
    unknown: set[str] = field(default_factory=set)
    tables: int = 0

    def number(self, form: str, at: int) -> Any:
        size = struct.calcsize(f"<{form}")
        if not 0 <= at <= len(self.data) - size:
            raise FlatbufferError(f"byte {at} lies outside")
        return struct.unpack_from(f"<{form}", self.data, at)[0]

    def root(self, layout: Table) -> list[Any]:
        return self.table(layout, self.number("I", 0))

    def table(self, layout: Table, at: int) -> list[Any]:
        """The table's fields as values; None for what is not there. Vectors are `(at, count)`."""
        self.tables += 1
        if self.tables > MAX_TABLES:
            raise FlatbufferError("it has more tables than the limit")
        vtable = at - self.number("i", at)
        length, inline = self.number("H", vtable), self.number("H", vtable + 2)
        if (
            length < 4
            or length % 2
            or vtable + length > len(self.data)
            or at + inline > len(self.data)
        ):
            raise FlatbufferError(f"the table at byte {at} lies outside")
        found: list[Any] = []
        for slot in range((length - 4) // 2):
            offset = self.number("H", vtable + 4 + 2 * slot)
            if slot >= len(layout.fields):
                if offset:
                    self.unknown.add(f"{layout.name}.{slot}")
            elif not offset:
                found.append(None)
            elif offset < 4 or offset >= inline:
                raise FlatbufferError(f"a field of the table at byte {at} lies outside")
            else:
                found.append(self.value(layout.fields[slot], at + offset))
        return found + [None] * (len(layout.fields) - len(found))

    def value(self, kind: Any, at: int) -> Any:
        if kind == "text":
            return self.text(at)
        if isinstance(kind, Table):
            return self.table(kind, at + self.number("I", at))
        if isinstance(kind, Many):
            return self.many(kind.of, at)
        return self.number(kind, at)

    def text(self, at: int) -> bytes:
        start, length = self.vector(at, 1)
        return bytes(self.data[start : start + length])

    def vector(self, at: int, size: int) -> tuple[int, int]:
        """Where the vector's content lies and how many elements it has."""
        start = at + self.number("I", at)
        length = self.number("I", start)
        if start + 4 + length * size > len(self.data):
            raise FlatbufferError(f"the vector at byte {start} is longer than the file")
        return start + 4, length

    def many(self, of: Any, at: int) -> Any:
        if isinstance(of, str) and of != "text":
            start, length = self.vector(at, struct.calcsize(f"<{of}"))
            return Numbers(self.data, of, start, length)
        start, length = self.vector(at, 4)
        places = range(start, start + 4 * length, 4)
        return [self.value(of, place) for place in places]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A vector of numbers that is unpacked when it is asked for."""

    data: memoryview
    form: str
    start: int
    length: int

    def values(self) -> Sequence[Any]:
        width = struct.calcsize(f"<{self.form}")
        piece = self.data[self.start : self.start + self.length * width]
        if len(self.form) == 1:
            return struct.unpack(f"<{self.length}{self.form}", piece)
        return list(struct.iter_unpack(f"<{self.form}", piece))
