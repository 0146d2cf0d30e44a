"""The superblock and the headers of objects: where a file begins, and what each object says.

Source: FMT II.A (superblock) and IV.A (data object headers).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from keepstone.scan.hdf5.source import Cursor, Hdf5Error, Source

MARK = b"\x89HDF\r\n\x1a\n"
CONTINUATION = 0x10
MAX_MESSAGES = 65_536
MAX_HEADER = 16 << 20
_SHARED = 0x02


class Message(NamedTuple):
    """One message of an object's header: its type, its flags, its body, and where it lies."""

    kind: int
    flags: int
    body: bytes
    address: int

    @property
    def is_shared(self) -> bool:
        """The body says where the message really lies."""
        return bool(self.flags & _SHARED)


class Superblock(NamedTuple):
    """Where the root group's header lies, where the file ends, and where extensions lie."""

    root: int
    end: int
    extension: int | None


def read_superblock(source: Source, at: int) -> Superblock:
    """Read the superblock at `at` and set the source's widths."""
    head = source.bytes(at, min(96, len(source.data) - at))
    cursor = Cursor(head, source, at)
    cursor.expect(MARK)
    version = cursor.number(1)
    if version in (0, 1):
        return _old(cursor, source, version)
    if version in (2, 3):
        _set_widths(source, cursor.number(1), cursor.number(1))
        cursor.take(1)
        base, extension, end, root = (cursor.offset() for _ in range(4))
        _check_base(source, base, at)
        none = extension == source.undefined
        return Superblock(root, end, None if none else extension)
    raise Hdf5Error("unknown", f"The superblock has the version {version}, which is not known.", at)


def _old(cursor: Cursor, source: Source, version: int) -> Superblock:
    cursor.take(4)
    _set_widths(source, cursor.number(1), cursor.number(1))
    # Reserved, the sizes of groups' nodes, and flags.
    cursor.take(9 if version == 0 else 13)
    base, _, end, driver = (cursor.offset() for _ in range(4))
    _check_base(source, base, cursor.address)
    if driver != source.undefined:
        raise Hdf5Error("external", "The file is one of several that a driver puts together.", 0)
    cursor.offset()
    return Superblock(cursor.offset(), end, None)


def _set_widths(source: Source, offsets: int, lengths: int) -> None:
    if offsets not in (4, 8) or lengths not in (4, 8):
        reason = f"Addresses of {offsets} and lengths of {lengths} bytes are not known."
        raise Hdf5Error("unknown", reason, 0)
    source.offsets, source.lengths = offsets, lengths


def _check_base(source: Source, base: int, at: int) -> None:
    if base != at:
        raise Hdf5Error("malformed", "The file does not begin where its superblock lies.", at)
    source.base = base


def read_header(source: Source, at: int) -> list[Message]:
    """Every message of the object header at `at`, those of continuation blocks too."""
    source.once("header", at)
    first = source.bytes(at, 6)
    found: list[Message] = []
    pending: list[tuple[int, int]] = []
    if first[:4] == b"OHDR":
        read, order = _begin_new(source, at, first[5]), first[5] & 0x04
    else:
        read, order = _begin_old(source, at), 0
    new = first[:4] == b"OHDR"
    found.extend(_messages(read, new, bool(order)))
    handled = 0
    while handled < len(found):
        message = found[handled]
        handled += 1
        if message.kind == CONTINUATION:
            cursor = Cursor(message.body, source, message.address)
            pending.append((cursor.offset(), cursor.length()))
        while pending:
            block, size = pending.pop()
            source.once("continuation", block)
            if size > MAX_HEADER:
                raise Hdf5Error("too_large", "A header is larger than the limit allows.", block)
            cursor = source.cursor(block, size)
            if new:
                cursor.expect(b"OCHK")
                cursor.raw = cursor.raw[:-4]
            found.extend(_messages(cursor, new, bool(order)))
        if len(found) > MAX_MESSAGES:
            raise Hdf5Error("too_large", "A header has more messages than the limit allows.", at)
    if not new and len(found) != int.from_bytes(source.bytes(at + 2, 2), "little"):
        raise Hdf5Error("malformed", "A header holds another number of messages than it says.", at)
    return [message for message in found if message.kind not in (0, CONTINUATION)]


def _begin_old(source: Source, at: int) -> Cursor:
    """IV.A.1.a: version 1."""
    cursor = source.cursor(at, 16)
    if cursor.number(1) != 1:
        raise Hdf5Error("malformed", "There is no object header where there must be.", at)
    cursor.take(7)
    size = cursor.number(4)
    if size > MAX_HEADER:
        raise Hdf5Error("too_large", "A header is larger than the limit allows.", at)
    return source.cursor(at + 16, size)


def _begin_new(source: Source, at: int, flags: int) -> Cursor:
    """IV.A.1.b: version 2."""
    before = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    head = source.bytes(at, before + width)
    if head[4] != 2:
        raise Hdf5Error("unknown", "An object header has a version that is not known.", at)
    size = int.from_bytes(head[before:], "little")
    if size > MAX_HEADER:
        raise Hdf5Error("too_large", "A header is larger than the limit allows.", at)
    return source.cursor(at + before + width, size)


def _messages(cursor: Cursor, new: bool, ordered: bool) -> Iterator[Message]:
    least = 8 if not new else 6 if ordered else 4
    while cursor.left >= least:
        begin = cursor.address + cursor.at
        kind = cursor.number(1 if new else 2)
        size, flags = cursor.number(2), cursor.number(1)
        cursor.take(2 if ordered else 0) if new else cursor.take(3)
        yield Message(kind, flags, cursor.take(size), begin)
