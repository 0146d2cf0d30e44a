"""The headers of a tar archive, of every dialect, read strictly: what readers differ in is said.

A member is described by a block, and by headers before it that take the place of what the block
says: GNU's long names, pax records. Readers differ in which they believe, and one that takes
another size reads the next header out of the middle of a file. Sources: POSIX.1-2017 pax,
GNU tar manual ("Basic Tar Format"), star(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

BLOCK = 512
MAX_MEMBERS = 100_000
# Longer names and records are nobody's.
_MAX_EXTRA = 1 << 20

REGULAR, HARD, SYMBOLIC, FOLDER, SPARSE = "0", "1", "2", "5", "S"
_EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK = "x", "g", "L", "K"
_OCTAL = re.compile(rb" *([0-7]+)[ \x00]*\Z")
_EMPTY = re.compile(rb"[ \x00]*\Z")
_RENAMES = ("path", "linkpath", "size")


@dataclass(frozen=True, slots=True)
class TarMember:
    """One member. Its stored bytes are `data[start : start + size]`; `kind` is its letter."""

    name: str
    kind: str
    link: str
    mode: int
    start: int
    size: int
    header: int
    pax: dict[str, str]
    # GNU's old map of a sparse file: (offset, length), and the size it unfolds to.
    holes: tuple[tuple[int, int], ...] = ()
    unfolded: int = 0


@dataclass(frozen=True, slots=True)
class TarProblem:
    """`broken` means that the rest was not read; else readers differ."""

    broken: bool
    reason: str
    offset: int
    member: str | None = None


@dataclass(slots=True)
class _Pending:
    """What headers said of the member that follows them."""

    pax: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    link: str | None = None


class TarBytes(Protocol):
    """Where an archive's bytes come from. It is read from its beginning to its end, never back."""

    def piece(self, at: int, length: int) -> bytes:
        """`length` bytes from `at`, or fewer where the archive ends."""
        ...

    def reaches(self, end: int) -> bool:
        """True where the archive has `end` bytes or more. What lies before may be let go."""
        ...


@dataclass(frozen=True, slots=True)
class _Held:
    data: memoryview

    def piece(self, at: int, length: int) -> bytes:
        return bytes(self.data[at : at + length])

    def reaches(self, end: int) -> bool:
        return end <= len(self.data)


def resembles_tar(head: bytes) -> bool:
    """True where `head` begins with a header whose checksum is right, of any dialect."""
    return len(head) >= BLOCK and any(head[:BLOCK]) and _sum_is_right(head[:BLOCK])


def read_tar(data: memoryview) -> Iterator[TarMember | TarProblem]:
    """The members in order, and what is wrong between them. Never raises for any content."""
    return read_tar_bytes(_Held(data), MAX_MEMBERS)


