"""A database of advisories: what it says, and that whatever it cannot say is not evaluated."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.errors import InputError
from keepstone.scan.packages.osv.affected import UndecidedError, fixes, is_affected
from keepstone.scan.packages.osv.database import read_database
from keepstone.scan.packages.osv.record import Affected, BadRecordError, read_head, read_record
from keepstone.scan.packages.versions import order_of
from tests.scan.osv_records import (
    NOW,
    OTHER,
    RECENT,
    affected,
    before,
    ids,
    judged,
    open_,
    record,
    thing,
    write_folder,
    write_zip,
)

DAY = 86_400_000


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


@pytest.mark.parametrize(
    ("place", "most"),
    [("database.MAX_RECORDS", 2), ("database.MAX_TOTAL", 500), ("files.MAX_TOTAL", 500)],
)
def test_more_records_than_there_can_be_are_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, most: int
) -> None:
    monkeypatch.setattr(f"keepstone.scan.packages.osv.{place}", most)
    records = [OTHER, OTHER, record("CVE-1", before("9"))]
    for path in (
        write_folder(tmp_path / "osv", records),
        write_zip(tmp_path / "all.zip", records),
    ):
        whole = place.startswith("files") and path.is_dir()
        report = judged(path, [thing("3.0"), thing("10", name="other")])
        assert (report.outcome is Outcome.FLAGGED) is whole
        assert bool(report.open) is not whole


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
