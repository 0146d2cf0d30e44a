"""A look for secrets, told to programs (JSON, SARIF 2.1.0) and to people (text).

The JSON is a contract: `keepstone.scan-secrets/v1` only grows. No form holds a secret: what is
shown of one is its kind, its place, its beginning and its length.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from keepstone.core.finding import Outcome, worst
from keepstone.scan.report import FileReport, ScanReport
from keepstone.scan.report import to_sarif as files_to_sarif
from keepstone.scan.secrets.baseline import Entry
from keepstone.scan.secrets.found import SecretFinding

SCHEMA = "keepstone.scan-secrets/v1"
_WORDS = {
    Outcome.CLEAN: "clean",
    Outcome.FLAGGED: "FLAGGED",
    Outcome.NOT_EVALUATED: "not evaluated",
}


@dataclass(frozen=True, slots=True)
class FileSecrets:
    """What was found in one file.

    There is no digest of the file: where it holds little but a password, that could be guessed
    back from one.
    """

    path: str
    found: tuple[SecretFinding, ...]

    @property
    def outcome(self) -> Outcome:
        """Flagged where a secret counts; else not evaluated where something was not read."""
        if any(item.counts for item in self.found):
            return Outcome.FLAGGED
        if all(item.is_secret for item in self.found):
            return Outcome.CLEAN
        return Outcome.NOT_EVALUATED


@dataclass(frozen=True, slots=True)
class SecretsReport:
    """Every file, in order, and the entries of the baseline that name nothing any more."""

    files: tuple[FileSecrets, ...]
    gone: tuple[Entry, ...] = ()

    @property
    def outcome(self) -> Outcome:
        return worst(file.outcome for file in self.files)

    @property
    def found(self) -> Iterable[SecretFinding]:
        return (item for file in self.files for item in file.found)


def to_json(report: SecretsReport) -> dict[str, Any]:
    """`{"schema", "files": [{"path", "verdict", "secrets", "not_read"}], "gone"}`."""
    return {
        "schema": SCHEMA,
        "files": [_file(file) for file in report.files],
        "gone": [
            {"path": entry.path, "kind": entry.kind, "fingerprint": entry.fingerprint}
            for entry in report.gone
        ],
    }


def _file(file: FileSecrets) -> dict[str, Any]:
    return {
        "path": file.path,
        "verdict": str(file.outcome),
        "secrets": [_secret(item) for item in file.found if item.is_secret],
        "not_read": [
            {"member": item.finding.location.member, "reason": item.finding.message}
            for item in file.found
            if not item.is_secret
        ],
    }


def _secret(item: SecretFinding) -> dict[str, Any]:
    location = item.finding.location
    return {
        "rule": item.finding.rule,
        "severity": str(item.finding.severity),
        "kind": item.kind,
        "message": item.finding.message,
        "location": {
            "path": location.path,
            "member": location.member,
            "line": item.line,
            "column": item.column,
            "offset": location.offset,
        },
        "masked": item.masked,
        "fingerprint": item.fingerprint,
        "allowed": item.allowed,
        "known": item.known,
    }


def to_sarif(report: SecretsReport) -> dict[str, Any]:
    """SARIF of files and findings, with lines, fingerprints, and suppressions for what is
    allowed (in the source) or known (by the baseline)."""
    files = tuple(
        FileReport(
            file.path,
            None,
            0,
            "any",
            file.outcome,
            tuple(item.finding for item in file.found),
        )
        for file in report.files
    )
    document = files_to_sarif(ScanReport(files))
    for result, item in zip(document["runs"][0]["results"], report.found, strict=True):
        if not item.is_secret:
            continue
        result["partialFingerprints"] = {"keepstoneSecret/v1": item.fingerprint}
        place = result["locations"][0]["physicalLocation"]
        # A line within a member is no line of the file.
        if item.line is not None and item.finding.location.member is None:
            place["region"] = {"startLine": item.line, "startColumn": item.column}
        if item.allowed is not None:
            result["suppressions"] = [{"kind": "inSource", "justification": item.allowed}]
        elif item.known:
            result["suppressions"] = [{"kind": "external", "justification": "In the baseline."}]
    return document


def to_text(report: SecretsReport) -> str:
    """One line per file that has something to say, one per finding below it, and a count."""
    lines = []
    for file in report.files:
        if not file.found:
            continue
        lines.append(f"{_WORDS[file.outcome]:14} {file.path}")
        for item in file.found:
            member = item.finding.location.member
            where = "" if member is None else f" [{member}]"
            state = "(known) " if item.known else ""
            if item.allowed is not None:
                state, where = "(allowed) ", f"{where} ({item.allowed})"
            lines.append(f"    {state}{item.finding.rule}: {item.finding.message}{where}")
    for entry in report.gone:
        lines.append(f"in the baseline, and not found any more: {entry.kind} in {entry.path}")
    counts = [
        f"{sum(file.outcome is outcome for file in report.files)} {_WORDS[outcome].lower()}"
        for outcome in Outcome
    ]
    secrets = sum(item.counts for item in report.found)
    lines.append(f"{secrets} secrets; files: {', '.join(counts)}")
    return "\n".join(lines)
