"""The directory of a zip archive, read strictly: what two readers could take differently is said.

An archive describes each member twice, in the directory at its end and in a header before the
content. Readers differ in which they believe, in which of two equal names they take, and in
where they think the archive begins. Each difference is a way to show a checker one member and
a loader another; here every one is a problem with the rule `zip.ambiguous`.

Source: PKWARE APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

MAX_ENTRIES = 100_000
STORED, DEFLATED = 0, 8
ENCRYPTED, STREAMED, UTF8 = 0x0001, 0x0008, 0x0800

_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_CENTRAL, _LOCAL, _DESCRIPTOR = b"PK\x01\x02", b"PK\x03\x04", b"PK\x07\x08"
_END_FORM = struct.Struct("<4s4H2IH")
_END64_FORM = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_FORM = struct.Struct("<4sIQI")
_CENTRAL_FORM = struct.Struct("<4s6H3I5H2I")
_LOCAL_FORM = struct.Struct("<4s5H3I2H")
_EXTRA_FORM = struct.Struct("<2H")
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_UNIX, _KIND, _LINK = 3, 0o170000, 0o120000
_MOST16, _MOST32 = 0xFFFF, 0xFFFFFFFF
_TAIL = _END_FORM.size + _MOST16
_UNSAFE = re.compile(r"(^|/)\.\.(/|$)|^/|^[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Entry:
    """One member, as the directory says. Its bytes are `data[start : start + packed]`."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    header: int
    start: int


@dataclass(frozen=True, slots=True)
class Problem:
    rule: str
    reason: str
    offset: int | None = None
    member: str | None = None


