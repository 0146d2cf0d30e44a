"""A report on packages for programs (JSON, SARIF) and for people (text).

The JSON is a contract: `keepstone.scan-deps/v1` only grows.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from keepstone import __version__
from keepstone.core.finding import Outcome
from keepstone.core.ports import rfc3339
from keepstone.scan.packages.findings import PackageFinding, findings_of, sentence, smells_of
from keepstone.scan.packages.judging import DAY_MS, DepsReport
from keepstone.scan.packages.names import normal_ecosystem
from keepstone.scan.packages.osv.database import Database
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.vulnerability import Vulnerability
from keepstone.scan.report import FileReport, ScanReport, to_sarif
from keepstone.scan.rules import printable, verdict

SCHEMA = "keepstone.scan-deps/v1"
# What SARIF calls our stable identity of a result, with its version.
FINGERPRINT = "keepstonePackage/v1"


def deps_json(report: DepsReport) -> dict[str, Any]:
    database = report.database
    return {
        "schema": SCHEMA,
        "version": __version__,
        "time": rfc3339(report.now_ms),
        "verdict": str(report.outcome),
        "database": None if database is None else _database(database, report.now_ms),
        "fail_on": "any" if report.fail_on is None else str(report.fail_on),
        "max_age_days": report.max_age_ms / DAY_MS,
        "read": list(report.inventory.read),
        "packages": [_package(item) | {"path": item.path} for item in report.inventory.packages],
        "vulnerabilities": [_vulnerability(item, report) for item in report.vulnerabilities],
        "not_evaluated": [
            {"path": item.path, "name": item.name, "reason": item.reason} for item in report.open
        ],
    }


def _database(database: Database, now_ms: int) -> dict[str, Any]:
    return {
        "path": database.path,
        **_identity(database, now_ms),
        "records": database.records,
        "broken": list(database.broken),
        "ecosystems": {
            ecosystem: {"records": count, "newest": _time(database.newest.get(ecosystem))}
            for ecosystem, count in sorted(database.covered.items())
        },
    }


def _identity(database: Database, now_ms: int, ecosystem: str = "") -> dict[str, Any]:
    """Which database said so and how old it is: what it holds about `ecosystem`, or all of it."""
    release = normal_ecosystem(ecosystem)
    newest = database.newest.get(release) if ecosystem else database.newest_ms
    return {
        "digest": str(database.digest),
        "newest": _time(newest),
        "age_days": None if newest is None else max(0, (now_ms - newest) // DAY_MS),
    }


def _time(at: int | None) -> str | None:
    return None if at is None else rfc3339(at)


def _package(package: Package) -> dict[str, str]:
    return {
        "ecosystem": package.ecosystem,
        "name": package.name,
        "version": package.version,
        "source": package.source or package.name,
        "source_version": package.source_version or package.version,
    }


def _vulnerability(found: Vulnerability, report: DepsReport) -> dict[str, Any]:
    assert report.database is not None
    return {
        "package": _package(found.package),
        "paths": list(found.paths),
        "ids": list(found.ids),
        "about": list(found.about),
        "severity": found.rating.word,
        "score": found.rating.score,
        "severity_from": printable(found.rating.source, 1024),
        "fixed": list(found.fixed),
        "summary": found.summary,
        "malicious": found.malicious,
        "counts": report.counts(found),
        "waived": found.waived,
        "fingerprint": found.fingerprint,
        "database": _identity(report.database, report.now_ms, found.package.ecosystem),
    }


def deps_sarif(report: DepsReport) -> dict[str, Any]:
    """SARIF 2.1.0: each list of packages an artifact, each vulnerability in it a result."""
    counted, told = list(findings_of(report)), list(smells_of(report))
    paths = sorted(
        {*report.inventory.read, *(item.finding.location.path for item in (*counted, *told))}
    )
    files = [(path, _at(counted, path), _at(told, path)) for path in paths]
    document = to_sarif(ScanReport(tuple(_file(*item) for item in files)))
    run = document["runs"][0]
    ordered = [item for _, findings, smells in files for item in (*findings, *smells)]
    for result, item in zip(run["results"], ordered, strict=True):
        if item.about is not None:
            result["partialFingerprints"] = {FINGERPRINT: item.about.fingerprint}
            if item.about.waived is not None:
                result["suppressions"] = [{"kind": "external", "justification": item.about.waived}]
    database = report.database
    run["properties"] = {
        "database": None if database is None else _identity(database, report.now_ms)
    }
    return document


def _at(items: list[PackageFinding], path: str) -> list[PackageFinding]:
    return [item for item in items if item.finding.location.path == path]


def _file(path: str, counted: list[PackageFinding], told: list[PackageFinding]) -> FileReport:
    findings = tuple(item.finding for item in counted)
    smells = tuple(item.finding for item in told)
    return FileReport(path, None, 0, "packages", verdict(findings), findings, smells)


def deps_text(report: DepsReport) -> str:
    """A block per vulnerability, then what was not evaluated by reason, then the counts."""
    lines: list[str] = []
    for found in report.vulnerabilities:
        lines += _block(found, report)
    by_reason = sorted(report.open, key=lambda item: item.reason)
    for reason, items in groupby(by_reason, key=lambda item: item.reason):
        lines.append(f"not evaluated: {reason}")
        lines += [f"    {item.name or 'the file'} ({item.path})" for item in items]
    return "\n".join([*lines, *_summary(report)])


def _block(found: Vulnerability, report: DepsReport) -> list[str]:
    if found.waived is not None:
        mark = "waived"
    else:
        mark = "FLAGGED" if report.counts(found) else f"(below {report.fail_on})"
    lines = [f"{mark} {sentence(found)}"]
    if found.summary:
        lines.append(f"    {found.summary}")
    lines += [f"    named by {path}" for path in found.paths]
    return lines


def _summary(report: DepsReport) -> list[str]:
    packages = {(item.ecosystem, item.name, item.version) for item in report.inventory.packages}
    flagged = sum(map(report.counts, report.vulnerabilities))
    told = len(report.vulnerabilities) - flagged
    unjudged = len({(item.name, item.path) for item in report.open})
    lines = [
        f"{len(packages)} packages named by {len(report.inventory.read)} files:"
        f" {flagged} vulnerabilities, {told} waived or below the limit, {unjudged} not evaluated"
    ]
    if not packages:
        lines.append("No package was found: that is not evaluated, not clean.")
    database = report.database
    if database is None:
        lines.append("no database was given: nothing is known of any package")
    else:
        age = _identity(database, report.now_ms)
        lines.append(
            f"database {printable(database.path, 200)} ({age['digest']}): {database.records}"
            f" records, the newest of {age['newest'] or 'no known time'}"
            + ("" if age["age_days"] is None else f", {age['age_days']} days old")
        )
    words = {Outcome.CLEAN: "clean", Outcome.FLAGGED: "FLAGGED"}
    lines.append(words.get(report.outcome, "not evaluated"))
    return lines
