"""The packages of an image, and what a folder of OSV records knows against them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keepstone.core.finding import Finding, Location, Severity
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.inventory import inventory
from keepstone.scan.packages.judging import judge_packages
from keepstone.scan.packages.osv.database import Database, read_database
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers import reader_of
from keepstone.scan.packages.tree import FileTree
from keepstone.scan.packages.vulnerability import Vulnerability
from keepstone.scan.rules import RULES, finding

# What names the distribution, which decides whose advisories count.
_RELEASE = frozenset({"etc/os-release", "usr/lib/os-release"})
# So many packages are named where nothing is known of more.
_NAMED = 5


def names_packages(path: str) -> bool:
    """True where a file of an image is read for its packages."""
    return path in _RELEASE or reader_of(path, locks=False) is not None


@dataclass(frozen=True, slots=True)
class Packages:
    """What is installed in an image, and what is wrong with it. A file's path is its place."""

    listed: tuple[Package, ...] = ()
    findings: tuple[Finding, ...] = ()
    database: Database | None = None


@dataclass(frozen=True, slots=True)
class PackageCheck:
    """How packages are judged: against the records under `osv`, as they stand at `now_ms`.

    Without records nothing is known of any package, and that is said, unless `asked` is false.
    """

    osv: Path | None
    now_ms: int
    asked: bool = True

    def judge(self, tree: FileTree) -> Packages:
        """List and judge. Raises InputError where the records cannot be read."""
        found = inventory(tree, locks=False)
        if self.osv is None or not self.asked:
            findings = [*_grouped(found.open)]
            if self.asked:
                reason = f"{len(found.packages)} packages were compared with no vulnerabilities."
                findings.append(finding("image.vulnerabilities", reason, ""))
            return Packages(found.packages, tuple(findings))
        database = read_database(self.osv, found.packages, self.now_ms)
        report = judge_packages(found, database, self.now_ms)
        findings = [_vulnerable(one) for one in report.vulnerabilities if report.counts(one)]
        findings += _grouped(report.open)
        if not found.packages:
            reason = "The image names no packages: what its programs are made of is not known."
            findings.append(finding("image.vulnerabilities", reason, ""))
        return Packages(found.packages, tuple(findings), database)


def _vulnerable(found: Vulnerability) -> Finding:
    package, rule = found.package, "image.vulnerable"
    fixed = f"fixed in {', '.join(found.fixed)}" if found.fixed else "no fix is known"
    kind = "is malicious" if found.malicious else f"is vulnerable ({found.rating.word}), {fixed}"
    more = f": {found.summary}" if found.summary else "."
    severity = Severity.CRITICAL if found.malicious else found.rating.severity
    return Finding(
        rule,
        severity or RULES[rule].severity,
        f"{found.id}: {package.name} {package.version} {kind}{more}",
        Location(package.path),
    )


def _grouped(left: Iterable[NotJudged]) -> Iterator[Finding]:
    """One finding for each file and reason, with some of the packages that it is about."""
    names: dict[tuple[str, str], list[str]] = {}
    for item in left:
        names.setdefault((item.path, item.reason), []).append(item.name)
    for (path, reason), about in names.items():
        known = [name for name in about if name]
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        prefix = f"{', '.join(known[:_NAMED])}{more}: " if known else ""
        yield finding("image.not_evaluated", prefix + reason, path)
