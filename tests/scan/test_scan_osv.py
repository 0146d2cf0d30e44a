"""A database of advisories: what it says, and that whatever it cannot say is not evaluated."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Outcome, Severity
from keepstone.errors import InputError
from keepstone.scan.packages.findings import findings_of, smells_of
from keepstone.scan.packages.judging import DepsReport
from keepstone.scan.packages.osv.affected import UndecidedError, fixes, is_affected
from keepstone.scan.packages.osv.database import read_database
from keepstone.scan.packages.osv.record import Affected, BadRecordError, read_head, read_record
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.report import deps_json, deps_sarif, deps_text
from keepstone.scan.packages.versions import order_of
from tests.scan.judging import sarif_schema
from tests.scan.osv_records import (
    HIGH,
    NOW,
    RECENT,
    affected,
    before,
    judged,
    record,
    thing,
    write_folder,
    write_zip,
)

DAY = 86_400_000
OTHER = record("CVE-9", before("1", "other"))


def ids(report: DepsReport) -> list[tuple[str, ...]]:
    return [found.ids for found in report.vulnerabilities]


def open_(report: DepsReport) -> dict[str, str]:
    return {item.name: item.reason for item in report.open}


def test_a_package_is_flagged_clean_or_not_evaluated(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "osv", [record("CVE-1", before("2.0")), OTHER])
    flagged = judged(folder, [thing("1.9")])
    assert (ids(flagged), flagged.outcome) == ([("CVE-1",)], Outcome.FLAGGED)
    clean = judged(folder, [thing("2.0")])
    assert (ids(clean), clean.open, clean.outcome) == ([], (), Outcome.CLEAN)
    nothing = judged(None, [thing("2.0")])
    assert open_(nothing) == {"thing 2.0": "No database of vulnerabilities was given."}
    assert nothing.outcome is Outcome.NOT_EVALUATED
    assert judged(folder, []).outcome is Outcome.NOT_EVALUATED


def test_a_zip_is_the_folder_that_was_zipped(tmp_path: Path) -> None:
    records = [record(f"CVE-{n}", before(f"{n}.0")) for n in range(5)]
    folder = write_folder(tmp_path / "osv", records)
    packed = write_zip(tmp_path / "all.zip", records)
    nested = tmp_path / "nested"
    nested.mkdir()
    write_zip(nested / "PyPI.zip", records)
    reports = [judged(path, [thing("2.5")]) for path in (folder, packed, nested)]
    assert [ids(report) for report in reports] == [[("CVE-3",), ("CVE-4",)]] * 3
    one, other, third = (read_database(path, [], NOW).digest for path in (folder, packed, nested))
    assert one == other != third


def test_the_digest_is_over_content_and_names_and_nothing_else(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "osv", [record("CVE-1", before("2.0")), OTHER])
    digest = read_database(folder, [], NOW).digest
    os.utime(folder / "0.json", (0, 0))
    (folder / ".state").write_text("kept by whoever fetched it")
    (folder / "README").write_text("no record")
    assert read_database(folder, [], NOW).digest == digest
    (folder / "0.json").rename(folder / "2.json")
    assert (moved := read_database(folder, [], NOW).digest) != digest
    (folder / "2.json").write_bytes((folder / "2.json").read_bytes() + b" ")
    assert read_database(folder, [], NOW).digest not in (digest, moved)


def test_an_old_database_still_flags_and_says_nothing_by_silence(tmp_path: Path) -> None:
    old = {"modified": "2026-05-20T00:00:00Z"}
    folder = write_folder(tmp_path / "osv", [record("CVE-1", before("2.0"), **old)])
    # The files themselves are new: their dates are not asked.
    report = judged(folder, [thing("1.0"), thing("2.0")])
    assert ids(report) == [("CVE-1",)]
    assert report.outcome is Outcome.FLAGGED
    assert sorted(open_(report)) == ["thing 1.0", "thing 2.0"]
    assert "2026-05-20T00:00:00" in open_(report)["thing 2.0"]
    assert "21 days ago" in open_(report)["thing 2.0"]
    assert judged(folder, [thing("2.0")]).outcome is Outcome.NOT_EVALUATED
    assert judged(folder, [thing("2.0")], max_age_ms=30 * DAY).outcome is Outcome.CLEAN


def test_each_ecosystem_has_its_own_age(tmp_path: Path) -> None:
    old = record("CVE-1", before("2.0", ecosystem="Debian:12"), modified="2025-01-01T00:00:00Z")
    folder = write_folder(tmp_path / "osv", [old, OTHER])
    report = judged(folder, [thing("3.0"), thing("3.0", "Debian:12")])
    assert len(report.open) == 1
    assert "Debian" in report.open[0].reason


def test_a_date_in_the_future_makes_no_old_database_new(tmp_path: Path) -> None:
    old = record("CVE-1", before("2.0"), modified="2025-01-01T00:00:00Z")
    ahead = record("CVE-2", before("2.0"), modified="2999-01-01T00:00:00Z")
    for records in ([old, ahead], [ahead]):
        folder = write_folder(tmp_path / f"osv{len(records)}", records)
        assert judged(folder, [thing("3.0")]).outcome is Outcome.NOT_EVALUATED


BROKEN: list[bytes | dict[str, Any]] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe{}",
    b'{"id": "CVE-1"}',
    b"[" * 100_000,
    record("CVE-1", before("2.0"), schema_version="2.0.0"),
    record("CVE-1", before("2.0"), schema_version="0.9"),
    record("CVE-1", before("2.0"), modified="yesterday"),
    record("CVE-1", before("2.0"), modified="2026-06-08T00:00:00"),
    record("", before("2.0")),
    record("CVE-1", affected={"package": {"ecosystem": "PyPI", "name": "thing"}}),
    record("CVE-1", {"package": {"ecosystem": "PyPI", "name": ["thing"]}}),
]


@pytest.mark.parametrize("broken", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_record_may_be_about_any_package(
    tmp_path: Path, broken: bytes | dict[str, Any]
) -> None:
    folder = write_folder(tmp_path / "osv", [OTHER, broken])
    report = judged(folder, [thing("3.0"), thing("0", name="other")])
    assert ids(report) == [("CVE-9",)]
    assert sorted(open_(report)) == ["other 0", "thing 3.0"]
    assert "1.json" in open_(report)["thing 3.0"]
    assert judged(folder, [thing("3.0")]).outcome is Outcome.NOT_EVALUATED


SUSPECT: list[bytes | dict[str, Any]] = [
    record("CVE-1", affected("thing", {"introduced": "0", "fixed": "2.0"})),
    record("CVE-1", affected("thing", {"introduced": "0"}, {"mended": "2.0"})),
    record("CVE-1", affected("thing", {})),
    record("CVE-1", affected("thing", versions=[1.0])),
    record("CVE-1", before("2.0"), aliases="CVE-2"),
    record("CVE-1", before("2.0"), withdrawn="no"),
    b'{"id": "CVE-1", "modified": "%b", "affected": [{"package": {"ecosystem": "PyPI", "name":'
    b' "thing"}, "versions": ["3.0"], "versions": ["1"]}]}' % RECENT.encode(),
]


@pytest.mark.parametrize("suspect", SUSPECT, ids=range(len(SUSPECT)))
def test_a_record_that_is_broken_inside_is_about_its_packages_alone(
    tmp_path: Path, suspect: bytes | dict[str, Any]
) -> None:
    folder = write_folder(tmp_path / "osv", [OTHER, suspect])
    report = judged(folder, [thing("3.0"), thing("3.0", name="other")])
    assert list(open_(report)) == ["thing 3.0"]
    assert report.outcome is Outcome.NOT_EVALUATED


UNDECIDED = [
    affected("thing"),
    affected("thing", {"introduced": "0"}, kind="GIT"),
    affected("thing", {"introduced": "0"}, {"fixed": "2"}, kind="LUNAR"),
    affected("thing", {"fixed": "2.0"}),
    affected("thing", {"introduced": "0"}, {"fixed": "two"}),
    affected("thing", {"introduced": "0"}, {"limit": "two"}),
    affected("thing", {"introduced": "0"}, {"fixed": "4.0"}, kind="SEMVER"),
]


@pytest.mark.parametrize("entry", UNDECIDED, ids=range(len(UNDECIDED)))
def test_an_entry_that_cannot_be_held_against_the_version_is_open(
    tmp_path: Path, entry: dict[str, Any]
) -> None:
    folder = write_folder(tmp_path / "osv", [OTHER, record("CVE-1", entry)])
    report = judged(folder, [thing("3.0")])
    assert list(open_(report)) == ["thing 3.0"]
    assert open_(report)["thing 3.0"].startswith("CVE-1: ")
    # What another part of the entry, or the list of versions, says counts all the same.
    listed = write_folder(tmp_path / "listed", [record("CVE-1", entry | {"versions": ["3"]})])
    assert ids(judged(listed, [thing("3.0")])) == [("CVE-1",)]


def test_a_version_that_is_none_is_open_where_an_advisory_speaks_of_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "osv", [record("CVE-1", before("2.0")), OTHER])
    assert list(open_(judged(folder, [thing("1.0-final-jb")]))) == ["thing 1.0-final-jb"]


@pytest.mark.parametrize(
    ("ecosystem", "word"),
    [
        ("Debian:11", "holds nothing about Debian:11"),
        ("Alpine:v3.18", "holds nothing about Alpine:v3.18"),
        ("npm", "holds nothing about npm"),
        ("conda", "no rule for versions of conda"),
        ("linuxmint:21", "no rule"),
        ("dpkg:unknown", "no rule"),
    ],
)
def test_what_the_database_does_not_cover_is_open(
    tmp_path: Path, ecosystem: str, word: str
) -> None:
    records = [record("CVE-1", before("2.0", ecosystem=name)) for name in ("PyPI", "Debian:12")]
    folder = write_folder(tmp_path / "osv", records)
    report = judged(folder, [thing("3.0", ecosystem)])
    assert word in open_(report)["thing 3.0"]
    assert report.outcome is Outcome.NOT_EVALUATED


def test_no_database_and_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zip").write_bytes(b"PK")
    assert judged(tmp_path / "empty", [thing("1")]).outcome is Outcome.NOT_EVALUATED
    for name, code in (("gone", "osv.missing"), ("file.zip", "osv.unreadable")):
        with pytest.raises(InputError) as error:
            judged(tmp_path / name, [thing("1")])
        assert error.value.code == code


def test_a_withdrawn_record_does_not_count_once_it_is_withdrawn(tmp_path: Path) -> None:
    gone = record("CVE-1", before("2.0"), withdrawn="2026-06-01T00:00:00Z")
    ahead = record("CVE-2", before("2.0"), withdrawn="2999-06-01T00:00:00Z")
    assert ids(judged(write_folder(tmp_path / "osv", [gone, ahead]), [thing("1")])) == [("CVE-2",)]


def test_one_weakness_is_one_finding_whoever_reports_it(tmp_path: Path) -> None:
    records = [
        record("GHSA-a", before("2.0"), aliases=["CVE-1"], severity=_v3(HIGH), summary="Leaks."),
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
    assert len(judged(_twice(tmp_path, records), [package]).vulnerabilities) == 4
    assert report.vulnerabilities[-1].about == ("CVE-1-1", "CVE-1-3")
    assert "has DSA-2 (unknown), fixed in 2.0, about CVE-1-1, CVE-1-3." in deps_text(report)


def _twice(tmp_path: Path, records: list[dict[str, Any]]) -> Path:
    return write_folder(tmp_path / "twice", [*records, *records])


def test_the_gravest_of_several_records_counts(tmp_path: Path) -> None:
    low = "CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"
    records = [
        record("GHSA-a", before("2.0"), aliases=["CVE-1"], severity=_v3(low)),
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


def _v3(vector: str) -> list[dict[str, str]]:
    return [{"type": "CVSS_V3", "score": vector}]


V2 = "AV:N/AC:L/Au:N/C:C/I:C/A:C"
V4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"


@pytest.mark.parametrize(
    ("more", "inside", "word", "score"),
    [
        ({"severity": _v3(HIGH)}, {}, "high", 7.5),
        ({"severity": [{"type": "CVSS_V2", "score": V2}]}, {}, "high", 10.0),
        ({"severity": [{"type": "CVSS_V4", "score": V4}]}, {}, "critical", 9.3),
        ({"severity": [*_v3(HIGH), {"type": "CVSS_V4", "score": V4}]}, {}, "critical", 9.3),
        ({}, {"severity": _v3(HIGH)}, "high", 7.5),
        ({"database_specific": {"severity": "MODERATE"}}, {}, "medium", None),
        ({}, {"ecosystem_specific": {"urgency": "unimportant"}}, "low", None),
        ({"severity": [{"type": "Ubuntu", "score": "medium"}]}, {}, "medium", None),
        # A vector counts before a word, and a broken one is none.
        ({"severity": _v3(HIGH), "database_specific": {"severity": "CRITICAL"}}, {}, "high", 7.5),
        ({"severity": _v3("CVSS:3.1/AV:X")}, {}, "unknown", None),
        ({"severity": _v3("CVSS:3.1/" + "A" * 5_000)}, {}, "unknown", None),
        ({"severity": _v3("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N")}, {}, "info", 0.0),
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
    folder = write_folder(tmp_path / "osv", [record("CVE-1", before("2"), severity=_v3(HIGH))])
    monkeypatch.setitem(__import__("sys").modules, "cvss", None)
    report = judged(folder, [thing("1")], fail_on=Severity.CRITICAL)
    assert (report.vulnerabilities[0].rating.word, report.outcome) == ("unknown", Outcome.FLAGGED)


def test_what_is_below_the_limit_or_waived_is_told_and_does_not_count(tmp_path: Path) -> None:
    records = [
        record("CVE-1", before("2"), severity=_v3(HIGH)),
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


def _spoilt(path: Path, how: str) -> Path:
    write_zip(path, [record("CVE-1", before("2")), OTHER])
    data = bytearray(path.read_bytes())
    if how == "content":
        data[data.index(b"CVE-1") + 4] = ord("7")
    elif how == "encrypted":
        data[6] |= 1
        data[data.index(b"PK\x01\x02") + 8] |= 1
    elif how == "method":
        data[data.index(b"PK\x01\x02") + 10] = 97
    elif how == "lzma":
        with zipfile.ZipFile(path, "a", zipfile.ZIP_LZMA) as file:
            file.writestr("packed.json", json.dumps(OTHER))
        data = bytearray(path.read_bytes())
        at = data.index(b"packed.json") + 11
        data[at + 9 : at + 20] = bytes(11)
    elif how == "twice":
        with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as file:
            file.writestr("0.json", json.dumps(OTHER))
        return path
    elif how == "bomb":
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
            file.writestr("bomb.json", json.dumps(OTHER) + " " * (65 << 20))
        return path
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("how", ["content", "encrypted", "method", "lzma", "twice", "bomb"])
def test_a_spoilt_zip_is_not_evaluated(tmp_path: Path, how: str) -> None:
    path = _spoilt(tmp_path / "all.zip", how)
    report = judged(path, [thing("3.0")])
    assert list(open_(report)) == ["thing 3.0"]
    assert report.outcome is Outcome.NOT_EVALUATED


def test_a_zip_cut_short_inside_a_folder_is_not_evaluated(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "osv", [OTHER])
    path = write_zip(folder / "all.zip", [record("CVE-1", before("2"))])
    path.write_bytes(path.read_bytes()[:-30])
    (folder / "link.json").symlink_to("/etc/passwd")
    report = judged(folder, [thing("3.0")])
    reason = open_(report)["thing 3.0"]
    assert "all.zip" in reason
    assert "link.json" in reason


def test_more_records_than_there_can_be_are_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepstone.scan.packages.osv.database.MAX_RECORDS", 2)
    folder = write_folder(tmp_path / "osv", [OTHER, OTHER, record("CVE-1", before("9"))])
    assert judged(folder, [thing("3.0")]).outcome is Outcome.NOT_EVALUATED


def test_many_broken_records_are_counted(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "osv", [OTHER, *[b"{"] * 50])
    database = read_database(folder, [], NOW)
    assert len(database.broken) == 21
    assert database.broken[-1] == "and 30 more"


PYPI = order_of("PyPI")
assert PYPI is not None


def _entry(*events: dict[str, str], versions: tuple[str, ...] = ()) -> Affected:
    document = record("CVE-1", affected("thing", *events, versions=list(versions)))
    entries = read_record(json.dumps(document).encode()).affected
    assert entries is not None
    return entries[0]


def test_the_next_fix_of_the_range_that_holds_the_version_is_named() -> None:
    entry = _entry(
        *({"introduced": "0"}, {"fixed": "1.5"}, {"introduced": "2"}, {"fixed": "2.5"}),
        *({"introduced": "3"}, {"fixed": "10"}),
    )
    assert [fixes(version, entry, PYPI) for version in ("1.0", "1.7", "2.1", "9", "10")] == [
        *(("1.5",), (), ("2.5",), ("10",), ())
    ]
    assert fixes("1", _entry({"introduced": "0"}), PYPI) == ()


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


def test_zero_is_before_everything() -> None:
    assert is_affected("0.dev0", _entry({"introduced": "0"}), PYPI)
    assert not is_affected("0.dev0", _entry({"introduced": "0.0"}), PYPI)


_VERSIONS = st.sampled_from(["0", "1", "1.0", "2", "2.0rc1", "x", ""])
_EVENTS = st.lists(
    st.dictionaries(
        st.sampled_from(["introduced", "fixed", "last_affected", "limit"]),
        _VERSIONS,
        min_size=1,
        max_size=2,
    ),
    max_size=4,
)


@given(events=_EVENTS, versions=st.lists(_VERSIONS, max_size=2), version=_VERSIONS)
def test_any_entry_says_yes_no_or_that_it_cannot(
    events: list[dict[str, str]], versions: list[str], version: str
) -> None:
    try:
        entry = _entry(*events, versions=tuple(versions))
    except BadRecordError:
        assert any(len(event) > 1 for event in events)
        return
    try:
        said = is_affected(version, entry, PYPI)
    except UndecidedError:
        return
    assert said or version not in versions


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "modified", "affected", "package", "name", "ecosystem", "ranges"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(document=_JSON)
def test_any_json_is_a_record_or_refused(document: Any) -> None:
    data = json.dumps(document).encode()
    try:
        head = read_head(data)
    except BadRecordError:
        return
    assert head.id
    assert head.modified.tzinfo is not None
