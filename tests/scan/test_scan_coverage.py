"""Of whom a database's silence says something: nobody is covered by what was meant for another."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keepstone.core.finding import Outcome
from keepstone.errors import KeepstoneError
from keepstone.evidence.made import TOOL
from keepstone.scan.packages.osv.database import read_database
from keepstone.scan.vulndb.record import FILE
from keepstone.scan.vulndb.update import UpdateOptions, update
from keepstone.scan.vulnerabilities.examined import examined
from tests.scan.osv_records import (
    NOW,
    OTHER,
    affected,
    before,
    judged,
    open_,
    record,
    thing,
    write_folder,
    write_zip,
)
from tests.scan.osv_server import Osv, osv_record, osv_server, osv_zip

OLD, LATER = "2026-01-01T00:00:00Z", "2109-01-01T00:00:00Z"


@pytest.fixture
def osv() -> Iterator[Osv]:
    with osv_server() as server:
        yield server


def crossing(*ecosystems: str, **more: Any) -> dict[str, Any]:
    return record("GHSA-x", *(before("1", "other", one) for one in ecosystems), **more)


def test_a_record_of_two_ecosystems_covers_neither(tmp_path: Path) -> None:
    own = record("GHSA-n", before("1", "other", "npm"))
    folder = write_folder(tmp_path / "osv", [own, crossing("npm", "PyPI")])
    report = judged(folder, [thing("1", "npm"), thing("1")])
    assert report.outcome is Outcome.NOT_EVALUATED
    assert {item.reason for item in report.open} == {"The database holds nothing about PyPI."}


def test_what_such_a_record_says_is_said(tmp_path: Path) -> None:
    entries = [before("2", ecosystem=one) for one in ("npm", "PyPI")]
    report = judged(write_folder(tmp_path / "osv", [record("GHSA-x", *entries)]), [thing("1")])
    assert report.outcome is Outcome.FLAGGED
    assert open_(report) == {"thing 1": "The database holds nothing about PyPI."}


def test_a_record_of_two_releases_covers_neither(tmp_path: Path) -> None:
    own = record("DSA-1", before("1", "other", "Debian:12"))
    folder = write_folder(tmp_path / "osv", [own, crossing("Debian:12", "Debian:11")])
    report = judged(folder, [thing("1", "Debian:11"), thing("1", "Debian:12", "b")])
    assert open_(report) == {"thing 1": "The database holds nothing about Debian:11."}


def test_each_release_is_as_old_as_its_own_records(tmp_path: Path) -> None:
    stale = record("DSA-1", before("1", "other", "Debian:11"), modified=OLD)
    fresh = record("DSA-2", before("1", "other", "Debian:12"))
    folder = write_folder(tmp_path / "osv", [stale, fresh, crossing("Debian:11", "Debian:12")])
    packages = [thing("1", "Debian:11"), thing("1", "Debian:12", "b")]
    report = judged(folder, packages)
    (reason,) = open_(report).values()
    assert reason.startswith("The newest record about Debian:11 is of 2026-01-01")
    database = examined(report, TOOL, "x").database
    assert database is not None
    assert database.time == int(1767225600e3)


def test_a_record_of_tomorrow_but_one_makes_nothing_younger(tmp_path: Path) -> None:
    stale = record("DSA-1", before("1", "other", "Debian:12"), modified=OLD)
    later = record("DSA-2", before("1", "other", "Debian:12"), modified=LATER)
    report = judged(write_folder(tmp_path / "osv", [stale, later]), [thing("1", "Debian:12")])
    assert "2026-01-01" in open_(report)["thing 1"]
    report = judged(write_folder(tmp_path / "two", [later]), [thing("1", "Debian:12")])
    assert "dated in the future" in open_(report)["thing 1"]


def fetched(folder: Path, parts: dict[str, list[dict[str, Any]]]) -> Path:
    """A folder as `vulndb update` leaves it."""
    for name, records in parts.items():
        (folder / name).mkdir(parents=True)
        write_zip(folder / name / "all.zip", records)
    plain = {"source": "https://x/", "sha256": "sha256:" + "0" * 64, "bytes": 1, "records": 1}
    plain |= {"fetched": "2026-06-01T00:00:00.000Z", "checked": "2026-06-01T00:00:00.000Z"}
    none = dict.fromkeys(("newest", "etag", "last_modified"))
    document = {
        "schema": "keepstone.vulndb/v1",
        "digest": str(read_database(folder, (), NOW).digest),
        "ecosystems": [{"name": name, **plain, **none} for name in sorted(parts)],
    }
    (folder / FILE).write_text(json.dumps(document))
    return folder


def test_in_a_fetched_folder_an_archive_covers_its_ecosystem(tmp_path: Path) -> None:
    everywhere = crossing("Debian:11", "Debian:12", "npm", "PyPI")
    folder = fetched(tmp_path / "osv", {"Debian": [everywhere], "npm": [everywhere]})
    packages = [
        *(thing("1", "Debian:11"), thing("1", "Debian:12", "b")),
        *(thing("1", "npm", "c"), thing("1", "PyPI", "d"), thing("1", "Debian:13", "e")),
    ]
    assert open_(judged(folder, packages)) == {
        "d 1": "The database holds nothing about PyPI.",
        "e 1": "The database holds nothing about Debian:13.",
    }


def test_the_archive_of_one_release_covers_no_other(tmp_path: Path) -> None:
    folder = fetched(tmp_path / "osv", {"Debian:12": [crossing("Debian:11", "Debian:12")]})
    packages = [thing("1", "Debian:11"), thing("1", "Debian:12", "b")]
    assert open_(judged(folder, packages)) == {
        "thing 1": "The database holds nothing about Debian:11."
    }


def test_a_fetched_folder_that_was_changed_has_only_its_records_to_go_by(tmp_path: Path) -> None:
    folder = fetched(tmp_path / "osv", {"PyPI": [crossing("npm", "PyPI")]})
    assert judged(folder, [thing("1")]).outcome is Outcome.CLEAN
    (folder / "more.json").write_text(json.dumps(record("CVE-1", before("1", "o", "npm"))))
    assert judged(folder, [thing("1")]).outcome is Outcome.NOT_EVALUATED


@pytest.mark.parametrize("record_", [b"{", b"\xff" * 10])
def test_a_broken_record_of_a_folder_gives_it_no_coverage(tmp_path: Path, record_: bytes) -> None:
    folder = fetched(tmp_path / "osv", {"PyPI": [crossing("npm", "PyPI")]})
    (folder / FILE).write_bytes(record_)
    assert judged(folder, [thing("1")]).outcome is Outcome.NOT_EVALUATED


@pytest.mark.loopback
def test_one_record_of_2109_holds_no_later_update_back(osv: Osv, tmp_path: Path) -> None:
    folder, options = tmp_path / "osv", UpdateOptions(osv.url)
    first = osv_record("GHSA-a"), osv_record("GHSA-b", modified=LATER)
    osv.put("PyPI", osv_zip(*first))
    (part,) = update(folder, ["PyPI"], options).parts
    assert part.newest == int(1767323045e3)
    osv.put("PyPI", osv_zip(osv_record("GHSA-a", modified="2026-02-01T00:00:00Z")))
    assert update(folder, ["PyPI"], options).records == 1
    osv.put("PyPI", osv_zip(osv_record("GHSA-b", modified=LATER)))
    with pytest.raises(KeepstoneError, match=r"vulndb\.not_osv"):
        update(folder, ["PyPI"], options)


@pytest.mark.loopback
def test_a_time_to_come_that_an_older_build_took_holds_nobody_back(
    osv: Osv, tmp_path: Path
) -> None:
    folder, options = tmp_path / "osv", UpdateOptions(osv.url)
    osv.put("PyPI", osv_zip(osv_record("GHSA-a")))
    update(folder, ["PyPI"], options)
    document = json.loads((folder / FILE).read_text())
    document["ecosystems"][0]["newest"] = "2109-01-01T00:00:00.000Z"
    (folder / FILE).write_text(json.dumps(document))
    osv.put("PyPI", osv_zip(osv_record("GHSA-a"), osv_record("GHSA-b")))
    assert update(folder, ["PyPI"], options).records == 2


@pytest.mark.parametrize(("version", "outcome"), [("2004d-x", "not_evaluated"), ("3", "clean")])
def test_a_list_of_versions_answers_only_for_a_version_that_has_an_order(
    tmp_path: Path, version: str, outcome: str
) -> None:
    listed = record("CVE-1", affected("thing", versions=["1.0", "2004d x"]))
    report = judged(write_folder(tmp_path / "osv", [listed, OTHER]), [thing(version)])
    assert str(report.outcome).replace(" ", "_").replace("-", "_") == outcome
    same = record("CVE-1", affected("thing", versions=["2004d-x", "3"]))
    report = judged(write_folder(tmp_path / "two", [same, OTHER]), [thing(version)])
    assert report.outcome is Outcome.FLAGGED


@pytest.mark.loopback
def test_what_an_update_fetched_is_covered_release_by_release(osv: Osv, tmp_path: Path) -> None:
    both = [before("1", "other", one) for one in ("Debian:11", "Debian:12")]
    osv.put("Debian", osv_zip(record("DEBIAN-CVE-2026-1", *both)))
    osv.put("npm", osv_zip(record("GHSA-x", *(before("1", "o", one) for one in ("npm", "PyPI")))))
    folder = tmp_path / "osv"
    update(folder, ["Debian", "npm"], UpdateOptions(osv.url))
    clean = [thing("1", "Debian:11"), thing("1", "Debian:12", "b"), thing("1", "npm", "c")]
    assert judged(folder, clean).outcome is Outcome.CLEAN
    assert judged(folder, [thing("1")]).outcome is Outcome.NOT_EVALUATED


def test_a_pipe_in_the_place_of_a_folders_record_hangs_nobody(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "osv", [OTHER])
    os.mkfifo(folder / FILE)
    assert judged(folder, [thing("1")]).outcome is Outcome.CLEAN
