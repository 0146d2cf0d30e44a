"""The packages of an image, and what a folder of OSV records knows against them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keepstone.core.finding import Finding, Severity
from keepstone.scan.packages.findings import findings_of, smells_of
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.inventory import inventory
from keepstone.scan.packages.judging import MAX_AGE_MS, judge_packages
from keepstone.scan.packages.osv.database import Database, read_database
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.readers import reader_of
from keepstone.scan.packages.tree import FileTree
from keepstone.scan.packages.vulnerability import Waived, nothing_waived
from keepstone.scan.rules import finding

# What names the distribution, which decides whose advisories count.
_RELEASE = frozenset({"etc/os-release", "usr/lib/os-release"})
# So many packages are named where nothing is known of more.
_NAMED = 5
_UNASKED = "image.vulnerabilities"


def names_packages(path: str) -> bool:
    """True where a file of an image is read for its packages."""
    return path in _RELEASE or reader_of(path, locks=False) is not None


@dataclass(frozen=True, slots=True)
class Packages:
    """What is installed in an image, and what is wrong with it. A file's path is its place.

    `told` are vulnerabilities that do not count: waived, or less grave than was asked for.
    """

    listed: tuple[Package, ...] = ()
    findings: tuple[Finding, ...] = ()
    database: Database | None = None
    told: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class PackageCheck:
    """How packages are judged: against the records under `osv`, as they stand at `now_ms`.

    `max_age_ms`, `fail_on` and `waived` are those of `judge_packages`. Without records nothing is
    known of any package, and that is said, unless `asked` is false.
    """

    osv: Path | None
    now_ms: int
    asked: bool = True
    max_age_ms: int = MAX_AGE_MS
    fail_on: Severity | None = None
    waived: Waived = nothing_waived

    def judge(self, tree: FileTree) -> Packages:
        """List and judge. Raises InputError where the records cannot be read."""
        found = inventory(tree, locks=False)
        count = len(found.packages)
        if self.osv is None or not self.asked:
            reason = f"{count} packages were compared with no vulnerabilities."
            unknown = (finding(_UNASKED, reason, ""),) if self.asked else ()
            return Packages(found.packages, (*_grouped(found.open), *unknown))
        database = read_database(self.osv, found.packages, self.now_ms)
        report = judge_packages(
            found,
            database,
            self.now_ms,
            max_age_ms=self.max_age_ms,
            fail_on=self.fail_on,
            waived=self.waived,
        )
        findings = [item.finding for item in findings_of(report) if item.about is not None]
        findings += _grouped(report.open)
        if not count:
            reason = "The image names no packages: what its programs are made of is not known."
            findings.append(finding(_UNASKED, reason, ""))
        told = tuple(item.finding for item in smells_of(report))
        return Packages(found.packages, tuple(findings), database, told)


def _grouped(left: Iterable[NotJudged]) -> Iterator[Finding]:
    """One finding for each file and reason, with some of the packages that it is about."""
    names: dict[tuple[str, str], list[str]] = {}
    for item in left:
        names.setdefault((item.path, item.reason), []).append(item.name)
    for (path, reason), about in names.items():
        known = [name for name in about if name]
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        prefix = f"{', '.join(known[:_NAMED])}{more}: " if known else ""
        yield finding("deps.not_evaluated", prefix + reason, path)
