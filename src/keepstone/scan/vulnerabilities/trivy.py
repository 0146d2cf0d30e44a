"""Trivy's JSON report, read from its documented form (SchemaVersion 2).

It lists packages only with `--list-all-pkgs`: without, a report that found nothing does not say
that it looked at anything. What a user of Trivy had it ignore is a finding here: a signed waiver
is how it is accepted. Which database it used is not in the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keepstone.evidence.made import Tool
from keepstone.evidence.vulnerabilities import Database
from keepstone.scan.vulnerabilities.examined import Examined, Known
from keepstone.scan.vulnerabilities.outside import Outside, newer, severity_of
from keepstone.scan.vulnerabilities.purl import ecosystem_of

_SCHEMA = 2
_ECOSYSTEMS = {
    "PyPI": ("pip", "pipenv", "poetry", "uv", "python-pkg", "conda-pkg"),
    "npm": ("npm", "yarn", "pnpm", "node-pkg"),
}


def read_trivy(value: Mapping[str, Any]) -> Examined:
    """Raises InputError `report.malformed`, `report.newer_version`."""
    top = Outside(value, "Trivy report")
    schema = top.integer("SchemaVersion")
    if schema > _SCHEMA:
        raise newer("Trivy's schema", str(schema), str(_SCHEMA))
    if schema < _SCHEMA:
        raise top.fault("SchemaVersion", f"is not {_SCHEMA}: make it with a newer Trivy")
    version = top.part_or_none("Trivy")
    results = [Outside(item, "Trivy result") for item in top.many("Results")]
    seen: set[tuple[str, str, str]] = set()
    known: list[Known] = []
    for result in results:
        target, kind = result.word("Target"), result.word("Type", 64)
        for item in result.many("Packages"):
            package = Outside(item, "Trivy package")
            seen.add((target, package.exactly("Name"), package.word("Version")))
        for one in _vulnerabilities(result):
            found = _known(one, kind, target)
            known.append(found)
            seen.add((target, found.package, found.version))
    return Examined(
        scanner=Tool("trivy", "unknown" if version is None else version.exactly("Version", 64)),
        target=top.word("ArtifactName", 500),
        packages=len(seen),
        known=tuple(known),
        database=Database("trivy", None, None),
        time=top.moment("CreatedAt"),
    )


def _vulnerabilities(result: Outside) -> Iterator[Outside]:
    """Those that count for Trivy, and those that somebody had it ignore."""
    for item in result.many("Vulnerabilities"):
        yield Outside(item, "Trivy vulnerability")
    for item in result.many("ExperimentalModifiedFindings"):
        modified = Outside(item, "Trivy modified finding")
        if modified.word("Type") == "vulnerability":
            yield modified.part("Finding")


def _known(one: Outside, kind: str, target: str) -> Known:
    package, version = one.exactly("PkgName"), one.exactly("InstalledVersion")
    ids = [one.exactly("VulnerabilityID", 128)]
    ids += [item for item in one.many("VendorIDs") if isinstance(item, str) and len(item) <= 128]
    of_kind = next((name for name, kinds in _ECOSYSTEMS.items() if kind in kinds), kind)
    identifier = one.part_or_none("PkgIdentifier")
    purl = "" if identifier is None else identifier.word("PURL", 2048)
    ecosystem = ecosystem_of(purl, of_kind)
    path = one.word("PkgPath") or target
    return Known(ecosystem, package, version, tuple(ids), severity_of(one.word("Severity")), path)
