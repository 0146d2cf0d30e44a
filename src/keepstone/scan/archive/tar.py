"""Tar archives: every member is judged, and every trick of unpacking is flagged.

Promise: clean only where each member is clean, stays inside of the folder it is unpacked into,
and is the same file to every reader. Members are opened by their place; two with one name are
both judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from keepstone.core.finding import Finding
from keepstone.scan.archive.paths import is_unsafe, key_of, parts_of, resolve
from keepstone.scan.archive.tarheaders import (
    FOLDER,
    HARD,
    REGULAR,
    SPARSE,
    SYMBOLIC,
    TarMember,
    read_tar,
)
from keepstone.scan.folders.folder import Folder
from keepstone.scan.folders.scanners import judge_folder
from keepstone.scan.view import View

_FILES = frozenset({REGULAR, "7", SPARSE})
# Labels and lists of folders that old GNU tar wrote: nothing is unpacked.
_NOTES = frozenset({"V", "D"})
# What is unfolded out of a sparse file is looked at up to here.
_MAX_UNFOLDED = 64 << 20


def scan_tar(view: View) -> Iterator[Finding]:
    """Judge every member of a tar archive."""
    look = _Look(view)
    for item in read_tar(view.data):
        if isinstance(item, TarMember):
            yield from look.member(item)
            if view.allowance.members < 0:
                yield view.unseen("There are more members than the limit.")
                return
        elif item.broken:
            yield view.unseen(item.reason, item.member)
        else:
            offset = item.offset if view.member is None else None
            yield view.finding("tar.ambiguous", item.reason, offset, item.member)
    yield from look.links()
    yield from judge_folder(Folder(look.files, view))


@dataclass(slots=True)
class _Look:
    """What was seen of the archive so far: its names, and which are links."""

    view: View
    seen: dict[str, str] = field(default_factory=dict)
    symbolic: dict[tuple[str, ...], tuple[str, str]] = field(default_factory=dict)
    under: dict[tuple[str, ...], str] = field(default_factory=dict)
    files: dict[str, memoryview] = field(default_factory=dict)

    def say(self, rule: str, reason: str, member: TarMember) -> Finding:
        offset = member.header if self.view.member is None else None
        return self.view.finding(rule, reason, offset, member.name)

    def member(self, member: TarMember) -> Iterator[Finding]:
        self.view.allowance.members -= 1
        kind, name = member.kind, member.name
        if kind in _NOTES:
            return
        yield from self.name(member)
        if kind in ("3", "4", "6"):
            yield self.say("tar.device", "The member is a device or a pipe.", member)
        elif member.mode & 0o6000 and kind in _FILES:
            yield self.say("tar.device", "The member runs with its owner's rights.", member)
        if kind == SYMBOLIC:
            parts = parts_of(name)
            if resolve(parts[:-1], member.link) is None:
                yield self.say("tar.link", "The link leads out of the archive.", member)
            self.symbolic[tuple(part.casefold() for part in parts)] = (name, member.link)
        elif kind == HARD:
            yield from self.hard(member)
        elif kind in _FILES:
            yield from self.content(member)
        elif kind != FOLDER and kind not in ("3", "4", "6"):
            reason = "Readers differ in what this kind of member is."
            yield self.say("tar.ambiguous", reason, member)
            yield from self.content(member)

    def name(self, member: TarMember) -> Iterator[Finding]:
        name = member.name
        if is_unsafe(name):
            reason = "Unpacking the archive would write outside of its folder."
            yield self.say("tar.unsafe_path", reason, member)
        key = key_of(name)
        known = self.seen.get(key)
        if known is not None and not known == member.kind == FOLDER:
            reason = "The archive names this member twice; letter case is no difference."
            yield self.say("tar.ambiguous", reason, member)
        self.seen[key] = member.kind
        parts = tuple(part.casefold() for part in parts_of(name))
        for depth in range(1, min(len(parts), 64)):
            self.under.setdefault(parts[:depth], name)

    def hard(self, member: TarMember) -> Iterator[Finding]:
        target = self.seen.get(key_of(member.link))
        if is_unsafe(member.link) or target is None:
            reason = "The member is one file with another that is not in the archive before it."
            yield self.say("tar.link", reason, member)
        elif target not in _FILES and target != HARD:
            yield self.say("tar.link", "The member is one file with what is no file.", member)
        else:
            self.files.setdefault(member.name, memoryview(b""))

    def links(self) -> Iterator[Finding]:
        """Members that are written through a link, whichever of the two comes first."""
        for parts, (name, _) in self.symbolic.items():
            if parts in self.under:
                reason = "Members are written through this link."
                yield self.view.finding("tar.link", reason, None, name)

    def content(self, member: TarMember) -> Iterator[Finding]:
        stored = self.view.data[member.start : member.start + member.size]
        self.files.setdefault(member.name, stored)
        if stored:
            yield from self.view.inside(member.name, stored)
        if member.kind == SPARSE or any(key.startswith("GNU.sparse") for key in member.pax):
            whole = unfold(member, stored)
            if whole is None or len(whole) > self.view.allowance.unpacked:
                reason = "The sparse member unfolds to more than the limit, or to nothing."
                yield self.view.unseen(reason, member.name)
                return
            self.view.allowance.unpacked -= len(whole)
            if whole:
                yield from self.view.inside(member.name, memoryview(whole))


def unfold(member: TarMember, stored: memoryview) -> bytes | None:
    """The file that a sparse member stands for, or None where it cannot be had."""
    size, holes = member.unfolded, list(member.holes)
    if member.kind != SPARSE:
        found = _pax_map(member, stored)
        if found is None:
            return None
        size, holes, stored = found
    if not 0 <= size <= _MAX_UNFOLDED:
        return None
    whole, at = bytearray(size), 0
    for offset, length in holes:
        if offset + length > size or at + length > len(stored):
            return None
        whole[offset : offset + length] = stored[at : at + length]
        at += length
    return bytes(whole)


def _pax_map(
    member: TarMember, stored: memoryview
) -> tuple[int, list[tuple[int, int]], memoryview] | None:
    """GNU's pax forms 0.1 (the map in a record) and 1.0 (the map before the content)."""
    pax = member.pax
    size = pax.get("GNU.sparse.realsize", pax.get("GNU.sparse.size", ""))
    if not re.fullmatch(r"\d{1,12}", size):
        return None
    if "GNU.sparse.map" in pax:
        numbers = pax["GNU.sparse.map"].split(",")
    elif pax.get("GNU.sparse.major") == "1":
        lines = bytes(stored[: 1 << 20]).split(b"\n", 200_001)
        if not lines[0].isdigit() or len(lines) <= 2 * int(lines[0]) + 1:
            return None
        used = lines[: 2 * int(lines[0]) + 1]
        numbers = [line.decode("latin-1") for line in used[1:]]
        length = sum(len(line) + 1 for line in used)
        stored = stored[-(-length // 512) * 512 :]
    else:
        return None
    if len(numbers) % 2 or not all(re.fullmatch(r"\d{1,12}", item) for item in numbers):
        return None
    values = [int(item) for item in numbers]
    return int(size), list(zip(values[::2], values[1::2], strict=True)), stored
