"""GGUF: counts, lengths and offsets are held to the file, and chat templates are judged.

Promise: clean means that every count, length and offset stays inside the file, no key or tensor
has a second reading, every byte belongs to a tensor or to its padding, and no text of the file
would run as a program where it is rendered without a sandbox. The tensors are never read.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and what ggml's `gguf.cpp`
refuses.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from keepstone.core.finding import Finding
from keepstone.scan.rules import printable
from keepstone.scan.templates import template_findings
from keepstone.scan.texts import program_in
from keepstone.scan.view import View

# Well above the largest vocabularies and models.
MAX_ENTRIES, MAX_TENSORS, MAX_KEYS = 5_000_000, 200_000, 65_536
MAX_TEXT = 4 << 20
MAX_NAME = 128
_STRING, _ARRAY, _BOOL = 8, 9, 7
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UNSIGNED = {0: "B", 2: "H", 4: "I", 10: "Q"}
# ggml_type: elements of a block, and its bytes.
_BLOCKS: dict[int, tuple[int, int]] = {
    0: (1, 4),
    1: (1, 2),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    27: (1, 8),
    28: (1, 8),
    30: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 40),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    29: (256, 56),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
    40: (64, 36),
    41: (128, 18),
}


class _BrokenError(ValueError):
    """The rule that the file breaks, how, and where."""

    def __init__(self, word: str, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.rule, self.reason, self.offset = f"gguf.{word}", reason, offset


def scan_gguf(view: View) -> Iterator[Finding]:
    """Judge one GGUF file. No finding means clean."""
    try:
        file = _File(view.data)
        yield from file.judge(view)
    except _BrokenError as error:
        yield view.finding(error.rule, error.reason, error.offset)


def gguf_texts(view: View) -> list[tuple[str, str]]:
    """The texts of the head by their keys, as far as it can be read."""
    file = _Texts(view.data)
    try:
        for _ in file.judge(view):
            pass
    except _BrokenError:
        # What was read until then counts all the same.
        pass
    return file.found


@dataclass(slots=True)
class _File:
    """One pass over the head of a file. `at` only grows, and stays inside `data`."""

    data: memoryview
    at: int = 4
    order: str = "<"
    wide: bool = True
    alignment: int = 32
    keys: set[str] = field(default_factory=set)

    def judge(self, view: View) -> Iterator[Finding]:
        """(1) version and counts, (2) keys and values, (3) tensors, (4) where they lie."""
        # (1)
        version = self.number("I")
        if version & 0xFFFF == 0:
            # Since version 3 a file may be big-endian; its version tells.
            self.order, version = ">", int.from_bytes(version.to_bytes(4, "little"), "big")
        if not 1 <= version <= 3:
            # A few versions from now there may be such a file; never one of version 0 or 4242.
            word = "unknown" if 3 < version <= 16 else "malformed"
            raise _BrokenError(word, f"The version {version} is not known.", 4)
        self.wide = version > 1
        tensors, entries = self.length(), self.length()
        self.check_count(tensors, 24 if self.wide else 20, "tensors", MAX_TENSORS)
        self.check_count(entries, 13 if self.wide else 9, "keys", MAX_KEYS)
        # (2)
        for _ in range(entries):
            yield from self.entry(view)
        # (3)
        places = self.tensors(tensors)
        # (4)
        self.check_layout(places)

    def number(self, form: str) -> int:
        size = struct.calcsize(form)
        if self.at + size > len(self.data):
            raise _BrokenError("malformed", "The file breaks off.", self.at)
        (value,) = struct.unpack_from(self.order + form, self.data, self.at)
        self.at += size
        return int(value)

    def length(self) -> int:
        return self.number("Q" if self.wide else "I")

    def check_count(self, count: int, least: int, what: str, most: int = MAX_ENTRIES) -> None:
        if count * least > len(self.data) - self.at:
            reason = f"The file cannot hold the {count} {what} that it announces."
            raise _BrokenError("malformed", reason, self.at)
        if count > most:
            raise _BrokenError("unknown", f"There are more than {most} {what}.", self.at)

    def text(self, limit: int) -> str:
        begin, length = self.at, self.length()
        if length > len(self.data) - self.at:
            raise _BrokenError("malformed", "A text runs past the end of the file.", begin)
        if length > limit:
            raise _BrokenError("malformed", f"A text is longer than {limit} bytes.", begin)
        raw = bytes(self.data[self.at : self.at + length])
        self.at += length
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise _BrokenError("malformed", "A text is not UTF-8.", begin) from None

    def entry(self, view: View) -> Iterator[Finding]:
        begin = self.at
        key = self.text(1 << 16)
        if key in self.keys:
            raise _BrokenError("ambiguous", f"The key {printable(key)!r} comes twice.", begin)
        self.keys.add(key)
        kind = self.number("I")
        if kind == _STRING:
            yield from self.value(view, key, self.text(MAX_TEXT), begin)
        elif kind == _ARRAY:
            yield from self.array(view, key, begin)
        elif kind not in _WIDTHS:
            raise _BrokenError("malformed", f"A value has the unknown type {kind}.", begin)
        elif key == "general.alignment":
            self.alignment = self.number(_UNSIGNED.get(kind, "I"))
            if kind not in _UNSIGNED or not _is_power(self.alignment):
                raise _BrokenError("malformed", "The alignment is no power of two.", begin)
        else:
            value = self.at
            self.skip(_WIDTHS[kind])
            if kind == _BOOL and self.data[value] > 1:
                raise _BrokenError("malformed", "A truth value is neither 0 nor 1.", begin)

    def value(self, view: View, key: str, text: str, offset: int) -> Iterator[Finding]:
        """What is done with a text of the head."""
        yield from _judge_text(view, key, text, offset)

    def array(self, view: View, key: str, begin: int) -> Iterator[Finding]:
        kind, count = self.number("I"), self.length()
        if kind == _ARRAY:
            # ggml refuses what the Python reader takes.
            raise _BrokenError("ambiguous", "An array holds arrays.", begin)
        if kind != _STRING and kind not in _WIDTHS:
            raise _BrokenError("malformed", f"An array has the unknown type {kind}.", begin)
        if kind == _STRING:
            self.check_count(count, 8 if self.wide else 4, "texts")
            yield from self.texts(view, key, count, begin)
        else:
            self.check_count(count, _WIDTHS[kind], "values")
            self.skip(count * _WIDTHS[kind])

    def texts(self, view: View, key: str, count: int, begin: int) -> Iterator[Finding]:
        """The texts of an array: tokens by the hundred thousand, so the loop is tight."""
        if "template" in key:
            for _ in range(count):
                yield from self.value(view, key, self.text(MAX_TEXT), begin)
            return
        data, at, end = self.data, self.at, len(self.data)
        form = struct.Struct(self.order + ("Q" if self.wide else "I"))
        unpack, step = form.unpack_from, form.size
        for _ in range(count):
            if at + step > end:
                break
            at += step + unpack(data, at)[0]
        if at > end:
            raise _BrokenError("malformed", "A text runs past the end of the file.", begin)
        self.at = at

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.at:
            raise _BrokenError("malformed", "The file breaks off.", self.at)
        self.at += size

    def tensors(self, count: int) -> list[tuple[int, int, str]]:
        """Offset, size and name of every tensor."""
        names: set[str] = set()
        places = []
        for _ in range(count):
            begin = self.at
            name = self.text(1 << 16)
            if name in names:
                raise _BrokenError(
                    "ambiguous", f"The tensor {printable(name)!r} comes twice.", begin
                )
            if len(name.encode()) >= MAX_NAME:
                raise _BrokenError(
                    "malformed", f"The name {printable(name)!r} is longer than readers hold.", begin
                )
            names.add(name)
            rank = self.number("I")
            if rank > 4:
                raise _BrokenError(
                    "malformed", f"The tensor {printable(name)!r} has {rank} dimensions.", begin
                )
            shape = [self.length() for _ in range(rank)]
            kind, offset = self.number("I"), self.number("Q")
            if kind not in _BLOCKS:
                reason = f"The tensor {printable(name)!r} has the type {kind}, which is not known."
                raise _BrokenError("unknown" if kind < 128 else "malformed", reason, begin)
            block, width = _BLOCKS[kind]
            elements = prod(shape)
            # ggml keeps both in a signed 64-bit number.
            if elements * width >= 1 << 63 or any(n >= 1 << 63 for n in shape):
                raise _BrokenError(
                    "malformed", f"The shape of {printable(name)!r} overflows.", begin
                )
            if (shape[0] if shape else 1) % block:
                raise _BrokenError(
                    "malformed", f"The rows of {printable(name)!r} are no whole blocks.", begin
                )
            places.append((offset, elements // block * width, name))
        return places

    def check_layout(self, places: list[tuple[int, int, str]]) -> None:
        """The tensors lie in a row behind the head, each at a multiple of the alignment."""
        base = self.aligned(self.at)
        room = len(self.data) - base
        if places and room < 0:
            raise _BrokenError("malformed", "The file ends before its tensors begin.", self.at)
        at = 0
        for offset, size, name in sorted(places):
            if offset % self.alignment:
                raise _BrokenError(
                    "malformed", f"The tensor {printable(name)!r} is not aligned.", base
                )
            if offset + size > room:
                reason = f"The tensor {printable(name)!r} lies outside of the file."
                raise _BrokenError("malformed", reason, base)
            if offset < at and size:
                raise _BrokenError(
                    "malformed", f"The tensor {printable(name)!r} lies in another.", base + offset
                )
            if offset > self.aligned(at):
                raise _BrokenError(
                    "hidden", f"Bytes before {printable(name)!r} belong to nothing.", base + at
                )
            at = max(at, offset + size)
        end = self.aligned(base + at) if places else base
        if len(self.data) > end:
            raise _BrokenError(
                "hidden", f"{len(self.data) - end} bytes follow the last tensor.", end
            )

    def aligned(self, place: int) -> int:
        return -(-place // self.alignment) * self.alignment


@dataclass(slots=True)
class _Texts(_File):
    """A pass that keeps texts instead of judging them."""

    found: list[tuple[str, str]] = field(default_factory=list)

    def value(self, view: View, key: str, text: str, offset: int) -> Iterator[Finding]:
        self.found.append((key, text))
        return iter(())


def _is_power(number: int) -> bool:
    return 0 < number <= 1 << 20 and number & (number - 1) == 0


def _judge_text(view: View, key: str, text: str, offset: int) -> Iterator[Finding]:
    if "template" in key:
        for problem in template_findings(text):
            reason = f"{problem.reason[:-1]} ({printable(key)}, line {problem.line})."
            yield view.finding(problem.rule, reason, offset)
    elif what := program_in(text):
        yield view.finding("metadata.program", f"The key {printable(key)!r} holds {what}.", offset)
