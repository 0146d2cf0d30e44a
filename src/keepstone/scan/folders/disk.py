"""Files on a disk, or in memory, as a folder scanner sees them: what was judged, and no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from keepstone.core.digest import Digest
from keepstone.core.finding import Finding
from keepstone.scan.folders.folder import MAX_READ
from keepstone.scan.rules import finding

# A file's bytes again, by its name; None where it cannot be read.
Content = Callable[[str], bytes | memoryview | None]


@dataclass(frozen=True, slots=True)
class JudgedFiles:
    """Files by their names in the folder, each with the path and digest of its report.

    A file that no longer has its digest is as good as one that cannot be read.
    """

    reports: Mapping[str, tuple[str, Digest | None]]
    content: Content
    kept: dict[str, bytes | memoryview | None] = field(default_factory=dict)

    def names(self) -> list[str]:
        return list(self.reports)

    def read(self, name: str) -> memoryview | None:
        if name not in self.kept:
            data = self.content(name)
            known = self.reports[name][1]
            sound = data is not None and len(data) <= MAX_READ and Digest.of(data) == known
            self.kept[name] = data if sound else None
        found = self.kept[name]
        return None if found is None else memoryview(found)

    def say(self, rule: str, reason: str, name: str) -> Finding:
        return finding(rule, reason, self.reports[name][0])
