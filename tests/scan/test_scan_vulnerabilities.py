"""What comes of a package and its advisories: which findings, how grave, and how they are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from keepstone.core.finding import Outcome, Severity
from keepstone.scan.packages.findings import findings_of, smells_of
from keepstone.scan.packages.judging import DepsReport
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.report import deps_json, deps_sarif, deps_text
from tests.scan.judging import sarif_schema
from tests.scan.osv_records import (
    HIGH,
    OTHER,
    affected,
    before,
    ids,
    judged,
    record,
    thing,
    v3,
    write_folder,
)


def test_a_withdrawn_record_does_not_count_once_it_is_withdrawn(tmp_path: Path) -> None:
    gone = record("CVE-1", before("2.0"), withdrawn="2026-06-01T00:00:00Z")
    ahead = record("CVE-2", before("2.0"), withdrawn="2999-06-01T00:00:00Z")
    assert ids(judged(write_folder(tmp_path / "osv", [gone, ahead]), [thing("1")])) == [("CVE-2",)]


def test_one_weakness_is_one_finding_whoever_reports_it(tmp_path: Path) -> None:
    records = [
        record("GHSA-a", before("2.0"), aliases=["CVE-1"], severity=v3(HIGH), summary="Leaks."),
        record("PYSEC-1", before("2.1"), aliases=["GHSA-a"]),
        record("PYSEC-2", before("2.0"), aliases=["CVE-2"]),
        record("CVE-1", before("2.0")),
    ]
    report = judged(write_folder(tmp_path / "osv", records), [thing("1.0")])
    assert ids(report) == [("CVE-1", "GHSA-a", "PYSEC-1"), ("CVE-2", "PYSEC-2")]
    found = report.vulnerabilities[0]
    assert set(found.fixed) == {"2.0", "2.1"}
    assert (found.rating.word, found.rating.score, found.summary) == ("high", 7.5, "Leaks.")


def test_an_advisory_over_several_weaknesses_joins_them_to_none(tmp_path: Path) -> None:
    def debian(name: str, **more: Any) -> dict[str, Any]:
        return record(name, before("2.0", "openssl", "Debian:12"), **more)

    records = [
        debian("DEBIAN-CVE-1-1", upstream=["CVE-1-1"]),
        debian("DEBIAN-CVE-1-2", upstream=["CVE-1-2"]),
        debian("DSA-1", upstream=["CVE-1-1", "DEBIAN-CVE-1-1", "CVE-1-2", "DEBIAN-CVE-1-2"]),
        debian("DSA-2", upstream=["CVE-1-1", "DEBIAN-CVE-1-1", "CVE-1-3", "DEBIAN-CVE-1-3"]),
        debian("DSA-3", upstream=["CVE-1-4", "DEBIAN-CVE-1-4"]),
    ]
    package = thing("1", "Debian:12", "openssl")
    report = judged(write_folder(tmp_path / "osv", records), [package])
    assert ids(report) == [
        ("CVE-1-1", "DEBIAN-CVE-1-1", "DSA-1"),
        ("CVE-1-2", "DEBIAN-CVE-1-2", "DSA-1"),
        ("CVE-1-4", "DSA-3"),
        ("DSA-2",),
    ]
    assert (
        len(judged(write_folder(tmp_path / "twice", records * 2), [package]).vulnerabilities) == 4
    )
    assert report.vulnerabilities[-1].about == ("CVE-1-1", "CVE-1-3")
    assert "has DSA-2 (unknown), fixed in 2.0, about CVE-1-1, CVE-1-3." in deps_text(report)


def test_the_gravest_of_several_records_counts(tmp_path: Path) -> None:
    low = "CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"
    records = [
        record("GHSA-a", before("2.0"), aliases=["CVE-1"], severity=v3(low)),
        record("CVE-1", before("2.0"), database_specific={"severity": "CRITICAL"}),
    ]
    report = judged(write_folder(tmp_path / "osv", records), [thing("1.0")])
    assert report.vulnerabilities[0].rating.word == "critical"


def test_source_packages_releases_and_names_are_told_apart(tmp_path: Path) -> None:
    records = [
        record("CVE-1", before("3.0.11-1~deb12u3", "openssl", "Debian:12")),
        record("CVE-2", before("9", "libssl3", "Debian:12")),
        record("CVE-3", before("9", "openssl", "Debian:11")),
        record("CVE-4", before("9", "openssl", "Debian")),
        record("CVE-5", before("3.1.4-r6", "openssl", "Alpine:v3.19")),
        record("CVE-6", before("9", "openssl", "Ubuntu:22.04:LTS")),
        record("CVE-7", before("9", "openssl", "Ubuntu:Pro:22.04:LTS")),
        record("CVE-8", before("2", "Thing_X.y")),
    ]
    folder = write_folder(tmp_path / "osv", records)

    def about(ecosystem: str, name: str, version: str, *source: str) -> list[tuple[str, ...]]:
        return ids(judged(folder, [Package(ecosystem, name, version, "status", *source)]))

    # The binary's own version is behind the fix, the source's is not.
    at = ("openssl", "3.0.11-1~deb12u2")
    assert about("Debian:12", "libssl3", "9:99", *at) == [("CVE-1",), ("CVE-4",)]
    assert about("Debian:12", "libssl3", "1", "openssl", "10") == []
    assert about("Alpine:v3.19", "libcrypto3", "3.1.4-r5", "openssl", "3.1.4-r5") == [("CVE-5",)]
    assert about("Ubuntu:22.04", "openssl", "3") == [("CVE-6",)]
    assert about("Ubuntu:22.04:LTS", "openssl", "3") == [("CVE-6",)]
    assert about("PyPI", "thing.X--Y", "1") == [("CVE-8",)]


V2 = "AV:N/AC:L/Au:N/C:C/I:C/A:C"
V4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"


@pytest.mark.parametrize(
    ("more", "inside", "word", "score"),
    [
        ({"severity": v3(HIGH)}, {}, "high", 7.5),
        ({"severity": [{"type": "CVSS_V2", "score": V2}]}, {}, "high", 10.0),
        ({"severity": [{"type": "CVSS_V4", "score": V4}]}, {}, "critical", 9.3),
        ({"severity": [*v3(HIGH), {"type": "CVSS_V4", "score": V4}]}, {}, "critical", 9.3),
        ({}, {"severity": v3(HIGH)}, "high", 7.5),
        ({"database_specific": {"severity": "MODERATE"}}, {}, "medium", None),
        ({}, {"ecosystem_specific": {"urgency": "unimportant"}}, "low", None),
        ({"severity": [{"type": "Ubuntu", "score": "medium"}]}, {}, "medium", None),
        # A vector counts before a word, and a broken one is none.
        ({"severity": v3(HIGH), "database_specific": {"severity": "CRITICAL"}}, {}, "high", 7.5),
        ({"severity": v3("CVSS:3.1/AV:X")}, {}, "unknown", None),
        ({"severity": v3("CVSS:3.1/" + "A" * 5_000)}, {}, "unknown", None),
        ({"severity": v3("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N")}, {}, "info", 0.0),
        ({"database_specific": {"severity": 7}}, {}, "unknown", None),
        ({"database_specific": {"severity": "not yet assigned"}}, {}, "unknown", None),
        ({}, {}, "unknown", None),
    ],
)
def test_severity_is_cvss_or_the_databases_word_or_unknown(
    tmp_path: Path, more: dict[str, Any], inside: dict[str, Any], word: str, score: float | None
) -> None:
    folder = write_folder(tmp_path / "osv", [record("CVE-1", before("2") | inside, **more)])
    rating = judged(folder, [thing("1")]).vulnerabilities[0].rating
    assert (rating.word, rating.score) == (word, score)


def test_without_its_library_a_severity_is_unknown_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "osv", [record("CVE-1", before("2"), severity=v3(HIGH))])
    monkeypatch.setitem(__import__("sys").modules, "cvss", None)
    report = judged(folder, [thing("1")], fail_on=Severity.CRITICAL)
    assert (report.vulnerabilities[0].rating.word, report.outcome) == ("unknown", Outcome.FLAGGED)


def test_what_is_below_the_limit_or_waived_is_told_and_does_not_count(tmp_path: Path) -> None:
    records = [
        record("CVE-1", before("2"), severity=v3(HIGH)),
        record("CVE-2", before("2"), database_specific={"severity": "CRITICAL"}),
        record("CVE-3", before("2")),
        record("MAL-4", before("2"), database_specific={"severity": "LOW"}),
    ]
    folder = write_folder(tmp_path / "osv", records)

    def rules(report: DepsReport) -> list[str]:
        return sorted(item.finding.rule for item in findings_of(report))

    every = judged(folder, [thing("1")])
    assert rules(every) == [
        *("deps.malicious", "deps.unknown_severity", "deps.vulnerable", "deps.vulnerable")
    ]
    some = judged(folder, [thing("1")], fail_on=Severity.CRITICAL)
    assert rules(some) == ["deps.malicious", "deps.unknown_severity", "deps.vulnerable"]
    assert [item.finding.rule for item in smells_of(some)] == ["smell.vulnerable"]
    assert "(below critical) thing 1 (PyPI) has CVE-1 (high 7.5)" in deps_text(some)
    assert [item["counts"] for item in deps_json(some)["vulnerabilities"]] == [False, *[True] * 3]

    none = judged(folder, [thing("1")], waived=lambda found: f"{found.id} is not reached.")
    assert none.outcome is Outcome.CLEAN
    assert rules(none) == []
    assert "waived thing 1 (PyPI) has CVE-1" in deps_text(none)
    assert deps_json(none)["vulnerabilities"][0]["waived"] == "CVE-1 is not reached."
    results = deps_sarif(none)["runs"][0]["results"]
    assert {item["suppressions"][0]["justification"] for item in results} == {
        f"{one} is not reached." for one in ("CVE-1", "CVE-2", "CVE-3", "MAL-4")
    }


def test_each_finding_names_the_database_and_its_age(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "osv", [record("CVE-1", before("2")), OTHER])
    report = judged(folder, [thing("1")])
    document = deps_json(report)
    said = {"digest": str(report.database.digest) if report.database else "", "age_days": 1}
    for place in (document["database"], document["vulnerabilities"][0]["database"]):
        assert place.items() >= said.items()
        assert place["newest"] == "2026-06-08T09:30:00.123Z"
    assert document["database"]["ecosystems"]["PyPI"]["records"] == 2
    document = deps_sarif(judged(folder, [thing("1"), thing("1", "conda")]))
    jsonschema.validate(document, sarif_schema())
    sarif = document["runs"][0]
    assert sarif["properties"]["database"].items() >= said.items()
    assert str(said["digest"]) in deps_text(report)


def test_a_finding_has_the_age_of_what_is_known_about_its_ecosystem(tmp_path: Path) -> None:
    entry = affected(
        "thing", {"introduced": "0"}, {"fixed": "2.0.0"}, ecosystem="npm", kind="SEMVER"
    )
    older = record("CVE-1", entry, modified="2026-06-01T00:00:00Z")
    folder = write_folder(tmp_path / "osv", [OTHER, older])
    document = deps_json(judged(folder, [thing("1.0.0", "npm")]))
    assert document["database"]["age_days"] == 1
    assert document["vulnerabilities"][0]["database"]["age_days"] == 9


def test_a_fingerprint_outlives_another_version_and_another_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "osv", [record("CVE-1", before("2"), record_note=1)])

    def fingerprint(*package: str) -> str:
        report = judged(folder, [Package("PyPI", *package)])
        result = deps_sarif(report)["runs"][0]["results"][0]
        return str(result["partialFingerprints"]["keepstonePackage/v1"])

    one = fingerprint("thing", "1.0", "a/requirements.txt")
    assert one == fingerprint("Thing", "1.1", "b/uv.lock")


@pytest.mark.parametrize(
    ("events", "means"),
    [
        (({"introduced": "0"}, {"last_affected": "2.0.0"}), True),
        (({"introduced": "2.0.0"}, {"last_affected": "2.0"}), True),
        (({"introduced": "0"}, {"fixed": "2.0.0"}), False),
        (({"introduced": "2.0.1"},), False),
    ],
)
def test_a_build_with_a_local_label_is_the_version_that_it_was_built_from(
    tmp_path: Path, events: tuple[dict[str, str], ...], means: bool
) -> None:
    entry = affected("torch", *events)
    folder = write_folder(tmp_path / "osv", [record("CVE-1", entry), OTHER])
    report = judged(folder, [thing("2.0.0+cu118", name="torch")])
    assert (ids(report) == [("CVE-1",)]) is means
    both = affected("torch", {"introduced": "0"}, {"last_affected": "2"}, {"fixed": "2.1"})
    fixed = write_folder(tmp_path / "fixed", [record("CVE-1", both), OTHER])
    told = judged(fixed, [thing("2.0.0+cu118", name="torch")]).vulnerabilities
    assert [found.fixed for found in told] == [("2.1",)]
    listed = write_folder(tmp_path / "list", [record("CVE-1", affected("torch", versions=["2.0"]))])
    assert ids(judged(listed, [thing("2.0.0+cu118", name="torch")])) == [("CVE-1",)]
