"""Grype's JSON report, read from its documented form (Grype 0.x).

It lists matches and no packages: where nothing matched, only the SBOM that Grype was given can say
that there was something to look at. What a user of Grype had it ignore is a finding here: a
signed waiver is how it is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from keepstone.core.digest import Digest
from keepstone.evidence.made import Tool
from keepstone.evidence.vulnerabilities import Database
from keepstone.scan.vulnerabilities.examined import Examined, Known
from keepstone.scan.vulnerabilities.outside import MAX_ITEMS, Outside, major_of, newer, severity_of
from keepstone.scan.vulnerabilities.purl import ecosystem_of

_MAJOR = 0
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})(?![0-9a-f])")


def read_grype(value: Mapping[str, Any]) -> Examined:
    """Raises InputError `report.malformed`, `report.newer_version`."""
    top = Outside(value, "Grype report")
    descriptor = top.part("descriptor")
    version = descriptor.exactly("version", 64)
    if descriptor.exactly("name", 64) != "grype":
        raise descriptor.fault("name", "is not grype")
    major = major_of(version)
    if major is None:
        raise descriptor.fault("version", "is not a version")
    if major > _MAJOR:
        raise newer("Grype", version, f"{_MAJOR}.x")
    matches = [
        Outside(item, "Grype match")
        for item in (*top.items("matches", MAX_ITEMS), *top.many("ignoredMatches"))
    ]
    known = tuple(map(_known, matches))
    database, doubts = _database(descriptor)
    return Examined(
        scanner=Tool("grype", version),
        target=_target(top),
        packages=len({(one.ecosystem, one.package, one.version) for one in known}),
        known=known,
        database=database,
        open=doubts,
        time=descriptor.moment("timestamp"),
    )


def _known(match: Outside) -> Known:
    vulnerability, artifact = match.part("vulnerability"), match.part("artifact")
    ids = [vulnerability.exactly("id", 128)]
    for item in match.many("relatedVulnerabilities"):
        ids.append(Outside(item, "Grype related vulnerability").exactly("id", 128))
    name, version = artifact.exactly("name"), artifact.exactly("version")
    locations = [Outside(item, "Grype location") for item in artifact.many("locations")]
    path = locations[0].word("path") if locations else ""
    ecosystem = ecosystem_of(artifact.word("purl", 2048), artifact.word("type", 64))
    severity = severity_of(vulnerability.word("severity", 64))
    return Known(ecosystem, name, version, tuple(dict.fromkeys(ids)), severity, path)


def _database(descriptor: Outside) -> tuple[Database, tuple[str, ...]]:
    """The database, and why what it did not find says nothing."""
    outer = descriptor.part_or_none("db")
    if outer is None:
        return Database("grype", None, None), ()
    # Since Grype 0.88 what is known of the database stands one step further in.
    inner = outer.part_or_none("status") or outer
    match = _SHA256.search(inner.word("checksum", 256) or unquote(inner.word("from", 2048)))
    found = Database("grype", Digest(match[1]) if match else None, inner.moment("built"))
    broken = inner.maybe("valid") is False or bool(inner.maybe("error"))
    return found, ("Grype says that its database was not valid.",) if broken else ()


def _target(top: Outside) -> str:
    source = top.part_or_none("source")
    if source is None:
        return ""
    target = source.maybe("target")
    if isinstance(target, str):
        return source.word("target", 500)
    return "" if target is None else source.part("target").word("userInput", 500)
