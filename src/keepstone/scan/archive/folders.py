"""Zip archives as folders: a `.mar`, a packed model folder. Their members name one another."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from keepstone.core.finding import Finding
from keepstone.scan.archive.zipdir import DEFLATED, ENCRYPTED, STORED, Entry, read_zip
from keepstone.scan.folders.folder import MAX_READ
from keepstone.scan.folders.scanners import judge_folder
from keepstone.scan.view import Scanner, View


def also_as_folder(scanner: Scanner) -> Scanner:
    """The scanner of a zip archive's members, and after it what only all of them show."""

    def scan(view: View) -> Iterator[Finding]:
        yield from scanner(view)
        entries = {entry.name: entry for entry in read_zip(view.data).entries}
        yield from judge_folder(_Members(view, entries))

    return scan


@dataclass(frozen=True, slots=True)
class _Members:
    view: View
    entries: dict[str, Entry]
    read_before: dict[str, bytes] = field(default_factory=dict)

    def names(self) -> list[str]:
        return [name for name in self.entries if not name.endswith("/")]

    def read(self, name: str) -> memoryview | None:
        """A small member's content, as its scanner saw it; None where that is not plain."""
        entry = self.entries.get(name)
        if entry is None or entry.flags & ENCRYPTED or entry.size > MAX_READ:
            return None
        packed = self.view.data[entry.start : entry.start + entry.packed]
        if entry.method == STORED:
            return packed
        if entry.method != DEFLATED:
            return None
        if name not in self.read_before:
            try:
                machine = zlib.decompressobj(-zlib.MAX_WBITS)
                self.read_before[name] = machine.decompress(bytes(packed), MAX_READ)
            except zlib.error:
                return None
        return memoryview(self.read_before[name])

    def say(self, rule: str, reason: str, name: str) -> Finding:
        return self.view.finding(rule, reason, None, name)
