"""A scan's report for programs (JSON, SARIF 2.1.0) and for people (text).

The JSON is a contract: `keepstone.scan/v1` only grows. SARIF has no word for "clean" or "not
evaluated": a clean file is an artifact without results, one not evaluated has results of the
kind `open`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from keepstone import __version__
from keepstone.core.canonical import canonical
from keepstone.core.digest import Digest
from keepstone.core.finding import Finding, Outcome, Severity, worst
from keepstone.scan.pickle.allowlist import Added
from keepstone.scan.rules import RULES, RULES_VERSION, SMELLS, printable

SCHEMA = "keepstone.scan/v1"
_SARIF_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS = {
    Severity.INFO: "note",
    Severity.LOW: "note",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "error",
    Severity.CRITICAL: "error",
}
_WORDS = {
    Outcome.CLEAN: "clean",
    Outcome.FLAGGED: "FLAGGED",
    Outcome.NOT_EVALUATED: "not evaluated",
}


@dataclass(frozen=True, slots=True)
class FileReport:
    """The verdict on one file. `sha256` is None where it could not be read.

    `smells` are what is odd about it without being wrong: they have no part in the verdict.
    `reads` are the files of data that it reads beside it. `leaned` are the names in it that only
    a site's own list allows.
    """

    path: str
    sha256: Digest | None
    size: int
    format: str
    outcome: Outcome
    findings: tuple[Finding, ...]
    smells: tuple[Finding, ...] = ()
    reads: tuple[str, ...] = ()
    leaned: tuple[str, ...] = ()

    @property
    def digest(self) -> Digest:
        """The digest of its canonical JSON: what a statement about it names."""
        return Digest.of(canonical(_file(self)))


@dataclass(frozen=True, slots=True)
class ScanReport:
    """The verdict on every file, in order, and the site's own lists that it went by."""

    files: tuple[FileReport, ...]
    allowed: tuple[Added, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Flagged beats not evaluated beats clean; no file at all is not evaluated."""
        return worst(report.outcome for report in self.files)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(item for report in self.files for item in report.findings)

    @property
    def smells(self) -> tuple[Finding, ...]:
        """What is odd about the files. None of it is in `findings` or `outcome`."""
        return tuple(item for report in self.files for item in report.smells)


def to_json(report: ScanReport) -> dict[str, Any]:
    """`{"schema", "files": [{"path", "sha256", "format", "verdict", "findings", "smells"}]}`.

    With a site's own lists: `allowed`, and in each file that needed one, the names.
    """
    document: dict[str, Any] = {"schema": SCHEMA, "files": [_file(item) for item in report.files]}
    if report.allowed:
        document["allowed"] = [_added(one) for one in report.allowed]
    return document


def _added(one: Added) -> dict[str, Any]:
    return {
        "name": one.source,
        "digest": one.digest,
        "key_id": one.key_id,
        "expires": one.expires,
        "names": sorted(f"{module}.{name}" for module, name in one.entries),
    }


def _file(report: FileReport) -> dict[str, Any]:
    document: dict[str, Any] = {
        "path": report.path,
        "sha256": None if report.sha256 is None else report.sha256.hex,
        "format": report.format,
        "verdict": str(report.outcome),
        "findings": [_finding(item) for item in report.findings],
        "smells": [_finding(item) for item in report.smells],
    }
    if report.leaned:
        document["allowed"] = list(report.leaned)
    return document


def _finding(item: Finding) -> dict[str, Any]:
    return {
        "rule": item.rule,
        "severity": str(item.severity),
        "message": item.message,
        "location": {
            "path": item.location.path,
            "offset": item.location.offset,
            "member": item.location.member,
        },
    }


def to_sarif(report: ScanReport) -> dict[str, Any]:
    """SARIF 2.1.0: one run, every file an artifact, every finding and every smell a result."""
    order = sorted({item.rule for item in (*report.findings, *report.smells)})
    return {
        "$schema": _SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Keepstone",
                        "version": __version__,
                        "rules": [_sarif_rule(rule) for rule in order],
                        "properties": {"rulesVersion": RULES_VERSION},
                    }
                },
                "artifacts": [_sarif_artifact(item) for item in report.files],
                "results": [
                    _sarif_result(item, index, order)
                    for index, file in enumerate(report.files)
                    for item in (*file.findings, *file.smells)
                ],
                "columnKind": "unicodeCodePoints",
            }
        ],
    }


def _sarif_rule(rule: str) -> dict[str, Any]:
    if rule in SMELLS:
        text = {"text": SMELLS[rule].meaning}
        return {"id": rule, "shortDescription": text, "defaultConfiguration": {"level": "none"}}
    known = RULES[rule]
    return {
        "id": rule,
        "shortDescription": {"text": known.meaning},
        "defaultConfiguration": {"level": _LEVELS[known.severity]},
    }


def _sarif_artifact(report: FileReport) -> dict[str, Any]:
    artifact: dict[str, Any] = {
        "location": {"uri": _uri(report.path)},
        "properties": {"format": report.format, "verdict": str(report.outcome)},
    }
    if report.leaned:
        artifact["properties"]["allowed"] = list(report.leaned)
    if report.sha256 is not None:
        artifact["hashes"] = {"sha-256": report.sha256.hex}
        artifact["length"] = report.size
    return artifact


def _sarif_result(item: Finding, index: int, order: list[str]) -> dict[str, Any]:
    smell = item.rule in SMELLS
    flagged = not smell and RULES[item.rule].outcome is Outcome.FLAGGED
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(item.location.path), "index": index}}
    if item.location.offset is not None:
        place["region"] = {"byteOffset": item.location.offset, "byteLength": 0}
    location: dict[str, Any] = {"physicalLocation": place}
    if item.location.member is not None:
        location["logicalLocations"] = [{"name": item.location.member, "kind": "member"}]
    return {
        "ruleId": item.rule,
        "ruleIndex": order.index(item.rule),
        "kind": "informational" if smell else "fail" if flagged else "open",
        # SARIF 3.27.10: only a failure has a level.
        "level": _LEVELS[item.severity] if flagged else "none",
        "message": {"text": item.message},
        "locations": [location],
    }


def _uri(path: str) -> str:
    """A file: URI for an absolute path, else a relative reference (RFC 3986)."""
    quoted = quote(path)
    return f"file://{quoted}" if path.startswith("/") else f"./{quoted}" if ":" in path else quoted


def to_text(report: ScanReport) -> str:
    """One line per file, one per finding and smell below it, and a count."""
    lines = []
    for file in report.files:
        lines.append(f"{_WORDS[file.outcome]:14} {file.path} ({file.format})")
        for item in file.findings:
            where = "" if item.location.member is None else f" [{item.location.member}]"
            lines.append(f"    {item.rule}: {item.message}{where}")
        for item in file.smells:
            where = "" if item.location.member is None else f" [{item.location.member}]"
            lines.append(f"    (no verdict) {item.rule}: {item.message}{where}")
        lines += [f"    allowed by a list of the site: {name}" for name in file.leaned]
    counts = [
        f"{sum(file.outcome is outcome for file in report.files)} {_WORDS[outcome].lower()}"
        for outcome in Outcome
    ]
    lines.append(", ".join(counts))
    for one in report.allowed:
        more = f"{len(one.entries)} names, key {one.key_id[:16]}, until {one.expires}"
        lines.append(f"with the list {printable(one.source)} ({more})")
    return "\n".join(lines)
