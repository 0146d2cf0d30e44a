"""A report on packages as findings, for whatever else takes them: statements, SARIF, an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keepstone.core.finding import Finding, Location, Severity
from keepstone.scan.packages.found import NotJudged
from keepstone.scan.packages.judging import DepsReport
from keepstone.scan.packages.vulnerability import Vulnerability
from keepstone.scan.rules import RULES, SMELLS, finding

BELOW = "smell.vulnerable"


@dataclass(frozen=True, slots=True)
class PackageFinding:
    """A finding, and the vulnerability that it is about (none where nothing could be said)."""

    finding: Finding
    about: Vulnerability | None


def findings_of(report: DepsReport) -> Iterator[PackageFinding]:
    """What makes the verdict: each vulnerability once per file, and what was not evaluated."""
    for found in report.vulnerabilities:
        if report.counts(found):
            for path in found.paths:
                yield PackageFinding(_counted(found, path), found)
    for item in report.open:
        yield PackageFinding(finding("deps.not_evaluated", _open(item), item.path), None)


def smells_of(report: DepsReport) -> Iterator[PackageFinding]:
    """What is told and does not count: waived, or less grave than was asked for."""
    for found in report.vulnerabilities:
        if not report.counts(found):
            for path in found.paths:
                rule, place = SMELLS[BELOW].id, Location(path)
                yield PackageFinding(Finding(rule, Severity.INFO, sentence(found), place), found)


def sentence(found: Vulnerability) -> str:
    """`requests 2.19.0 (PyPI) has CVE-2018-18074 (high 7.5), fixed in 2.20.0.`"""
    package = found.package
    score = "" if found.rating.score is None else f" {found.rating.score}"
    fixed = f"fixed in {' or '.join(found.fixed)}" if found.fixed else "no fix is known"
    others = f", also {', '.join(found.ids[1:])}" if len(found.ids) > 1 else ""
    others += f", about {', '.join(found.about)}" if found.about else ""
    waived = "" if found.waived is None else f" Waived: {found.waived}"
    verb = "is an attack by" if found.malicious else "has"
    return (
        f"{package.name} {package.version} ({package.ecosystem}) {verb} {found.id}"
        f" ({found.rating.word}{score}), {fixed}{others}.{waived}"
    )


def _counted(found: Vulnerability, path: str) -> Finding:
    severity = found.rating.severity
    if found.malicious:
        rule, severity = "deps.malicious", Severity.CRITICAL
    elif severity is None:
        rule, severity = "deps.unknown_severity", RULES["deps.unknown_severity"].severity
    else:
        rule = "deps.vulnerable"
    return Finding(rule, severity, sentence(found), Location(path))


def _open(item: NotJudged) -> str:
    return f"{item.name}: {item.reason}" if item.name else item.reason
