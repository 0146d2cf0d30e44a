"""Reports as other scanners write them, and what is stated of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from keepstone.core.digest import Digest
from keepstone.core.ports import parse_rfc3339
from keepstone.core.subject import Subject
from keepstone.errors import KeepstoneError
from keepstone.evidence.made import Tool
from keepstone.evidence.statement import Statement, parse_statement
from keepstone.evidence.vulnerabilities import Vulnerabilities
from keepstone.identity.signing import SigningKey
from keepstone.scan.vulnerabilities.examined import Examined, conclude
from keepstone.scan.vulnerabilities.reading import Given, examine
from keepstone.scan.vulnerabilities.waiver import (
    Waivers,
)
from tests.scan.osv_server import osv_record

DAY = 86_400_000
NOW = parse_rfc3339("2026-01-05T00:00:00Z")
KEY = SigningKey.generate()

TRIVY: dict[str, Any] = {
    "SchemaVersion": 2,
    "Trivy": {"Version": "0.69.1"},
    "CreatedAt": "2026-01-04T10:00:00.123456789Z",
    "ArtifactName": "registry.example/scorer:1",
    "ArtifactType": "container_image",
    "Metadata": {"OS": {"Family": "debian", "Name": "12.5"}},
    "Results": [
        {
            "Target": "registry.example/scorer:1 (debian 12.5)",
            "Class": "os-pkgs",
            "Type": "debian",
            "Packages": [
                {"ID": "libc6@2.36-9", "Name": "libc6", "Version": "2.36-9"},
                {"ID": "zlib1g@1", "Name": "zlib1g", "Version": "1"},
            ],
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2026-7",
                    "PkgID": "libc6@2.36-9",
                    "PkgName": "libc6",
                    "PkgIdentifier": {
                        "PURL": "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12.5"
                    },
                    "InstalledVersion": "2.36-9",
                    "FixedVersion": "2.36-10",
                    "Severity": "CRITICAL",
                    "CVSS": {"nvd": {"V3Score": 9.8}},
                }
            ],
        },
        {"Target": "Python", "Class": "lang-pkgs", "Type": "python-pkg", "Vulnerabilities": None},
    ],
}

GRYPE: dict[str, Any] = {
    "matches": [
        {
            "vulnerability": {
                "id": "GHSA-aaaa-bbbb-cccc",
                "dataSource": "https://example.org",
                "severity": "High",
                "cvss": [{"metrics": {"baseScore": 7.5}}],
                "fix": {"versions": ["2.0"], "state": "fixed"},
            },
            "relatedVulnerabilities": [{"id": "CVE-2026-1", "severity": "High"}],
            "matchDetails": [],
            "artifact": {
                "id": "1",
                "name": "left-pad",
                "version": "1.0",
                "type": "python",
                "locations": [{"path": "/requirements.txt"}],
                "purl": "pkg:pypi/left-pad@1.0",
            },
        }
    ],
    "source": {"type": "directory", "target": "/srv/scorer"},
    "distro": {"name": "", "version": "", "idLike": None},
    "descriptor": {
        "name": "grype",
        "version": "0.74.0",
        "timestamp": "2026-01-04T10:00:00.5+01:00",
        "db": {
            "built": "2026-01-03T01:30:00Z",
            "schemaVersion": 5,
            "checksum": "sha256:" + "ab" * 32,
            "error": None,
        },
    },
}

SYFT: dict[str, Any] = {
    "artifacts": [
        {
            "id": "1",
            "name": "left-pad",
            "version": "1.0",
            "type": "python",
            "locations": [{"path": "/requirements.txt"}],
            "purl": "pkg:pypi/left-pad@1.0",
        },
    ],
    "artifactRelationships": [],
    "source": {"id": "x", "name": "scorer", "version": "", "type": "directory"},
    "distro": {},
    "descriptor": {"name": "syft", "version": "1.18.1"},
    "schema": {"version": "16.0.18", "url": "https://example.org"},
}

CYCLONEDX: dict[str, Any] = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "metadata": {
        "timestamp": "2026-01-04T10:00:00Z",
        "tools": {"components": [{"type": "application", "name": "syft", "version": "1.18.1"}]},
        "component": {"type": "container", "name": "scorer"},
    },
    "components": [
        {
            "bom-ref": "a",
            "type": "library",
            "name": "left-pad",
            "version": "1.0",
            "purl": "pkg:pypi/left-pad@1.0",
        },
        {"type": "file", "name": "/requirements.txt"},
        {"type": "operating-system", "name": "debian", "version": "12"},
    ],
}

VULNERABILITIES = ("Results", 0, "Vulnerabilities")
REPORTS = {"trivy": TRIVY, "grype": GRYPE, "syft": SYFT, "cyclonedx": CYCLONEDX}


def given_of(value: Any, **more: Any) -> Given:
    return Given(json.dumps(value).encode(), **more)


def read(value: Any, **more: Any) -> Examined:
    return examine(given_of(value, **more), NOW)


def state(found: Examined, waivers: Waivers | None = None, now: int = NOW) -> Vulnerabilities:
    """What would be signed; and it can be, and reads back."""
    said = conclude(
        found,
        waivers or Waivers(),
        basis="reported",
        tool=Tool("keepstone", "0"),
        now=now,
        report=Digest.of(b"report"),
    )
    data = Statement(Subject("m", Digest.of(b"m")), said).to_bytes()
    assert parse_statement(data).predicate == said
    return said


def changed(value: Any, *path: Any, to: Any) -> Any:
    made = copy.deepcopy(value)
    at = made
    for step in path[:-1]:
        at = at[step]
    if to is KeyError:
        del at[path[-1]]
    else:
        at[path[-1]] = to
    return made


def code(value: Any, **more: Any) -> str:
    with pytest.raises(KeepstoneError) as caught:
        read(value, **more)
    return caught.value.code


def osv_folder(root: Path) -> Path:
    """A database whose one record is about left-pad below 2.0."""
    folder = root / "osv"
    folder.mkdir()
    record = osv_record("GHSA-aaaa-bbbb-cccc", aliases=["CVE-2026-1"])
    (folder / "GHSA-aaaa-bbbb-cccc.json").write_text(json.dumps(record))
    return folder
