"""A scan of images for programs (`keepstone.scan-image/v1`, SARIF 2.1.0) and for people.

The JSON is a contract that only grows. In SARIF a file of an image is an artifact, and the layer
that it lies in a part of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from keepstone.core.finding import Finding, Outcome
from keepstone.scan.images.found import ImageFinding, ImageReport, ImagesReport, outcome_of
from keepstone.scan.images.packages import Packages
from keepstone.scan.report import FileReport, ScanReport
from keepstone.scan.report import to_sarif as scan_to_sarif
from keepstone.scan.rules import RULES_VERSION

SCHEMA = "keepstone.scan-image/v1"
_WORDS = {
    Outcome.CLEAN: "clean",
    Outcome.FLAGGED: "FLAGGED",
    Outcome.NOT_EVALUATED: "not evaluated",
}


def to_json(report: ImagesReport) -> dict[str, Any]:
    """`{"schema", "reference", "verdict", "images": [...], "findings", "not_evaluated"}`."""
    return {
        "schema": SCHEMA,
        "rules": RULES_VERSION,
        "reference": report.reference,
        "verdict": str(report.outcome),
        "images": [_image(one) for one in report.images],
        **_findings(report.findings),
        "skipped": [{"digest": digest, "reason": reason} for digest, reason in report.skipped],
    }


def _image(image: ImageReport) -> dict[str, Any]:
    return {
        "digest": image.digest or None,
        "config": image.config,
        "platform": image.platform,
        "tags": list(image.tags),
        "verdict": str(image.outcome),
        "layers": [
            {
                "digest": layer.digest,
                "diff_id": layer.diff_id or None,
                "media_type": layer.media_type or None,
                "size": layer.size,
                "unpacked": layer.unpacked,
                "evaluated": layer.evaluated,
            }
            for layer in image.layers
        ],
        "packages": [
            {
                "ecosystem": one.ecosystem,
                "name": one.name,
                "version": one.version,
                "source": one.source,
                "source_version": one.source_version,
                "path": one.path,
            }
            for one in image.packages.listed
        ],
        "osv": _database(image.packages),
        "told": [
            {"message": one.message, "path": one.location.path} for one in image.packages.told
        ],
        **_findings(image.findings),
    }


def _database(packages: Packages) -> dict[str, Any] | None:
    known = packages.database
    if known is None:
        return None
    return {"digest": str(known.digest), "records": known.records, "newest_ms": known.newest_ms}


def _findings(findings: tuple[ImageFinding, ...]) -> dict[str, Any]:
    """What is wrong, and beside it what nobody could say."""
    flagged = [item for item in findings if item.outcome is Outcome.FLAGGED]
    left = [item for item in findings if item.outcome is not Outcome.FLAGGED]
    return {
        "findings": [_finding(item) for item in flagged],
        "not_evaluated": [_finding(item) for item in left],
    }


def _finding(item: ImageFinding) -> dict[str, Any]:
    where = item.finding.location
    return {
        "rule": item.finding.rule,
        "severity": str(item.finding.severity),
        "message": item.finding.message,
        "layer": item.layer or None,
        "layer_number": item.number or None,
        "path": where.path or None,
        "member": where.member,
        "deleted_later": item.deleted,
    }


def to_sarif(report: ImagesReport) -> dict[str, Any]:
    """SARIF 2.1.0: one run, an artifact for each file with findings."""
    files: dict[str, list[ImageFinding]] = {}
    for item in _all(report):
        files.setdefault(item.finding.location.path or report.reference, []).append(item)
    reports = [
        FileReport(path, None, 0, "image", outcome_of(found), tuple(map(_in_layer, found)))
        for path, found in files.items()
    ]
    return scan_to_sarif(ScanReport(tuple(reports)))


def _in_layer(item: ImageFinding) -> Finding:
    if not item.layer:
        return item.finding
    where = item.finding.location
    member = item.layer if where.member is None else f"{item.layer} > {where.member}"
    path = where.path or "(layer)"
    return replace(item.finding, location=replace(where, path=path, member=member))


def _all(report: ImagesReport) -> list[ImageFinding]:
    return [*report.findings, *(item for image in report.images for item in image.findings)]


def to_text(report: ImagesReport) -> str:
    """A line per image, one per finding below it with its layer, and a count."""
    lines = []
    for image in report.images:
        name = image.digest or image.config
        tags = f" ({', '.join(image.tags)})" if image.tags else ""
        lines.append(f"{_WORDS[image.outcome]:14} {name}{tags}")
        about = f"{image.platform or 'no platform'}, configuration {image.config}"
        lines.append(
            f"    {about}, {len(image.layers)} layers, {len(image.packages.listed)} packages"
        )
        if image.packages.database is not None:
            known = image.packages.database
            lines.append(f"    with {known.records} OSV records, {known.digest}")
        lines += map(_line, image.findings)
        lines += [f"    does not count: {one.message}" for one in image.packages.told]
    if report.findings:
        lines.append(f"{_WORDS[outcome_of(report.findings)]:14} {report.reference}")
        lines += map(_line, report.findings)
    lines += [f"    no image: {digest}: {reason}" for digest, reason in report.skipped]
    found = _all(report)
    flagged = sum(item.outcome is Outcome.FLAGGED for item in found)
    counts = f"images: {len(report.images)}, findings: {flagged}"
    lines.append(f"{counts}, not evaluated: {len(found) - flagged}")
    return "\n".join(lines)


def _line(item: ImageFinding) -> str:
    where = item.finding.location
    place = " ".join(filter(None, [where.path, where.member and f"[{where.member}]"]))
    layer = f" (layer {item.number}, {item.layer})" if item.layer else ""
    gone = f" Deleted or replaced later, still in layer {item.number}." if item.deleted else ""
    parts = (item.finding.rule, place, item.finding.message)
    return f"    {': '.join(filter(None, parts))}{gone}{layer}"
