"""Zip archives: every member is opened by its place in the file, and judged as a file.

A member is never looked up by name, so that a duplicate or a decoy hides nothing. Which kind of
archive it is decides who judges the members; here stand the plain one and what all have in
common. A checksum that is wrong leaves the archive not evaluated: some readers (torch among
them) never look at it, others refuse the member.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator

from keepstone.core.finding import Finding
from keepstone.scan.allowance import Allowance
from keepstone.scan.archive.compressed import Decompressor, is_bomb, unpack
from keepstone.scan.archive.zipdir import (
    DEFLATED,
    ENCRYPTED,
    STORED,
    Entry,
    Listing,
    read_zip,
)
from keepstone.scan.view import View

_BZIP2, _LZMA = 12, 14
_LZMA_HEAD = 9
# The bytes of a checksum that are read at once: then the pages may go.
_STEP = 16 << 20
# Judges one member, given its name and content; the rest of the archive is not its business.
OneMember = Callable[[View, str, memoryview], Iterator[Finding]]


def scan_zip(view: View) -> Iterator[Finding]:
    """A plain archive: every member is a file of its own."""
    listing = read_zip(view.data)
    yield from problems(view, listing)
    for entry in listing.entries:
        if entry.name.replace("\\", "/").lstrip("./") == "__main__.py":
            reason = "Python runs the archive as a program."
            yield view.finding("zip.program", reason, None, entry.name)
    before = view.allowance.unpacked
    yield from members(view, listing, lambda whole, name, data: whole.inside(name, data))
    # Archives in archives: each is modest, all of them together are not.
    if is_bomb(before - view.allowance.unpacked, len(view.data)):
        yield view.finding("archive.bomb", "All that is in the archive is a bomb.")


def problems(view: View, listing: Listing) -> Iterator[Finding]:
    """What is wrong with the archive itself."""
    for problem in listing.problems:
        offset = problem.offset if view.member is None else None
        yield view.finding(problem.rule, problem.reason, offset, problem.member)


def members(view: View, listing: Listing, judge: OneMember) -> Iterator[Finding]:
    """Unpack every member in the file's order, check it, and hand it to `judge`."""
    for entry in sorted(listing.entries, key=lambda entry: entry.header):
        if view.allowance.out_of_time():
            yield view.unseen("The file takes longer than the limit allows.")
            return
        if view.allowance.members <= 0:
            yield view.unseen("The file holds more members than the limit allows.")
            return
        view.allowance.members -= 1
        if is_folder(entry):
            continue
        content, rule, why = unpacked(view, entry)
        if why:
            yield view.finding(rule, why, None, entry.name)
        if content or not why:
            yield from judge(view, entry.name, content)


def is_folder(entry: Entry) -> bool:
    return entry.name.endswith("/") and not entry.size and not entry.packed


def unpacked(view: View, entry: Entry) -> tuple[memoryview, str, str]:
    """As much of a member as can be had, and with which rule and why it is not all."""
    packed = view.data[entry.start : entry.start + entry.packed]
    content, rule, why = _content(entry, packed, view.allowance)
    if why:
        return content, rule, why
    if len(content) != entry.size:
        return content, "zip.ambiguous", "The member is not as large as the archive says."
    if _checksum(view, entry, content) != entry.crc:
        return content, "scan.not_evaluated", "The member's checksum is wrong."
    return content, "", ""


def _content(entry: Entry, packed: memoryview, allowance: Allowance) -> tuple[memoryview, str, str]:
    nothing, unseen = memoryview(b""), "scan.not_evaluated"
    if entry.flags & ENCRYPTED:
        return nothing, "zip.encrypted", "The member is encrypted."
    if entry.method == STORED:
        return packed, "", ""
    if entry.method == DEFLATED:
        machine: Decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    elif entry.method == _BZIP2:
        machine = bz2.BZ2Decompressor()
    elif entry.method == _LZMA and (raw := _raw_lzma(packed)) is not None:
        machine, packed = raw, packed[_LZMA_HEAD:]
    else:
        return nothing, unseen, f"The compression method {entry.method} is not known."
    found = unpack(machine, packed, allowance)
    if not found.why and found.used < len(packed):
        return found.content, "zip.ambiguous", "Bytes follow the end of the member's content."
    return found.content, found.rule, found.why


def _raw_lzma(packed: memoryview) -> Decompressor | None:
    """APPNOTE 5.8.8: a version, the length of the properties, and those; then the raw stream."""
    head = bytes(packed[:_LZMA_HEAD])
    if len(head) < _LZMA_HEAD or head[2:4] != b"\x05\x00" or head[4] >= 9 * 5 * 5:
        return None
    lc, rest = head[4] % 9, head[4] // 9
    size = min(int.from_bytes(head[5:9], "little"), 64 << 20)
    options = {"id": lzma.FILTER_LZMA1, "lc": lc, "lp": rest % 5, "pb": rest // 5}
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, None, [{**options, "dict_size": size}])
    except (lzma.LZMAError, ValueError):
        return None


def _checksum(view: View, entry: Entry, content: memoryview) -> int:
    """In the file's order and in steps, so that the pages are those being hashed meanwhile."""
    if entry.method != STORED:
        return zlib.crc32(content)
    value = 0
    for at in range(0, len(content), _STEP):
        value = zlib.crc32(content[at : at + _STEP], value)
        view.release(entry.start + at, entry.start + min(at + _STEP, len(content)))
    return value
