"""Reports of other scanners: read strictly, and never clean where they saw nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome, Severity
from keepstone.core.ports import parse_rfc3339, rfc3339
from keepstone.errors import InputError
from keepstone.evidence.made import Tool
from keepstone.scan.packages.judging import judge_packages
from keepstone.scan.packages.osv.database import read_database
from keepstone.scan.packages.places import look
from keepstone.scan.packages.report import deps_json
from keepstone.scan.vulnerabilities.examined import examined
from keepstone.scan.vulnerabilities.reading import Given, examine
from keepstone.scan.vulnerabilities.waiver import (
    Waiver,
    Waivers,
    read_waivers,
    sign_waiver,
)
from tests.scan.outside_reports import (
    CYCLONEDX,
    GRYPE,
    KEY,
    NOW,
    REPORTS,
    SYFT,
    TRIVY,
    VULNERABILITIES,
    changed,
    code,
    given_of,
    osv_folder,
    read,
    state,
)

DAY = 86_400_000


@pytest.fixture
def osv(tmp_path: Path) -> Path:
    return osv_folder(tmp_path)


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
