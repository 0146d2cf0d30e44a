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
from typing import Protocol

from keepstone.core.finding import Finding
from keepstone.scan.allowance import Allowance
from keepstone.scan.archive.zipdir import DEFLATED, ENCRYPTED, STORED, Entry, read_zip
from keepstone.scan.formats import ZIPS, identify
from keepstone.scan.pickle.opcodes import resembles_importing_pickle
from keepstone.scan.pickle.stream import scan_pickle
from keepstone.scan.view import View

# What is unpacked is looked at up to here; pickles of real checkpoints are far smaller.
MAX_UNPACKED = 64 << 20


def scan_zip(view: View) -> Iterator[Finding]:
    """Open every member of a zip archive by its place."""
    listing = read_zip(view.data)
    for problem in listing.problems:
        offset = problem.offset if view.member is None else None
        yield view.finding(problem.rule, problem.reason, offset, problem.member)
    for entry in listing.entries:
        packed = view.data[entry.start : entry.start + entry.packed]
        content, rule, why = member_content(entry, packed, view.allowance)
        if why:
            yield view.finding(rule, why, None, entry.name)
        yield from _look(view, entry.name, content)
    yield _unfinished(view)


def scan_compressed(view: View) -> Iterator[Finding]:
    """Unpack a compressed stream and judge what comes out."""
    kind = identify(view.data, view.allowance)
    content, why = unpack(_DECOMPRESSORS[kind](), view.data, view.allowance)
    if why:
        yield view.unseen(why)
    yield from _look(view, f"({kind})", memoryview(content))
    yield _unfinished(view)


def scan_numpy(view: View) -> Iterator[Finding]:
    """An array of objects is a pickle behind a header."""
    data = view.data
    start = 12 if bytes(data[6:7]) > b"\x01" else 10
    end = start + int.from_bytes(bytes(data[8:start]), "little")
    header = bytes(data[start : min(end, start + (1 << 16))])
    content = data[end:]
    # More headers than NumPy writes count as objects: the walk of the pickle decides.
    if _OBJECTS.search(header) or resembles_importing_pickle(content, view.allowance):
        yield from scan_pickle(view.nested("(object array)", content))
    yield _unfinished(view)


def _unfinished(view: View) -> Finding:
    return view.unseen(f"Checks for the format {identify(view.data)} are not here yet.")


def _look(view: View, name: str, data: memoryview) -> Iterator[Finding]:
    """Judge what lies in a container, as far as pickles go."""
    kind = identify(data, view.allowance)
    part = view.nested(name, data)
    if kind != "pickle" and resembles_importing_pickle(data, view.allowance):
        yield from scan_pickle(part)
    if kind == "pickle" or kind in CONTAINERS:
        yield from view.inside(name, data)


def member_content(
    entry: Entry, packed: memoryview, allowance: Allowance
) -> tuple[memoryview, str, str]:
    """As much of a member as can be had, and with which rule and why it is not all."""
    nothing, unseen = memoryview(b""), "scan.not_evaluated"
    if entry.flags & ENCRYPTED:
        return nothing, unseen, "The member is encrypted."
    if entry.method == STORED:
        content = packed
    elif entry.method == DEFLATED:
        machine = zlib.decompressobj(-zlib.MAX_WBITS)
        unpacked, why = unpack(machine, packed, allowance)
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


class Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def unpack(machine: Decompressor, data: memoryview, allowance: Allowance) -> tuple[bytes, str]:
    """What comes out of a compressed stream, and why it is not all."""
    most, step, out = min(MAX_UNPACKED, allowance.unpacked), 1 << 16, bytearray()
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
    allowance.unpacked -= len(out)
    return bytes(out), why


_DECOMPRESSORS: dict[str, Callable[[], Decompressor]] = {
    "zlib": zlib.decompressobj,
    "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=256 << 20),
    "lzma": lambda: lzma.LZMADecompressor(memlimit=256 << 20),
}
CONTAINERS = {
    **dict.fromkeys(ZIPS, scan_zip),
    **dict.fromkeys(_DECOMPRESSORS, scan_compressed),
    "numpy": scan_numpy,
}
# The letter may be spelled by an escape, since NumPy reads the header as a Python literal.
_OBJECTS = re.compile(rb"O|\\")
