"""A folder of OSV records as one database: what it covers, how old it is, and its digest.

One pass reads, hashes and judges the same bytes. Of most records only the names of their packages
are looked at; those about a wanted package are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from keepstone.core.digest import Digest
from keepstone.scan.packages.names import base_of, normal_ecosystem, normal_name
from keepstone.scan.packages.osv.coverage import (
    MAX_AHEAD_MS,
    Coverage,
    part_of,
    recorded_digest,
)
from keepstone.scan.packages.osv.files import MAX_RECORDS, MAX_TOTAL, records_of
from keepstone.scan.packages.osv.record import (
    BadRecordError,
    Head,
    Record,
    read_head,
    read_record,
)
from keepstone.scan.packages.package import Package
from keepstone.scan.rules import printable

# So many broken records are named, the rest are counted.
_NAMED = 20
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Database:
    """What was read. `covered` counts the records per ecosystem and release (`Debian:12`), and
    `newest` is the time of the newest of them (ms): of what is there *for* that release, not of
    what others say about it (`Coverage`). `advisories` and `suspect` are about the wanted packages,
    by ecosystem and normal name; `suspect` are reasons why records about a package cannot be
    trusted. `broken` are records of which nobody knows whom they are about.
    """

    path: str
    digest: Digest
    records: int
    covered: Mapping[str, int]
    newest: Mapping[str, int]
    advisories: Mapping[Key, tuple[Record, ...]]
    suspect: Mapping[Key, tuple[str, ...]]
    broken: tuple[str, ...]

    @property
    def newest_ms(self) -> int | None:
        """The time of the newest record of all, None where there is none."""
        return max(self.newest.values(), default=None)


def key_of(package: Package) -> Key:
    """What advisories about the package are found by: the source package's name."""
    name = package.source or package.name
    return base_of(package.ecosystem), normal_name(package.ecosystem, name)


def read_database(path: Path, packages: Iterable[Package], now_ms: int) -> Database:
    """Read the folder or zip `path` for what it says about `packages`.

    Raises InputError `osv.missing`, `osv.unreadable`. A record that is broken is kept as such.
    """
    return _Reading({key_of(package) for package in packages}, now_ms).run(path)


@dataclass(slots=True)
class _Reading:
    wanted: set[Key]
    now_ms: int
    own: Coverage = field(default_factory=Coverage)
    by_part: Coverage = field(default_factory=Coverage)
    advisories: dict[Key, list[Record]] = field(default_factory=dict)
    suspect: dict[Key, list[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    broken_count: int = 0

    def run(self, path: Path) -> Database:
        lines: list[bytes] = []
        records, size = 0, 0
        for held in records_of(path):
            size += len(held.data)
            if records >= MAX_RECORDS or size > MAX_TOTAL:
                self._break(path.name, "there are more records than OSV has")
                break
            if held.reason:
                self._break(held.name, held.reason)
                continue
            records += 1
            lines.append(
                b"%s\0%s\n"
                % (held.name.encode("utf-8", "surrogateescape"), hashlib.sha256(held.data).digest())
            )
            try:
                self._take(held.name, held.data)
            except BadRecordError as error:
                self._break(held.name, str(error))
        lines.sort()
        digest = Digest(hashlib.sha256(b"".join(lines)).hexdigest())
        # What is no longer as it was fetched says nothing about where its records came from.
        coverage = self.by_part if recorded_digest(path) == digest else self.own
        if self.broken_count > len(self.broken):
            self.broken.append(f"and {self.broken_count - len(self.broken)} more")
        return Database(
            str(path),
            digest,
            records,
            coverage.covered,
            coverage.newest,
            {key: tuple(found) for key, found in self.advisories.items()},
            {key: tuple(found) for key, found in self.suspect.items()},
            tuple(self.broken),
        )

    def _take(self, name: str, data: bytes) -> None:
        head = read_head(data)
        keys = self._count(name, head)
        if keys.isdisjoint(self.wanted):
            return
        try:
            record = read_record(data)
        except BadRecordError as error:
            for key in keys & self.wanted:
                self.suspect.setdefault(key, []).append(f"{printable(name)}: {error}")
            return
        for key in keys & self.wanted:
            self.advisories.setdefault(key, []).append(record)

    def _count(self, name: str, head: Head) -> set[Key]:
        modified = int(head.modified.timestamp() * 1000)
        at = modified if modified <= self.now_ms + MAX_AHEAD_MS else None
        keys: set[Key] = set()
        ecosystems = set()
        for entry in head.affected or ():
            if entry.package is not None:
                ecosystem = entry.package.ecosystem
                ecosystems.add(ecosystem)
                keys.add((base_of(ecosystem), normal_name(ecosystem, entry.package.name)))
        releases = {normal_ecosystem(one) for one in ecosystems}
        if len(releases) == 1:
            self.own.add(next(iter(releases)), at)
        part = part_of(name)
        for release in releases:
            if part in (release, base_of(release)):
                self.by_part.add(release, at)
        return keys

    def _break(self, name: str, reason: str) -> None:
        self.broken_count += 1
        if len(self.broken) < _NAMED:
            self.broken.append(f"{printable(name)}: {reason}")


def is_withdrawn(record: Record, now: datetime) -> bool:
    """Whether the record says that it no longer holds."""
    return record.withdrawn is not None and record.withdrawn <= now
