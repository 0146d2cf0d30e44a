"""Compressed streams: unpacked within bounds, and judged by what comes out.

Several streams in a row are one, as their own programs take them. lz4 and Zstandard need the
extra `compression`; without it they are not evaluated, by name.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from keepstone.core.finding import Finding
from keepstone.scan.allowance import Allowance
from keepstone.scan.view import View

# What is unpacked is held in memory, up to here.
MAX_UNPACKED = 256 << 20
# More than this, out of this many times fewer bytes, is a bomb: zeros alone pack so well.
_BOMB, _RATIO = 64 << 20, 200
_MEMORY = 256 << 20
_STEP = 1 << 16
# joblib's first compressed form: the mark, the unpacked length in 19 characters, then zlib.
ZFILE = b"ZF"
_ZFILE_HEAD = 2 + 19


class Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Lz4:
    """lz4's own machine, which takes its length by name only."""

    def __init__(self) -> None:
        from lz4.frame import LZ4FrameDecompressor

        self._machine = LZ4FrameDecompressor()

    @property
    def eof(self) -> bool:
        return bool(self._machine.eof)

    @property
    def unused_data(self) -> bytes:
        return self._machine.unused_data or b""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return bytes(self._machine.decompress(data, max_length=max_length))


class Zstandard:
    """The machine of Python 3.14's standard library, whose errors are of their own kind."""

    def __init__(self) -> None:
        from backports import zstd

        limit = {int(zstd.DecompressionParameter.window_log_max): _MEMORY.bit_length() - 1}
        self._error = zstd.ZstdError
        self._machine = zstd.ZstdDecompressor(options=limit)

    @property
    def eof(self) -> bool:
        return self._machine.eof

    @property
    def unused_data(self) -> bytes:
        return self._machine.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        try:
            return self._machine.decompress(data, max_length)
        except self._error as error:
            raise ValueError(str(error)) from error


_MACHINES: dict[str, Callable[[], Decompressor]] = {
    "zlib": zlib.decompressobj,
    "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=_MEMORY),
    "lzma": lambda: lzma.LZMADecompressor(memlimit=_MEMORY),
    "lz4": _Lz4,
    "zstd": Zstandard,
    "zfile": zlib.decompressobj,
}
# These may follow one another in a file and are read as one.
_IN_ROWS = ("gzip", "bzip2", "xz", "lz4", "zstd")
# Zeros behind these are padding to every reader.
_PADDED = ("gzip", "xz")
KINDS = tuple(_MACHINES)
_BROKEN = (zlib.error, lzma.LZMAError, OSError, EOFError, MemoryError, RuntimeError, ValueError)


def scan_compressed(view: View, kind: str) -> Iterator[Finding]:
    """Unpack a stream of `kind` and judge what comes out."""
    found = _unpacked(view, kind)
    if found.why:
        yield view.finding(found.rule, found.why)
    if found.content:
        yield from view.inside(f"({kind})", found.content)
    elif not found.why:
        yield view.unseen("Nothing comes out of the compressed stream.")


def _unpacked(view: View, kind: str) -> Unpacked:
    allowance, data = view.allowance, view.data
    if kind == "zfile":
        data = data[_ZFILE_HEAD:]
    whole, used, mark = bytearray(), 0, bytes(data[:2])
    while True:
        found = unpack(_MACHINES[kind](), data, allowance)
        data, used = data[found.used :], used + found.used
        if not whole and (found.why or not data):
            return found
        whole += found.content
        if is_bomb(len(whole), used):
            return Unpacked(memoryview(b""), "It is a bomb.", used, True)
        if found.why:
            return replace(found, content=memoryview(whole))
        if not data or (kind in _PADDED and not bytes(data[:_STEP]).strip(b"\x00")):
            return Unpacked(memoryview(whole), "", used)
        if kind not in _IN_ROWS or bytes(data[:2]) != mark:
            why = "Bytes follow the end of the compressed stream."
            return Unpacked(memoryview(whole), why, used)
        if len(whole) > MAX_UNPACKED or allowance.out_of_time():
            return Unpacked(memoryview(whole), "It unpacks to more than the limit.", used)


def first_of(data: memoryview, kind: str, most: int) -> bytes:
    """Up to `most` bytes of what comes out of a stream of `kind`; nothing where it is broken."""
    start = bytes(data[_ZFILE_HEAD if kind == "zfile" else 0 :][:_STEP])
    try:
        return _MACHINES[kind]().decompress(start, most)
    except _BROKEN:
        return b""


def is_bomb(unpacked: int, packed: int) -> bool:
    """True where so much comes out of so little that no honest file is like it."""
    return unpacked > _BOMB and unpacked > _RATIO * packed


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came out, why it is not all, how many bytes of the stream it took; or a bomb."""

    content: memoryview
    why: str
    used: int
    bomb: bool = False

    @property
    def rule(self) -> str:
        return "archive.bomb" if self.bomb else "scan.not_evaluated"


def unpack(machine: Decompressor, data: memoryview, allowance: Allowance) -> Unpacked:
    """Unpack one compressed stream, which begins where `data` does."""
    most, out = min(MAX_UNPACKED, allowance.unpacked), bytearray()
    why, at = "The compressed stream breaks off.", 0
    try:
        while at < len(data):
            piece = bytes(data[at : at + _STEP])
            at += len(piece)
            # One more than may be kept, so that a stream that fits exactly can end.
            out += machine.decompress(piece, most + 1 - len(out))
            if is_bomb(len(out), at):
                allowance.unpacked -= len(out)
                return Unpacked(memoryview(b""), "It is a bomb.", at, True)
            if machine.eof or len(out) > most:
                why = "" if len(out) <= most else "It unpacks to more than the limit."
                break
    except _BROKEN:
        why = "The compressed stream is broken."
    allowance.unpacked -= len(out)
    return Unpacked(memoryview(out), why, at - len(machine.unused_data))
