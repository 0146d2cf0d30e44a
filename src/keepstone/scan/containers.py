"""Containers that hide pickles: zip archives (torch), compressed streams (joblib), NumPy.

Each member is opened by its place in the archive, never by its name, so that a duplicate or a
decoy hides nothing. What is found is looked at with bounds on size, count and depth; what is
not looked at is said. Nothing in a container is called clean yet.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from keepstone.core.finding import Finding
from keepstone.scan.formats import identify
from keepstone.scan.pickle import scan_stream
from keepstone.scan.rules import finding, printable
from keepstone.scan.view import FileView

MAX_MEMBERS = 10_000
# A member is looked at up to here; pickles of real checkpoints are far smaller.
MAX_MEMBER_BYTES = 64 << 20
MAX_TOTAL_BYTES = 512 << 20
_NOT_YET = "Checks for the format {} are not here yet."


def scan_zip(view: FileView) -> Iterator[Finding]:
    """Look into a zip archive: pickles in any member, and names that readers take differently."""
    path = view.path
    try:
        with zipfile.ZipFile(ViewFile(view.data)) as archive:
            yield from _entries(archive, path)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, OSError) as error:
        yield finding("scan.not_evaluated", f"The zip archive is broken: {_words(error)}.", path)
    yield finding("scan.not_evaluated", _NOT_YET.format("zip"), path)


def _entries(archive: zipfile.ZipFile, path: str) -> Iterator[Finding]:
    entries = archive.infolist()
    if len(entries) > MAX_MEMBERS:
        reason = f"The archive has more than {MAX_MEMBERS} entries."
        yield finding("scan.not_evaluated", reason, path)
    seen: set[str] = set()
    budget = MAX_TOTAL_BYTES
    for entry in entries[:MAX_MEMBERS]:
        name = entry.filename.replace("\\", "/").casefold()
        if name in seen:
            yield finding(
                "zip.ambiguous",
                f"The entry {printable(entry.filename)} comes twice; letter case is no difference.",
                path,
                entry.header_offset,
                entry.filename,
            )
        seen.add(name)
        if entry.is_dir() or budget <= 0:
            continue
        try:
            with archive.open(entry) as member:
                content = member.read(min(MAX_MEMBER_BYTES, budget))
        except zipfile.BadZipFile as error:
            rule = "zip.ambiguous" if "differ" in str(error) else "scan.not_evaluated"
            reason = f"An entry cannot be read: {_words(error)}."
            yield finding(rule, reason, path, entry.header_offset, entry.filename)
            continue
        except (NotImplementedError, RuntimeError, EOFError, zlib.error, lzma.LZMAError) as error:
            reason = f"An entry cannot be read: {_words(error)}."
            yield finding("scan.not_evaluated", reason, path, entry.header_offset, entry.filename)
            continue
        budget -= len(content)
        yield from _pickles_in(memoryview(content), path, entry.filename)
    if budget <= 0:
        yield finding("scan.not_evaluated", "The archive unpacks to more than the limit.", path)


def scan_compressed(view: FileView) -> Iterator[Finding]:
    """Look into a compressed stream, as joblib writes them."""
    kind = identify(view.data)
    content, whole = _unpack(kind, view.data)
    yield from _pickles_in(memoryview(content), view.path, f"({kind})")
    if not whole:
        reason = "The stream is broken, or unpacks to more than the limit."
        yield finding("scan.not_evaluated", reason, view.path)
    yield finding("scan.not_evaluated", _NOT_YET.format(kind), view.path)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    "zlib": zlib.decompressobj,
    "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=256 << 20),
}


def _unpack(kind: str, data: memoryview) -> tuple[bytes, bool]:
    """At most MAX_MEMBER_BYTES of content, and whether that is all of it."""
    machine = _DECOMPRESSORS[kind]()
    out = io.BytesIO()
    step = 1 << 16
    try:
        for start in range(0, len(data), step):
            left = MAX_MEMBER_BYTES - out.tell()
            out.write(machine.decompress(bytes(data[start : start + step]), left))
            if machine.eof or out.tell() >= MAX_MEMBER_BYTES:
                break
    except (zlib.error, lzma.LZMAError, OSError, EOFError):
        return out.getvalue(), False
    return out.getvalue(), machine.eof


_OBJECT_DTYPE = re.compile(rb"'descr'\s*:[^}]*O")


def scan_numpy(view: FileView) -> Iterator[Finding]:
    """Look into a .npy file: an array of objects is a pickle behind a header."""
    header = bytes(view.data[:12])
    wide = header[6:7] > b"\x01"
    start = 12 if wide else 10
    end = start + int.from_bytes(header[8:start], "little")
    described = bytes(view.data[start : min(end, start + (1 << 16))])
    # More descriptions than NumPy writes count as objects: the pickle walk decides.
    if _OBJECT_DTYPE.search(described):
        yield from scan_stream(view.data[end:], view.path, "(object array)")
    yield finding("scan.not_evaluated", _NOT_YET.format("numpy"), view.path)


def _pickles_in(content: memoryview, path: str, member: str) -> Iterator[Finding]:
    kind = identify(content)
    if kind == "pickle":
        yield from scan_stream(content, path, member)
    elif kind in _DECOMPRESSORS or kind == "zip":
        reason = f"An archive in an archive ({kind}) is not looked into yet."
        yield finding("scan.not_evaluated", reason, path, None, member)


def _words(error: Exception) -> str:
    return printable(str(error).rstrip(".") or type(error).__name__)


class ViewFile(io.RawIOBase):
    """A seekable file over a view, so that an archive of any size is never copied whole."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        base = (0, self._at, len(self._data))[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: object, /) -> int:
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # any writable buffer
        piece = self._data[self._at : self._at + len(target)]
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)
