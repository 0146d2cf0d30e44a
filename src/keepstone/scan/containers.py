"""Containers that hide pickles: zip archives (torch), compressed streams (joblib), NumPy.

Each member is opened by its place in the archive, never by its name, so that a duplicate or a
decoy hides nothing. Containers in containers are opened too, with bounds on size, count and
depth; what is not looked at is said. Nothing in a container is called clean yet.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from keepstone.core.finding import Finding
from keepstone.scan.formats import ZIPS, identify
from keepstone.scan.opcodes import Budget, resembles_importing_pickle
from keepstone.scan.pickle import scan_stream
from keepstone.scan.rules import finding, printable
from keepstone.scan.view import FileView
from keepstone.scan.zipdir import DEFLATED, ENCRYPTED, STORED, Entry, read_zip

# What is unpacked is looked at up to here; pickles of real checkpoints are far smaller.
MAX_UNPACKED = 64 << 20
MAX_TOTAL = 512 << 20
MAX_DEPTH = 3


def scan_container(view: FileView) -> Iterator[Finding]:
    """Look into a zip archive, a compressed stream or a NumPy file for pickles."""
    kind = identify(view.data)
    yield from _Inside(view.path).open(kind, view.data, None, 0)
    reason = f"Checks for the format {kind} are not here yet."
    yield finding("scan.not_evaluated", reason, view.path)


@dataclass(slots=True)
class _Inside:
    """One look into a container: how much of it may still be unpacked, and walked."""

    path: str
    left: int = MAX_TOTAL
    budget: Budget = field(default_factory=Budget)

    def open(
        self, kind: str, data: memoryview, member: str | None, depth: int
    ) -> Iterator[Finding]:
        if depth >= MAX_DEPTH:
            yield self.unseen("Containers are nested deeper than the limit.", member)
        elif kind in ZIPS:
            yield from self.zip(data, member, depth)
        elif kind in _DECOMPRESSORS:
            content, why = self.unpack(_DECOMPRESSORS[kind](), data)
            if why:
                yield self.unseen(why, member)
            yield from self.look(memoryview(content), _under(member, f"({kind})"), depth + 1)
        elif kind == "numpy":
            yield from self.numpy(data, member)

    def look(self, data: memoryview, member: str, depth: int) -> Iterator[Finding]:
        """Judge what lies in a container, as far as pickles go."""
        kind = identify(data, self.budget)
        if kind == "pickle" or resembles_importing_pickle(data, self.budget):
            yield from scan_stream(data, self.path, member, self.budget)
        if kind != "pickle":
            yield from self.open(kind, data, member, depth)

    def zip(self, data: memoryview, outer: str | None, depth: int) -> Iterator[Finding]:
        listing = read_zip(data)
        for problem in listing.problems:
            where = outer if problem.member is None else _under(outer, problem.member)
            offset = problem.offset if outer is None else None
            yield finding(problem.rule, problem.reason, self.path, offset, where)
        for entry in listing.entries:
            member = _under(outer, entry.name)
            packed = data[entry.start : entry.start + entry.packed]
            content, rule, why = self.content(entry, packed)
            if why:
                yield finding(rule, why, self.path, None, member)
            yield from self.look(content, member, depth + 1)

    def content(self, entry: Entry, packed: memoryview) -> tuple[memoryview, str, str]:
        """As much of a member as can be had, and with which rule and why it is not all."""
        nothing, unseen = memoryview(b""), "scan.not_evaluated"
        if entry.flags & ENCRYPTED:
            return nothing, unseen, "The member is encrypted."
        if entry.method == STORED:
            content = packed
        elif entry.method == DEFLATED:
            machine = zlib.decompressobj(-zlib.MAX_WBITS)
            unpacked, why = self.unpack(machine, packed)
            content = memoryview(unpacked)
            if why:
                return content, unseen, why
            if machine.unused_data:
                return content, "zip.ambiguous", "Bytes follow the end of the member's content."
        else:
            return nothing, unseen, f"The compression method {entry.method} is not known."
        if len(content) != entry.size:
            return content, "zip.ambiguous", "The member is not as large as the archive says."
        if zlib.crc32(content) != entry.crc:
            return content, unseen, "The member's checksum is wrong."
        return content, "", ""

    def unpack(self, machine: _Decompressor, data: memoryview) -> tuple[bytes, str]:
        """What comes out, and why it is not all."""
        most, step, out = min(MAX_UNPACKED, self.left), 1 << 16, bytearray()
        why = "The compressed stream breaks off."
        try:
            for start in range(0, len(data), step):
                # One more than may be kept, so that a stream that fits exactly can end.
                piece = bytes(data[start : start + step])
                out += machine.decompress(piece, most + 1 - len(out))
                if machine.eof or len(out) > most:
                    why = "" if len(out) <= most else "It unpacks to more than the limit."
                    break
        except (zlib.error, lzma.LZMAError, OSError, EOFError, MemoryError):
            why = "The compressed stream is broken."
        self.left -= len(out)
        return bytes(out), why

    def numpy(self, data: memoryview, outer: str | None) -> Iterator[Finding]:
        """An array of objects is a pickle behind a header."""
        start = 12 if bytes(data[6:7]) > b"\x01" else 10
        end = start + int.from_bytes(bytes(data[8:start]), "little")
        header = bytes(data[start : min(end, start + (1 << 16))])
        content = data[end:]
        # More headers than NumPy writes count as objects: the walk of the pickle decides.
        if _OBJECTS.search(header) or resembles_importing_pickle(content, self.budget):
            where = _under(outer, "(object array)")
            yield from scan_stream(content, self.path, where, self.budget)

    def unseen(self, reason: str, member: str | None) -> Finding:
        return finding("scan.not_evaluated", reason, self.path, None, member)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    "zlib": zlib.decompressobj,
    "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=256 << 20),
    "lzma": lambda: lzma.LZMADecompressor(memlimit=256 << 20),
}
CONTAINERS = frozenset({*ZIPS, *_DECOMPRESSORS, "numpy"})
# The letter may be spelled by an escape, since NumPy reads the header as a Python literal.
_OBJECTS = re.compile(rb"O|\\")


def _under(outer: str | None, member: str) -> str:
    return printable(member if outer is None else f"{outer} > {member}", 400)
