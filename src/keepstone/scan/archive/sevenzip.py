"""7z archives: unpacked with the standard library's coders, each member judged.

Promise: a member is clean only after its bytes came out of coders known here, as many as the
directory says and with its checksum. An encrypted archive, or one with another coder, is *not
evaluated*, by the coder's name. Unpacking is bounded before it begins.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.archive.paths import is_unsafe, key_of, parts_of, resolve
from keepstone.scan.archive.sevenzipdir import (
    Coder,
    Directory,
    Packed,
    SevenZipError,
    SevenZipFile,
    packed_pieces,
    read_directory,
)
from keepstone.scan.folders.folder import Folder
from keepstone.scan.folders.scanners import judge_folder
from keepstone.scan.view import View

# A stream of files is unpacked as a whole: up to here.
MAX_UNPACKED = 256 << 20
_MAX_DICTIONARY = 256 << 20
# What compresses better than this is no model.
_BOMB = 2000

_NAMES = {
    b"\x06\xf1\x07\x01": "AES encryption",
    b"\x03\x04\x01": "PPMd",
    b"\x03\x03\x01\x1b": "BCJ2",
    b"\x04\xf7\x11\x01": "Zstandard",
    b"\x04\xf7\x11\x02": "Brotli",
    b"\x04\xf7\x11\x04": "LZ4",
    b"\x04\x01\x09": "Deflate64",
}
_BRANCHES = {
    b"\x03\x03\x01\x03": lzma.FILTER_X86,
    b"\x04": lzma.FILTER_X86,
    b"\x03\x03\x02\x05": lzma.FILTER_POWERPC,
    b"\x05": lzma.FILTER_POWERPC,
    b"\x03\x03\x04\x01": lzma.FILTER_IA64,
    b"\x06": lzma.FILTER_IA64,
    b"\x03\x03\x05\x01": lzma.FILTER_ARM,
    b"\x07": lzma.FILTER_ARM,
    b"\x03\x03\x07\x01": lzma.FILTER_ARMTHUMB,
    b"\x08": lzma.FILTER_ARMTHUMB,
    b"\x03\x03\x08\x05": lzma.FILTER_SPARC,
    b"\x09": lzma.FILTER_SPARC,
}
_COPY, _LZMA, _LZMA2, _DELTA = b"\x00", b"\x03\x01\x01", b"\x21", b"\x03"
_DEFLATE, _BZIP2 = b"\x04\x01\x08", b"\x04\x02\x02"
_UNIX, _LINK = 0x8000, 0o120000


class _UnknownError(Exception):
    """A coder that cannot be undone here; the message names it."""


def scan_7z(view: View) -> Iterator[Finding]:
    """Judge every member of a 7z archive."""
    try:
        directory = read_directory(view.data, _unpack_header)
    except SevenZipError as error:
        yield view.unseen(f"The 7z archive cannot be read: {error}.")
        return
    except _UnknownError as error:
        yield view.unseen(f"The directory of the 7z archive cannot be read: {error}.")
        return
    for problem in directory.problems:
        yield view.finding("sevenzip.ambiguous", problem)
    yield from _names(view, directory.files)
    yield from _members(view, directory)


def _unpack_header(packed: Packed, pieces: list[memoryview]) -> bytes:
    return _unpack(packed, pieces, 64 << 20)


def _names(view: View, files: list[SevenZipFile]) -> Iterator[Finding]:
    seen: dict[str, bool] = {}
    for file in files:
        if is_unsafe(file.name):
            reason = "Unpacking the archive would write outside of its folder."
            yield view.finding("sevenzip.unsafe_path", reason, None, file.name)
        key = key_of(file.name)
        if key in seen and not (seen[key] and file.is_folder):
            reason = "The archive names this member twice; letter case is no difference."
            yield view.finding("sevenzip.ambiguous", reason, None, file.name)
        seen[key] = file.is_folder


def _members(view: View, directory: Directory) -> Iterator[Finding]:
    contents: dict[str, memoryview] = {}
    for index, packed in enumerate(directory.streams.folders):
        held = [file for file in directory.files if file.stream == index]
        view.allowance.members -= len(held)
        try:
            pieces = packed_pieces(view.data, directory.streams, index)
            size = packed.size
            if size > _BOMB * max(1, sum(len(piece) for piece in pieces)) and size > MAX_UNPACKED:
                reason = f"A stream unpacks to {size} bytes."
                yield view.finding("sevenzip.bomb", reason)
            if view.allowance.members < 0:
                yield view.unseen("There are more members than the limit.")
                return
            whole = _unpack(packed, pieces, min(MAX_UNPACKED, view.allowance.unpacked))
        except (SevenZipError, _UnknownError) as error:
            names: list[str | None] = [file.name for file in held[:100]]
            for name in names or [None]:
                yield view.unseen(f"It cannot be unpacked: {error}.", name)
            continue
        view.allowance.unpacked -= len(whole)
        for file in held:
            piece = memoryview(whole)[file.start : file.start + file.size]
            contents.setdefault(file.name, piece)
            yield from _member(view, file, piece)
    yield from judge_folder(Folder(contents, view))


def _member(view: View, file: SevenZipFile, piece: memoryview) -> Iterator[Finding]:
    if len(piece) != file.size:
        yield view.unseen("The member is not as large as the archive says.", file.name)
    if file.crc is not None and zlib.crc32(piece) != file.crc:
        yield view.unseen("The member's checksum is wrong.", file.name)
    if file.attributes & _UNIX and (file.attributes >> 16) & 0o170000 == _LINK:
        target = bytes(piece[:4096]).decode("utf-8", "replace")
        if resolve(parts_of(file.name)[:-1], target) is None:
            reason = "The link leads out of the archive."
            yield view.finding("sevenzip.unsafe_path", reason, None, file.name)
        else:
            yield view.unseen("The member is a link.", file.name)
    elif piece:
        yield from view.inside(file.name, piece)


def _unpack(packed: Packed, pieces: list[memoryview], most: int) -> bytes:
    """Undo the coders of a stream. Raises SevenZipError and _UnknownError."""
    for coder in packed.coders:
        if coder.id in _NAMES:
            raise _UnknownError(f"{_NAMES[coder.id]} is not undone here")
    if not packed.is_plain:
        raise _UnknownError("its coders do not form a chain")
    if packed.size > most:
        raise SevenZipError("it unpacks to more than the limit")
    order = _chain(packed)
    data = bytes(pieces[0])
    for position, index in enumerate(order):
        size = packed.sizes[index]
        if size > most:
            raise SevenZipError("it unpacks to more than the limit")
        # The coder nearest to the packed bytes comes first.
        data = _undo(packed.coders[index], data, size)
        if len(data) != size:
            last = position == len(order) - 1
            raise SevenZipError(f"{'it' if last else 'a step'} is not as large as the archive says")
    if packed.crc is not None and zlib.crc32(data) != packed.crc:
        raise SevenZipError("its checksum is wrong")
    return data


def _chain(packed: Packed) -> list[int]:
    """The coders in the order in which they are undone; each is used once."""
    after = {out: into for into, out in packed.bonds}
    order, at = [packed.packed[0]], packed.packed[0]
    while at in after:
        at = after[at]
        if at in order:
            raise SevenZipError("the coders of a stream form a circle")
        order.append(at)
    if len(order) != len(packed.coders):
        raise SevenZipError("the coders of a stream do not fit together")
    return order


def _undo(coder: Coder, data: bytes, size: int) -> bytes:
    settings = coder.properties
    try:
        if coder.id == _COPY:
            return data
        if coder.id == _LZMA and len(settings) == 5:
            return _lzma(data, [_lzma1(settings, size)], size)
        if coder.id == _LZMA2 and len(settings) == 1 and settings[0] <= 40:
            bits = settings[0]
            length = 0xFFFFFFFF if bits == 40 else (2 | bits & 1) << (bits // 2 + 11)
            wanted = max(4096, min(length, _ceiling(size)))
            return _lzma(data, [{"id": lzma.FILTER_LZMA2, "dict_size": wanted}], size)
        if coder.id in _BRANCHES:
            return _filtered(data, {"id": _BRANCHES[coder.id]}, size)
        if coder.id == _DELTA and len(settings) == 1:
            return _filtered(data, {"id": lzma.FILTER_DELTA, "dist": settings[0] + 1}, size)
        if coder.id == _DEFLATE:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
        if coder.id == _BZIP2:
            return _bzip2(data, size)
    except (lzma.LZMAError, zlib.error, OSError, ValueError, EOFError, MemoryError) as error:
        raise SevenZipError("a compressed stream is broken") from error
    raise _UnknownError(f"the coder {coder.id.hex()} is not known")


def _ceiling(size: int) -> int:
    """No dictionary need be larger than what comes out."""
    return max(4096, min(_MAX_DICTIONARY, size))


def _lzma1(settings: bytes, size: int) -> dict[str, Any]:
    """LZMA SDK: (pb * 5 + lp) * 9 + lc, then the size of the dictionary."""
    code, length = settings[0], int.from_bytes(settings[1:], "little")
    if code >= 9 * 5 * 5:
        raise SevenZipError("the settings of a coder are broken")
    lc, rest = code % 9, code // 9
    return {
        "id": lzma.FILTER_LZMA1,
        "dict_size": max(4096, min(length, _ceiling(size))),
        "lc": lc,
        "lp": rest % 5,
        "pb": rest // 5,
    }


def _lzma(data: bytes, filters: list[dict[str, Any]], size: int) -> bytes:
    machine = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
    out = machine.decompress(data, size + 1)
    while len(out) < size and not machine.eof and not machine.needs_input:
        piece = machine.decompress(b"", size + 1 - len(out))
        if not piece:
            break
        out += piece
    return out


def _bzip2(data: bytes, size: int) -> bytes:
    """7-Zip writes several streams in a row where it works in threads."""
    out = b""
    while data and len(out) <= size:
        machine = bz2.BZ2Decompressor()
        out += machine.decompress(data, size + 1 - len(out))
        if not machine.eof:
            break
        data = machine.unused_data
    return out


def _filtered(data: bytes, one: dict[str, Any], size: int) -> bytes:
    """Undo a filter that only moves numbers: liblzma runs one only in front of a coder.

    So the bytes go in as chunks of LZMA2 that are stored, not compressed: a mark (1 where the
    dictionary begins anew, 2 after it), the length less one in two bytes, the bytes; 0 ends.
    """
    chunks, step = [], 1 << 16
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        mark = b"\x01" if start == 0 else b"\x02"
        chunks.append(mark + (len(piece) - 1).to_bytes(2, "big") + piece)
    packed = b"".join(chunks) + b"\x00"
    filters = [one, {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}]
    return _lzma(packed, filters, size)