def read_tar_bytes(source: TarBytes, most: int) -> Iterator[TarMember | TarProblem]:
    """The members of an archive that need not be in memory: `read_tar`, up to `most` of them.

    Each member's content may be read, forwards, before the next one is asked for.
    """
    at, pending, zeros = 0, _Pending(), 0
    count = 0
    shared: dict[str, str] = {}
    while block := source.piece(at, BLOCK):
        if not any(block):
            zeros += 1
            at += BLOCK
            continue
        if zeros:
            # One block of zeros ends the archive for some, two do for all.
            yield TarProblem(False, "Something follows the end of the archive.", at)
            if zeros > 1 and not _sum_is_right(block):
                return
        zeros = 0
        if len(block) < BLOCK or not _sum_is_right(block):
            yield TarProblem(True, "The archive is broken: a header's checksum is wrong.", at)
            return
        count += 1
        if count > most:
            yield TarProblem(True, f"The archive has more than {most} members.", at)
            return
        size = _number(block[124:136])
        kind = chr(block[156]) if block[156] else REGULAR
        if size is None:
            yield TarProblem(True, "A member has no size that readers agree on.", at)
            return
        start = at + BLOCK
        if kind in (_EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK):
            content = source.piece(start, min(size, _MAX_EXTRA))
            yield from _extra(content, kind, size, at, pending, shared)
        else:
            member, problems = _member(source, block, kind, size, at, pending, shared)
            yield from problems
            yield member
            size, start = member.size, member.start
            pending = _Pending()
        if not source.reaches(start + size):
            yield TarProblem(True, "The archive breaks off inside of a member.", at)
            return
        at = start + -(-size // BLOCK) * BLOCK
    if pending.pax or pending.name is not None:
        yield TarProblem(False, "The last header describes a member that is not there.", at)


def _sum_is_right(block: bytes) -> bool:
    said = _number(block[148:156])
    plain = sum(block[:148]) + 8 * 32 + sum(block[156:])
    # Old writers summed signed bytes.
    signed = plain - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
    return said is not None and said in (plain, signed)


def _number(raw: bytes) -> int | None:
    """A number in octal, or in base 256 with the first bit set (GNU); None where it is neither."""
    if raw[:1] == b"\x80":
        return int.from_bytes(raw[1:], "big")
    if _EMPTY.match(raw):
        return 0
    found = _OCTAL.match(raw.split(b"\x00", 1)[0])
    return int(found.group(1), 8) if found else None


def _text(raw: bytes) -> str:
    return raw.split(b"\x00", 1)[0].decode("utf-8", "surrogateescape")


def _extra(
    content: bytes, kind: str, size: int, at: int, pending: _Pending, shared: dict[str, str]
) -> Iterator[TarProblem]:
    """A header that describes what follows it."""
    if size > _MAX_EXTRA:
        yield TarProblem(True, "A header is longer than the limit.", at)
    elif kind in (_LONG_NAME, _LONG_LINK):
        text = _text(content[:size])
        before = pending.name if kind == _LONG_NAME else pending.link
        if before not in (None, text):
            yield TarProblem(False, "Two headers give one member two names.", at)
        if kind == _LONG_NAME:
            pending.name = text
        else:
            pending.link = text
    else:
        records = _records(content[:size])
        target = shared if kind == _GLOBAL else pending.pax
        if records is None:
            yield TarProblem(False, "The records of a pax header do not fit together.", at)
            return
        for key, value in records:
            if target.get(key, value) != value:
                yield TarProblem(False, f"Two pax records give {key[:40]} two values.", at)
            if kind == _GLOBAL and (key in _RENAMES or key.startswith("GNU.sparse")):
                yield TarProblem(False, "One header renames or resizes every member.", at)
            target[key] = value


def _records(content: bytes) -> list[tuple[str, str]] | None:
    """POSIX pax: `length key=value\\n`, the length in decimal and of all of it."""
    found, at = [], 0
    content = content.rstrip(b"\x00")
    while at < len(content):
        space = content.find(b" ", at, at + 12)
        digits = content[at:space] if space > 0 else b""
        if not digits.isdigit():
            return None
        end = at + int(digits)
        if not space < end <= len(content) or content[end - 1 : end] != b"\n":
            return None
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not equals:
            return None
        found.append((key.decode("utf-8", "replace"), value.decode("utf-8", "surrogateescape")))
        at = end
    return found


def _member(
    source: TarBytes,
    block: bytes,
    kind: str,
    size: int,
    at: int,
    pending: _Pending,
    shared: dict[str, str],
) -> tuple[TarMember, list[TarProblem]]:
    problems: list[TarProblem] = []
    pax = {**shared, **pending.pax}
    short = _text(block[:100])
    # Only POSIX's own form has a prefix; GNU keeps other things there.
    if block[257:263] == b"ustar\x00" and (prefix := _text(block[345:500])):
        short = f"{prefix}/{short}"
    name = pending.name if pending.name is not None else short
    if "path" in pax:
        fits = pax["path"].isascii() and len(pax["path"]) <= 100
        if pending.name not in (None, pax["path"]) or (fits and not _same(pax["path"], short)):
            problems.append(TarProblem(False, "Readers differ in the member's name.", at, name))
        name = pax["path"]
    # A sparse file's name in its block is the writer's own invention.
    name = pax.get("GNU.sparse.name", name)
    if "\x00" in name:
        problems.append(TarProblem(False, "Readers differ in the member's name.", at, name))
    link = pax.get("linkpath", pending.link if pending.link is not None else _text(block[157:257]))
    start, unfolded = at + BLOCK, 0
    holes: tuple[tuple[int, int], ...] = ()
    if "size" in pax:
        said = int(pax["size"]) if re.fullmatch(r"\d{1,18}", pax["size"]) else -1
        # The block holds up to 8 GiB; a record that differs below that serves no honest writer.
        if said != size and (said < 1 << 33 or size not in (0, said)):
            problems.append(TarProblem(False, "Readers differ in the member's size.", at, name))
        size = max(said, 0)
    if kind in (HARD, SYMBOLIC, FOLDER, "3", "4", "6") and size:
        # Some readers skip the content of a link, others take the next header out of it.
        problems.append(TarProblem(False, "A member that is no file has a content.", at, name))
    if kind == SPARSE:
        start, holes, unfolded = _old_sparse(source, block, at)
    mode = _number(block[100:108]) or 0
    return TarMember(name, kind, link, mode, start, size, at, pax, holes, unfolded), problems


def _same(one: str, two: str) -> bool:
    return one.rstrip("/").removeprefix("./") == two.rstrip("/").removeprefix("./")


def _old_sparse(
    source: TarBytes, block: bytes, at: int
) -> tuple[int, tuple[tuple[int, int], ...], int]:
    """GNU: four pairs in the block, 21 more in each block that follows while a flag says so."""
    found = _pairs(block[386:482])
    more, at = block[482], at + BLOCK
    while more and len(found) < 100_000:
        block_more = source.piece(at, BLOCK)
        if len(block_more) < BLOCK:
            break
        found += _pairs(block_more[:504])
        more, at = block_more[504], at + BLOCK
    return at, tuple(found), _number(block[483:495]) or 0


def _pairs(raw: bytes) -> list[tuple[int, int]]:
    found = []
    for at in range(0, len(raw), 24):
        offset, length = _number(raw[at : at + 12]), _number(raw[at + 12 : at + 24])
        if offset is not None and length:
            found.append((offset, length))
    return found
