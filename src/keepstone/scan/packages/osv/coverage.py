"""What silence of a database says something about: the ecosystems and releases it is there for.

A record may name packages of several ecosystems, and one that came with npm's data says nothing
about how much of PyPI's is there. So a record speaks for an ecosystem, or a release of one, where
it names no other; in a folder that `keepstone vulndb update` wrote, where it lies in the archive of
that ecosystem.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.scan.packages.names import normal_ecosystem
from keepstone.scan.vulndb.record import ARCHIVE, read_record

# Clocks differ by so much; a record from later than that says nothing about any age.
MAX_AHEAD_MS = 86_400_000


@dataclass(slots=True)
class Coverage:
    """How many records there are for each release, and when the newest of them changed (ms)."""

    covered: dict[str, int] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)

    def add(self, release: str, at: int | None) -> None:
        """One more record; `at` is None where its time is none to go by."""
        self.covered[release] = self.covered.get(release, 0) + 1
        if at is not None:
            self.newest[release] = max(at, self.newest.get(release, at))


def part_of(name: str) -> str:
    """The ecosystem in whose archive the record of this name lies, empty where in none."""
    part, archive, _ = name.partition(f"/{ARCHIVE}/")
    return normal_ecosystem(part) if archive else ""


def recorded_digest(folder: Path) -> Digest | None:
    """The digest of the whole folder when `vulndb update` wrote it, None where it did not."""
    try:
        return read_record(folder).digest
    except InputError:
        return None
