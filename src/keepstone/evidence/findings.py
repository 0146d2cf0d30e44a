"""Findings inside a predicate: to JSON and back, fit for it, and no more than it can hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from keepstone.core.canonical import canonical
from keepstone.core.finding import Finding, Location, Severity
from keepstone.evidence.fields import Fields

MAX_FINDINGS = 100
# A statement travels base64-coded inside one ledger entry of 64 KiB: findings get half of it.
_MAX_FINDINGS_BYTES = 24 * 1024


def first_findings(findings: Iterable[Finding]) -> tuple[tuple[Finding, ...], int]:
    """Those of the findings that fit into a ledger entry, and how many there are in all."""
    everything = [storable_finding(finding) for finding in findings]
    kept: list[Finding] = []
    size = 0
    for finding in everything[:MAX_FINDINGS]:
        size += len(canonical(finding_dict(finding)))
        if size > _MAX_FINDINGS_BYTES:
            break
        kept.append(finding)
    return tuple(kept), len(everything)


def finding_dict(finding: Finding) -> dict[str, Any]:
    place = finding.location
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "message": finding.message,
        "location": {"path": place.path, "offset": place.offset, "member": place.member},
    }


def read_finding(fields: Fields) -> Finding:
    place = fields.inner("location")
    offset = None if place.raw("offset") is None else place.integer("offset")
    member = None if place.raw("member") is None else place.text("member")
    location = Location(place.text("path"), offset, member)
    place.done()
    severity = fields.one_of("severity", frozenset(Severity))
    finding = Finding(
        fields.line("rule", 128), Severity(severity), fields.text("message"), location
    )
    fields.done()
    return finding


def _storable(text: str) -> str:
    """Text out of a hostile file, made fit for JSON and cut to a length that stays readable."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[:512]


def storable_finding(finding: Finding) -> Finding:
    place = finding.location
    member = None if place.member is None else _storable(place.member)
    location = Location(_storable(place.path), place.offset, member)
    return Finding(finding.rule, finding.severity, _storable(finding.message), location)
