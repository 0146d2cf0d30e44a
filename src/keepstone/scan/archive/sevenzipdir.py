"""The directory of a 7z archive: its packed streams, the coders that unpack them, its files.

Everything is bounded by what the file holds: a number that promises more is refused before
anything is allocated. Source: 7zFormat.txt of the 7-Zip project (DOC folder of its source).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

SIGNATURE = b"7z\xbc\xaf\x27\x1c"
START = 32
MAX_FILES = 100_000
_MAX_FOLDERS = 100_000
_MAX_CODERS = 8

_END, _HEADER, _ADDITIONAL, _MAIN, _FILES = 0x00, 0x01, 0x03, 0x04, 0x05
_PACK, _UNPACK, _SUBSTREAMS = 0x06, 0x07, 0x08
_SIZE, _CRC, _FOLDER, _CODERS_SIZE, _NUMBER = 0x09, 0x0A, 0x0B, 0x0C, 0x0D
_EMPTY_STREAM, _EMPTY_FILE, _ANTI, _NAMES, _ATTRIBUTES = 0x0E, 0x0F, 0x10, 0x11, 0x15
_ENCODED = 0x17


class SevenZipError(Exception):
    """The directory is broken, or more than the limit; the message says which."""


@dataclass(frozen=True, slots=True)
class Coder:
    """One step of unpacking: `id` as in Methods.txt, and its settings."""

    id: bytes
    properties: bytes
    inputs: int
    outputs: int


@dataclass(slots=True)
class Packed:
    """What 7z calls a folder: coders in a row over packed streams, and what comes out."""

    coders: list[Coder]
    bonds: list[tuple[int, int]]
    packed: list[int]
    sizes: list[int] = field(default_factory=list)
    crc: int | None = None

    @property
    def is_plain(self) -> bool:
        """True for a chain of coders with one way in and one way out."""
        return len(self.packed) == 1 and all(c.inputs == c.outputs == 1 for c in self.coders)

    @property
    def size(self) -> int:
        """The size of what comes out at the end: of the output that no bond takes."""
        taken = {out for _, out in self.bonds}
        ends = [index for index in range(len(self.sizes)) if index not in taken]
        if len(ends) != 1:
            raise SevenZipError("the coders of a stream do not fit together")
        return self.sizes[ends[0]]


@dataclass(frozen=True, slots=True)
class SevenZipFile:
    """One file: which stream it lies in (None for an empty one), where, and how it is named."""

    name: str
    stream: int | None
    start: int
    size: int
    crc: int | None
    attributes: int
    is_folder: bool


@dataclass(slots=True)
class Streams:
    """Packed streams: where they lie, how they are unpacked, how they are divided."""

    at: int = 0
    packed_sizes: list[int] = field(default_factory=list)
    folders: list[Packed] = field(default_factory=list)
    parts: list[list[tuple[int, int | None]]] = field(default_factory=list)


@dataclass(slots=True)
class Directory:
    """`packed[n]` are the bytes of stream `n` of the archive."""

    streams: Streams
    files: list[SevenZipFile]
    problems: list[str]


# Unpacks a header that is itself packed: the folder, and its packed bytes.
Unpack = Callable[[Packed, list[memoryview]], bytes]


def read_directory(data: memoryview, unpack: Unpack) -> Directory:
    """Read the directory. Raises SevenZipError, and what `unpack` raises."""
    problems: list[str] = []
    if len(data) < START or bytes(data[6:7]) != b"\x00":
        raise SevenZipError("its start is broken, or its version is not known")
    head = bytes(data[12:START])
    if zlib.crc32(head) != int.from_bytes(data[8:12], "little"):
        raise SevenZipError("the checksum of its start is wrong")
    offset, size = int.from_bytes(head[:8], "little"), int.from_bytes(head[8:16], "little")
    if not size:
        return Directory(Streams(), [], ["Bytes follow the archive."] if len(data) > START else [])
    if START + offset + size > len(data):
        raise SevenZipError("its directory lies outside of the file")
    if START + offset + size != len(data):
        problems.append("Bytes follow the end of the archive.")
    header = data[START + offset : START + offset + size]
    if zlib.crc32(header) != int.from_bytes(head[16:20], "little"):
        raise SevenZipError("the checksum of its directory is wrong")
    for _ in range(4):
        reader = _Reader(header)
        kind = reader.byte()
        if kind == _HEADER:
            streams, files = reader.header()
            if reader.at != len(header):
                problems.append("Bytes follow the end of the directory.")
            _lay_out(streams, files, data, START + offset)
            return Directory(streams, files, problems)
        if kind != _ENCODED:
            break
        streams = reader.streams()
        if len(streams.folders) != 1:
            break
        pieces = packed_pieces(data, streams, 0)
        header = memoryview(unpack(streams.folders[0], pieces))
    raise SevenZipError("its directory has no form known here")


def packed_pieces(data: memoryview, streams: Streams, index: int) -> list[memoryview]:
    """The packed bytes that folder `index` is made from."""
    first = sum(len(folder.packed) for folder in streams.folders[:index])
    at = START + streams.at + sum(streams.packed_sizes[:first])
    found = []
    for size in streams.packed_sizes[first : first + len(streams.folders[index].packed)]:
        if at + size > len(data):
            raise SevenZipError("a packed stream lies outside of the file")
        found.append(data[at : at + size])
        at += size
    return found


def _lay_out(streams: Streams, files: list[SevenZipFile], data: memoryview, end: int) -> None:
    if START + streams.at + sum(streams.packed_sizes) > end:
        raise SevenZipError("a packed stream reaches into the directory")
    if len(streams.packed_sizes) != sum(len(folder.packed) for folder in streams.folders):
        raise SevenZipError("its packed streams are another number than its coders take")


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def take(self, length: int) -> bytes:
        if not 0 <= length <= len(self.data) - self.at:
            raise SevenZipError("its directory breaks off")
        piece = bytes(self.data[self.at : self.at + length])
        self.at += length
        return piece

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        """The first byte's leading ones say how many bytes follow."""
        first = self.byte()
        mask, value = 0x80, 0
        for index in range(8):
            if not first & mask:
                return value | ((first & (mask - 1)) << (8 * index))
            value |= self.byte() << (8 * index)
            mask >>= 1
        return value

    def count(self, most: int) -> int:
        found = self.number()
        if found > most:
            raise SevenZipError("it holds more than the limit")
        return found

    def bits(self, count: int) -> list[bool]:
        raw = self.take(-(-count // 8))
        return [bool(raw[index // 8] & (0x80 >> (index % 8))) for index in range(count)]

    def optional_bits(self, count: int) -> list[bool]:
        return [True] * count if self.byte() else self.bits(count)

    def digests(self, count: int) -> list[int | None]:
        known = self.optional_bits(count)
        return [int.from_bytes(self.take(4), "little") if one else None for one in known]

    def header(self) -> tuple[Streams, list[SevenZipFile]]:
        streams, files = Streams(), list[SevenZipFile]()
        while (kind := self.byte()) != _END:
            if kind == _MAIN:
                streams = self.streams()
            elif kind == _FILES:
                files = self.files(streams)
            elif kind == _ADDITIONAL:
                self.streams()
            else:
                raise SevenZipError("its directory has a part that is not known")
        return streams, files

    def streams(self) -> Streams:
        found = Streams()
        while (kind := self.byte()) != _END:
            if kind == _PACK:
                self.pack(found)
            elif kind == _UNPACK:
                self.unpack(found)
            elif kind == _SUBSTREAMS:
                self.substreams(found)
            else:
                raise SevenZipError("its streams have a part that is not known")
        if not found.parts:
            found.parts = [[(folder.size, folder.crc)] for folder in found.folders]
        return found

    def pack(self, found: Streams) -> None:
        found.at, count = self.number(), self.count(_MAX_FOLDERS)
        while (kind := self.byte()) != _END:
            if kind == _SIZE:
                found.packed_sizes = [self.number() for _ in range(count)]
            elif kind == _CRC:
                self.digests(count)
            else:
                raise SevenZipError("its packed streams have a part that is not known")

    def unpack(self, found: Streams) -> None:
        if self.byte() != _FOLDER:
            raise SevenZipError("its coders are missing")
        count = self.count(_MAX_FOLDERS)
        if self.byte():
            raise SevenZipError("its coders lie elsewhere")
        found.folders = [self.folder() for _ in range(count)]
        if self.byte() != _CODERS_SIZE:
            raise SevenZipError("its coders have no sizes")
        for folder in found.folders:
            outputs = sum(coder.outputs for coder in folder.coders)
            folder.sizes = [self.number() for _ in range(outputs)]
        while (kind := self.byte()) != _END:
            if kind != _CRC:
                raise SevenZipError("its coders have a part that is not known")
            for folder, crc in zip(found.folders, self.digests(count), strict=True):
                folder.crc = crc

    def folder(self) -> Packed:
        coders = []
        for _ in range(self.count(_MAX_CODERS)):
            flags = self.byte()
            if flags & 0xC0:
                raise SevenZipError("a coder has a form that is not known")
            name = self.take(flags & 0x0F)
            inputs, outputs = (self.count(32), self.count(32)) if flags & 0x10 else (1, 1)
            properties = self.take(self.count(1 << 16)) if flags & 0x20 else b""
            coders.append(Coder(name, properties, inputs, outputs))
        inputs = sum(coder.inputs for coder in coders)
        outputs = sum(coder.outputs for coder in coders)
        bonds = [(self.number(), self.number()) for _ in range(max(0, outputs - 1))]
        taken = inputs - len(bonds)
        if not coders or taken < 1 or any(i >= inputs or o >= outputs for i, o in bonds):
            raise SevenZipError("the coders of a stream do not fit together")
        if taken == 1:
            free = [index for index in range(inputs) if index not in {i for i, _ in bonds}]
            packed = free[:1]
        else:
            packed = [self.number() for _ in range(taken)]
        return Packed(coders, bonds, packed)

    def substreams(self, found: Streams) -> None:
        counts = [1] * len(found.folders)
        kind = self.byte()
        if kind == _NUMBER:
            counts = [self.count(MAX_FILES) for _ in found.folders]
            kind = self.byte()
        if sum(counts) > MAX_FILES:
            raise SevenZipError("it holds more than the limit")
        sizes = []
        for folder, count in zip(found.folders, counts, strict=True):
            known = [self.number() for _ in range(count - 1)] if kind == _SIZE else []
            rest = folder.size - sum(known)
            if count and (rest < 0 or (count > 1 and kind != _SIZE)):
                raise SevenZipError("its files are larger than their stream")
            sizes.append([*known, rest] if count else [])
        if kind == _SIZE:
            kind = self.byte()
        crcs: list[int | None] = []
        wanted = sum(
            0 if count == 1 and folder.crc is not None else count
            for folder, count in zip(found.folders, counts, strict=True)
        )
        while kind != _END:
            if kind != _CRC:
                raise SevenZipError("its files have a part that is not known")
            crcs = self.digests(wanted)
            kind = self.byte()
        left = iter(crcs)
        for folder, held in zip(found.folders, sizes, strict=True):
            single = len(held) == 1 and folder.crc is not None
            digests = [folder.crc if single else next(left, None) for _ in held]
            found.parts.append(list(zip(held, digests, strict=True)))

    def files(self, streams: Streams) -> list[SevenZipFile]:
        count = self.count(MAX_FILES)
        names = [""] * count
        attributes = [0] * count
        empty, empty_files = [False] * count, list[bool]()
        while (kind := self.byte()) != _END:
            inside = _Reader(memoryview(self.take(self.number())))
            if kind == _EMPTY_STREAM:
                empty = inside.bits(count)
            elif kind in (_EMPTY_FILE, _ANTI):
                marks = inside.bits(sum(empty))
                empty_files = marks if kind == _EMPTY_FILE else empty_files
                if kind == _ANTI and any(marks):
                    raise SevenZipError("it asks for files to be deleted")
            elif kind == _NAMES:
                names = inside.names(count)
            elif kind == _ATTRIBUTES:
                known = inside.optional_bits(count)
                if inside.byte():
                    raise SevenZipError("its attributes lie elsewhere")
                attributes = [
                    int.from_bytes(inside.take(4), "little") if one else 0 for one in known
                ]
        return _place(names, attributes, empty, empty_files, streams)

    def names(self, count: int) -> list[str]:
        if self.byte():
            raise SevenZipError("its names lie elsewhere")
        try:
            text = bytes(self.data[self.at :]).decode("utf-16-le")
        except UnicodeDecodeError as error:
            raise SevenZipError("its names are no text") from error
        found = text.split("\x00")
        if len(found) != count + 1 or found[-1]:
            raise SevenZipError("its names are another number than its files")
        return found[:-1]


def _place(
    names: list[str],
    attributes: list[int],
    empty: list[bool],
    empty_files: list[bool],
    streams: Streams,
) -> list[SevenZipFile]:
    """Give each file with a content its part of a stream, in order."""
    parts = [
        (index, start, size, crc)
        for index, held in enumerate(streams.parts)
        for start, (size, crc) in zip(_starts(held), held, strict=True)
    ]
    if len(parts) != len(empty) - sum(empty):
        raise SevenZipError("its files are another number than its contents")
    contents, marks = iter(parts), iter(empty_files)
    found = []
    for name, attribute, is_empty in zip(names, attributes, empty, strict=True):
        if is_empty:
            is_file = next(marks, False)
            found.append(SevenZipFile(name, None, 0, 0, None, attribute, not is_file))
        else:
            stream, start, size, crc = next(contents)
            found.append(SevenZipFile(name, stream, start, size, crc, attribute, False))
    return found


def _starts(held: list[tuple[int, int | None]]) -> list[int]:
    found, at = [], 0
    for size, _ in held:
        found.append(at)
        at += size
    return found