@dataclass(slots=True)
class Listing:
    """The members that could be placed, and what is wrong with the archive."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def ambiguous(self, reason: str, offset: int | None = None, member: str | None = None) -> None:
        self.problems.append(Problem("zip.ambiguous", reason, offset, member))

    def broken(self, reason: str, offset: int | None = None) -> None:
        self.problems.append(Problem("scan.not_evaluated", reason, offset))


@dataclass(frozen=True, slots=True)
class _Directory:
    count: int
    start: int
    end: int


def read_zip(data: memoryview) -> Listing:
    """Read the directory of the archive in `data`. Never raises for any content.

    (1) APPNOTE 4.3.16: one end record, and nothing after it.
    (2) APPNOTE 4.3.14: its 64-bit form, where there is one, says the same.
    (3) APPNOTE 4.3.12: the directory holds as many entries as the end record says.
    (4) APPNOTE 4.3.7: each entry's own header says what the directory says.
    (5) No name comes twice, no content lies in another, no header lies outside the directory.
    """
    listing = Listing()
    directory = _find_directory(data, listing)
    if directory is None:
        listing.entries += _streamed(data)
        return listing
    entries = list(_central(data, directory, listing))
    for entry in entries:
        _check_local(data, entry, directory, listing)
    _check_names(listing)
    if not any(problem.rule == "scan.not_evaluated" for problem in listing.problems):
        _check_layout(data, directory, listing)
    return listing


def ends_as_zip(data: memoryview) -> bool:
    """True where readers that look at the end of a file would take `data` for an archive."""
    listing = Listing()
    directory = _find_directory(data, listing)
    return directory is not None and next(_central(data, directory, listing), None) is not None


def _find_directory(data: memoryview, listing: Listing) -> _Directory | None:
    """Steps 1 and 2: where the directory lies."""
    end = _find_end(data, listing)
    if end is None:
        listing.broken("The zip archive has no end record.")
        return None
    _, disk, first, here, count, size, start, comment = _END_FORM.unpack_from(data, end)
    # (1)
    if end + _END_FORM.size + comment != len(data):
        listing.ambiguous("Bytes follow the end of the archive.", end)
    if disk or first or here != count:
        listing.ambiguous("The archive claims to lie on several disks.", end)
    # (2)
    before = end
    wide = _find_wide(data, end, listing)
    if wide is not None:
        before = wide[0]
        for narrow, most, real in zip(
            (count, size, start), (_MOST16, _MOST32, _MOST32), wide[1], strict=True
        ):
            if narrow not in (most, real):
                listing.ambiguous("The two end records of the archive differ.", end)
        count, size, start = wide[1]
    if start + size != before:
        listing.ambiguous("The archive does not begin where the file does.", before)
        start = before - size
    if start < 0 or size > before:
        listing.broken("The directory of the archive lies outside of the file.", end)
        return None
    return _Directory(count, start, start + size)


def _find_end(data: memoryview, listing: Listing) -> int | None:
    """Where the end record lies: the last that ends with the file, else the last of all."""
    base = max(0, len(data) - _TAIL)
    tail = bytes(data[base:])
    found, at = [], tail.rfind(_END)
    while at >= 0:
        found.append(base + at)
        at = tail.rfind(_END, 0, at)
    whole = [end for end in found if end + _END_FORM.size <= len(data)]
    for end in whole:
        if end + _END_FORM.size + _END_FORM.unpack_from(data, end)[-1] == len(data):
            break
    else:
        if not whole:
            return None
        end = whole[0]
    if found[0] != end:
        # In the comment: readers that search from the end meet it first.
        listing.ambiguous("The archive has two ends.", found[0])
    return end


def _find_wide(
    data: memoryview, end: int, listing: Listing
) -> tuple[int, tuple[int, int, int]] | None:
    """Where the 64-bit end record lies, and its count, size and start; None where there is none."""
    locator = end - _LOCATOR_FORM.size
    if locator < 0 or bytes(data[locator : locator + 4]) != _LOCATOR:
        return None
    _, disk, at, disks = _LOCATOR_FORM.unpack_from(data, locator)
    if at + _END64_FORM.size != locator or bytes(data[at : at + 4]) != _END64:
        listing.ambiguous("The 64-bit end record is not where the archive says.", locator)
        return None
    *_, here_disk, first, here, count, size, start = _END64_FORM.unpack_from(data, at)
    if here != count or disk or disks > 1 or here_disk or first:
        listing.ambiguous("The archive claims to lie on several disks.", at)
    return at, (count, size, start)


def _central(data: memoryview, directory: _Directory, listing: Listing) -> Iterator[Entry]:
    """Step 3: the directory's entries."""
    at, found = directory.start, 0
    while at < directory.end:
        if found >= MAX_ENTRIES:
            listing.broken(f"The archive has more than {MAX_ENTRIES} members.", at)
            return
        if at + _CENTRAL_FORM.size > directory.end or bytes(data[at : at + 4]) != _CENTRAL:
            listing.broken("The directory of the archive is broken.", at)
            return
        fields = _CENTRAL_FORM.unpack_from(data, at)
        flags, method, crc, packed, size = fields[3], fields[4], *fields[7:10]
        name_length, extra_length, comment_length = fields[10:13]
        name_at = at + _CENTRAL_FORM.size
        extra_at = name_at + name_length
        after = extra_at + extra_length + comment_length
        if after > directory.end:
            listing.broken("The directory of the archive is broken.", at)
            return
        raw = bytes(data[name_at:extra_at])
        name = _name(raw, flags)
        extra = bytes(data[extra_at : extra_at + extra_length])
        entry = Entry(name, flags, method, crc, packed, size, fields[16], -1)
        yield _widened(entry, extra, at, listing)
        if fields[1] >> 8 == _UNIX and (fields[15] >> 16) & _KIND == _LINK:
            reason = "The member is a link: what it leads to is not in the archive."
            listing.problems.append(Problem("zip.unsafe_path", reason, at, name))
        if _renamed(extra, raw) or "\x00" in name or "\ufffd" in name:
            listing.ambiguous("Readers differ in the name of this member.", at, name)
        at, found = after, found + 1
    if found != directory.count:
        listing.ambiguous("The archive holds another number of members than it says.", at)


def _name(raw: bytes, flags: int) -> str:
    return raw.decode("utf-8", "replace") if flags & UTF8 else raw.decode("cp437")


