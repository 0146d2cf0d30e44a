"""Every package held against the database: vulnerable, clean, or not evaluated by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from keepstone.core.finding import Outcome, Severity
from keepstone.core.ports import rfc3339
from keepstone.scan.packages.folding import fold
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.inventory import Inventory
from keepstone.scan.packages.names import base_of, normal_ecosystem
from keepstone.scan.packages.osv.affected import UndecidedError, fixes, is_affected
from keepstone.scan.packages.osv.database import Database, is_withdrawn, key_of
from keepstone.scan.packages.osv.record import Affected, Record
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.severity import ORDER, rating_of
from keepstone.scan.packages.versions import Order, order_of
from keepstone.scan.packages.vulnerability import (
    MALICIOUS,
    Vulnerability,
    Waived,
    nothing_waived,
)
from keepstone.scan.rules import printable

DAY_MS = 86_400_000
MAX_AGE_MS = 14 * DAY_MS
_Hit = tuple[Record, tuple[Affected, ...]]


@dataclass(frozen=True, slots=True)
class DepsReport:
    """What is known of every package.

    `vulnerabilities` are all of them, the waived and those below `fail_on` too. `open` are the
    packages and files of which nothing is known, by name.
    """

    inventory: Inventory
    database: Database | None
    vulnerabilities: tuple[Vulnerability, ...]
    open: tuple[NotJudged, ...]
    fail_on: Severity | None = None
    max_age_ms: int = MAX_AGE_MS
    now_ms: int = 0

    def counts(self, found: Vulnerability) -> bool:
        """Whether it makes the verdict: not waived, and as grave as `fail_on` (None: any).

        One whose severity nobody says counts, and so does a package that is itself the attack.
        """
        if found.waived is not None:
            return False
        severity = found.rating.severity
        if self.fail_on is None or severity is None or found.malicious:
            return True
        return ORDER.index(severity) >= ORDER.index(self.fail_on)

    @property
    def outcome(self) -> Outcome:
        """Flagged beats not evaluated beats clean; no package at all is not evaluated."""
        if any(map(self.counts, self.vulnerabilities)):
            return Outcome.FLAGGED
        if self.open or not self.inventory.packages:
            return Outcome.NOT_EVALUATED
        return Outcome.CLEAN


def judge_packages(
    inventory: Inventory,
    database: Database | None,
    now_ms: int,
    *,
    max_age_ms: int = MAX_AGE_MS,
    fail_on: Severity | None = None,
    waived: Waived = nothing_waived,
) -> DepsReport:
    """Hold each package against the database, which was read for these packages.

    Without a database nothing is known of any package. A vulnerability that an old or a damaged
    database names is told all the same.
    """
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    found: list[Vulnerability] = []
    left: list[NotJudged] = []
    for package, paths in _grouped(inventory.packages):
        for reason in _reasons(package, database, now_ms, max_age_ms):
            left.append(_open(package, reason))
        order = order_of(package.ecosystem)
        if database is None or order is None:
            continue
        hits: list[_Hit] = []
        for record in database.advisories.get(key_of(package), ()):
            if is_withdrawn(record, now):
                continue
            hit, reason = _held_against(package, record, order)
            if hit:
                hits.append((record, hit))
            elif reason:
                left.append(_open(package, f"{printable(record.id)}: {reason}"))
        for one in _vulnerabilities(package, paths, hits, order):
            found.append(replace(one, waived=waived(one)))
    return DepsReport(
        inventory,
        database,
        tuple(found),
        tuple(sorted({*inventory.open, *left})),
        fail_on,
        max_age_ms,
        now_ms,
    )


def _grouped(packages: Iterable[Package]) -> Iterator[tuple[Package, tuple[str, ...]]]:
    """Each package at each version once, with every file that names it."""
    paths: dict[Package, list[str]] = {}
    for package in packages:
        paths.setdefault(replace(package, path=""), []).append(package.path)
    for bare, found in sorted(paths.items()):
        yield replace(bare, path=found[0]), tuple(found)


def _open(package: Package, reason: str) -> NotJudged:
    return NotJudged(package.path, reason, f"{package.name} {package.version}")


def _reasons(
    package: Package, database: Database | None, now_ms: int, max_age_ms: int
) -> Iterator[str]:
    """Why silence of the database about the package would say nothing."""
    if database is None:
        yield "No database of vulnerabilities was given."
        return
    if order_of(package.ecosystem) is None:
        yield f"Keepstone has no rule for versions of {package.ecosystem}."
        return
    release = normal_ecosystem(package.ecosystem)
    if release not in database.covered:
        yield f"The database holds nothing about {package.ecosystem}."
        return
    newest = database.newest.get(release)
    if newest is None:
        yield f"Every record about {release} is dated in the future: the database's age is unknown."
    elif now_ms - newest > max_age_ms:
        days = (now_ms - newest) // DAY_MS
        yield (
            f"The newest record about {release} is of {rfc3339(newest)}, {days} days ago: too old."
        )
    for reason in database.suspect.get(key_of(package), ()):
        yield f"A record about it cannot be used: {reason}."
    if database.broken:
        yield f"Records that may be about it cannot be used: {'; '.join(database.broken)}."


def _held_against(
    package: Package, record: Record, order: Order
) -> tuple[tuple[Affected, ...], str]:
    """The record's entries that mean the package's version, and why others could not be judged."""
    hits, undecided = [], ""
    for entry in _entries(package, record):
        try:
            if any(is_affected(version, entry, order) for version in _versions(package)):
                hits.append(entry)
        except UndecidedError as error:
            undecided = str(error)
    return tuple(hits), undecided


def _versions(package: Package) -> Iterator[str]:
    """The version, and without its local label the one that it was built from.

    PEP 440: who says 2.0.0 means 2.0.0+cu118 too, though that is behind it in order.
    """
    version = package.source_version or package.version
    yield version
    if package.ecosystem == "PyPI" and "+" in version:
        yield version.partition("+")[0]


def _entries(package: Package, record: Record) -> Iterator[Affected]:
    wanted = key_of(package)
    release = normal_ecosystem(package.ecosystem)
    for entry in record.affected or ():
        named = entry.package
        if named is None:
            continue
        ecosystem = normal_ecosystem(named.ecosystem)
        # Without a release an entry speaks of all of them.
        if ecosystem not in (release, base_of(release)):
            continue
        if key_of(Package(named.ecosystem, named.name, "", "")) == wanted:
            yield entry


def _vulnerabilities(
    package: Package, paths: tuple[str, ...], hits: list[_Hit], order: Order
) -> Iterator[Vulnerability]:
    entries = {id(record): entry for record, entry in hits}
    for one in fold(record for record, _ in hits):
        grouped = [(record, entries[id(record)]) for record in one.records]
        yield Vulnerability(
            package,
            paths,
            tuple(map(printable, one.ids)),
            _fixes(package, grouped, order),
            rating_of(grouped),
            next((printable(record.summary, 200) for record in one.records if record.summary), ""),
            any(name.startswith(MALICIOUS) for name in one.ids),
            tuple(map(printable, one.about)),
        )


def _fixes(package: Package, hits: list[_Hit], order: Order) -> tuple[str, ...]:
    entries = [entry for _, found in hits for entry in found]
    found = (
        printable(fix)
        for version in _versions(package)
        for entry in entries
        for fix in fixes(version, entry, order)
    )
    return tuple(dict.fromkeys(found))
