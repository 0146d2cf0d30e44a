"""Universal Binary JSON (draft 12), as XGBoost writes it, read under limits.

Promise: the value is built from no more bytes than there are. A count that promises more than
the rest of the file can hold is refused before anything is allocated; typed arrays are unpacked
in one step from the bytes that are there.
"""

from __future__ import annotations

import struct
from typing import Any

MAX_DEPTH = 100
# Values without bytes of their own, such as nulls in a typed array, are counted too.
MAX_VALUES = 20_000_000

_NUMBERS = {
    b"i": ">b",
    b"U": ">B",
    b"I": ">h",
    b"l": ">i",
    b"L": ">q",
    b"d": ">f",
    b"D": ">d",
}
_PLAIN = {b"Z": None, b"T": True, b"F": False, b"N": None}


class UbjsonError(Exception):
    """The bytes are not UBJSON; the message says where they break."""


class UbjsonLimitError(UbjsonError):
    """The value is larger or deeper than the limit."""


def read_ubjson(data: memoryview) -> tuple[Any, list[str]]:
    """The value that all of `data` is, and the keys that one object has twice.

    Raises UbjsonError.
    """
    reader = _Reader(data)
    value = reader.value(reader.mark(), 0)
    if reader.at != len(data):
        raise UbjsonError(f"bytes follow its end at {reader.at}")
    return value, reader.repeated


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self.data, self.at, self.values = data, 0, 0
        self.repeated: list[str] = []

    def take(self, length: int) -> bytes:
        if not 0 <= length <= len(self.data) - self.at:
            raise UbjsonError(f"it promises more than it holds at {self.at}")
        piece = bytes(self.data[self.at : self.at + length])
        self.at += length
        return piece

    def mark(self) -> bytes:
        """The next mark of a type; no-ops are skipped."""
        while (mark := self.take(1)) == b"N":
            pass
        return mark

    def length(self) -> int:
        mark = self.take(1)
        if mark not in (b"i", b"U", b"I", b"l", b"L"):
            raise UbjsonError(f"a length has no whole number at {self.at}")
        form = _NUMBERS[mark]
        (found,) = struct.unpack(form, self.take(struct.calcsize(form)))
        if found < 0:
            raise UbjsonError(f"a length is negative at {self.at}")
        return int(found)

    def text(self) -> str:
        try:
            return self.take(self.length()).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UbjsonError(f"a text is not UTF-8 at {self.at}") from error

    def value(self, mark: bytes, depth: int) -> Any:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            raise UbjsonLimitError("it holds more than the limit")
        if mark in _NUMBERS:
            form = _NUMBERS[mark]
            return struct.unpack(form, self.take(struct.calcsize(form)))[0]
        if mark in _PLAIN:
            return _PLAIN[mark]
        match mark:
            case b"S" | b"H":
                return self.text()
            case b"C":
                return self.take(1).decode("latin-1")
            case b"[":
                return self.array(depth)
            case b"{":
                return self.members(depth)
        raise UbjsonError(f"a value has no type known here at {self.at - 1}")

    def head(self) -> tuple[bytes | None, int | None]:
        """`$type#count`, `#count` or neither, at the start of a container."""
        kind: bytes | None = None
        if self.peek() == b"$":
            self.take(1)
            kind = self.take(1)
            if self.peek() != b"#":
                raise UbjsonError(f"a type without a count at {self.at}")
        if self.peek() != b"#":
            return kind, None
        self.take(1)
        return kind, self.length()

    def peek(self) -> bytes:
        return bytes(self.data[self.at : self.at + 1])

    def array(self, depth: int) -> list[Any]:
        kind, length = self.head()
        if kind in _NUMBERS and length is not None:
            form = _NUMBERS[kind]
            self.values += length
            piece = self.take(length * struct.calcsize(form))
            return list(struct.unpack(f">{length}{form[1]}", piece))
        found: list[Any] = []
        while length is None or len(found) < length:
            if length is None and self.peek() == b"]":
                self.take(1)
                break
            found.append(self.value(kind or self.mark(), depth + 1))
        return found

    def members(self, depth: int) -> dict[str, Any]:
        kind, length = self.head()
        found: dict[str, Any] = {}
        seen = 0
        while length is None or seen < length:
            if length is None and self.peek() == b"}":
                self.take(1)
                break
            name = self.text()
            if name in found and len(self.repeated) < 100:
                self.repeated.append(name)
            found[name] = self.value(kind or self.mark(), depth + 1)
            seen += 1
        return found