def _extras(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _EXTRA_FORM.size <= len(extra):
        kind, length = _EXTRA_FORM.unpack_from(extra, at)
        at += _EXTRA_FORM.size
        yield kind, extra[at : at + length]
        at += length


def _renamed(extra: bytes, raw: bytes) -> bool:
    # APPNOTE 4.6.9: a name in UTF-8, which some readers prefer and some do not know.
    return any(kind == _UNICODE_PATH and value[5:] != raw for kind, value in _extras(extra))


def _widened(entry: Entry, extra: bytes, at: int, listing: Listing) -> Entry:
    """APPNOTE 4.5.3: numbers that do not fit in 32 bits stand in an extra field, in this order."""
    wanted = [key for key in ("size", "packed", "header") if getattr(entry, key) == _MOST32]
    wide = [value for kind, value in _extras(extra) if kind == _ZIP64]
    if not wanted:
        return entry
    if len(wide) != 1 or len(wide[0]) < 8 * len(wanted):
        listing.ambiguous("Readers differ in how large this member is.", at, entry.name)
        return entry
    numbers = struct.unpack_from(f"<{len(wanted)}Q", wide[0])
    return replace(entry, **dict(zip(wanted, numbers, strict=True)))


def _check_local(data: memoryview, entry: Entry, directory: _Directory, listing: Listing) -> None:
    """Step 4: compare, and place the content."""
    at = entry.header
    if at + _LOCAL_FORM.size > directory.start or bytes(data[at : at + 4]) != _LOCAL:
        listing.ambiguous("The directory leads to no member here.", at, entry.name)
        return
    _, _, flags, method, _, _, crc, packed, size, names, extras = _LOCAL_FORM.unpack_from(data, at)
    name_at = at + _LOCAL_FORM.size
    start = name_at + names + extras
    if start + entry.packed > directory.start:
        listing.ambiguous("A member reaches into the directory.", at, entry.name)
        return
    raw = bytes(data[name_at : name_at + names])
    extra = bytes(data[name_at + names : start])
    local = _widened(Entry("", flags, method, crc, packed, size, 0, start), extra, at, listing)
    same = (flags, method) == (entry.flags, entry.method) and _name(raw, flags) == entry.name
    numbers = (local.crc, local.packed, local.size)
    known = (entry.crc, entry.packed, entry.size)
    # APPNOTE 4.4.4: a writer that streams puts zeros here, and the numbers after the content.
    if flags & STREAMED:
        same = same and all(one in (0, two) for one, two in zip(numbers, known, strict=True))
    else:
        same = same and numbers == known
    if not same or _renamed(extra, raw):
        listing.ambiguous("The directory and the member's own header differ.", at, entry.name)
    listing.entries.append(replace(entry, start=start))


def _streamed(data: memoryview) -> Iterator[Entry]:
    """What a reader finds that goes from header to header and needs no directory."""
    at = 0
    for _ in range(MAX_ENTRIES):
        if at + _LOCAL_FORM.size > len(data) or bytes(data[at : at + 4]) != _LOCAL:
            return
        _, _, flags, method, _, _, crc, packed, size, names, extras = _LOCAL_FORM.unpack_from(
            data, at
        )
        start = at + _LOCAL_FORM.size + names + extras
        end = start + packed
        if flags & STREAMED and not packed:
            end = _next_mark(data, start)
            packed, size, crc = end - start, 0, 0
        if end > len(data):
            packed = max(0, len(data) - start)
        raw = bytes(data[at + _LOCAL_FORM.size : at + _LOCAL_FORM.size + names])
        yield Entry(_name(raw, flags), flags, method, crc, packed, size, at, start)
        at = _next_mark(data, end, _LOCAL)


def _next_mark(data: memoryview, at: int, *marks: bytes) -> int:
    """Where the next header or descriptor begins."""
    step = 1 << 16
    for start in range(at, len(data), step):
        piece = bytes(data[start : start + step + 3])
        found = [
            place
            for mark in marks or (_DESCRIPTOR, _LOCAL, _CENTRAL)
            if (place := piece.find(mark)) >= 0
        ]
        if found:
            return start + min(found)
    return len(data)


def _check_names(listing: Listing) -> None:
    """Step 5, names: readers fold case and spell folders differently."""
    seen: set[str] = set()
    for entry in listing.entries:
        plain = entry.name.replace("\\", "/")
        parts = [part for part in plain.casefold().split("/") if part not in ("", ".")]
        key = "/".join(parts)
        if key in seen:
            listing.ambiguous(
                "The archive names this member twice; letter case is no difference.",
                entry.header,
                entry.name,
            )
        seen.add(key)
        if _UNSAFE.search(plain):
            listing.problems.append(
                Problem(
                    "zip.unsafe_path",
                    "Unpacking the archive would write outside of its folder.",
                    entry.header,
                    entry.name,
                )
            )


def _check_layout(data: memoryview, directory: _Directory, listing: Listing) -> None:
    """Step 5, places: what a reader that streams would see, and the directory does not."""
    at = 0
    for entry in sorted(listing.entries, key=lambda entry: entry.header):
        if entry.header < at:
            listing.ambiguous("Two members lie in one another.", entry.header, entry.name)
        elif _hides_member(data, at, entry.header):
            listing.ambiguous("A member is missing from the directory.", at)
        at = max(at, entry.start + entry.packed)
    if listing.entries and _hides_member(data, at, directory.start):
        listing.ambiguous("A member is missing from the directory.", at)


def _hides_member(data: memoryview, start: int, end: int) -> bool:
    step = 1 << 16
    return any(
        _LOCAL in bytes(data[at : min(at + step + 3, end)]) for at in range(start, end, step)
    )
