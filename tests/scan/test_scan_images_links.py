"""Lists of packages behind links: what a container finds is listed, and every look ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepstone.core.finding import Outcome
from keepstone.scan.images.links import _BELOW
from keepstone.scan.packages.readers import _INSTALLED
from tests.scan.imaging import (
    Member,
    at,
    file,
    folder,
    image,
    only,
    reasons,
    scanned,
    symlink,
    tar,
)

DPKG = b"Package: bash\nStatus: install ok installed\nVersion: 5.2\n"
RELEASE = b"ID=debian\nVERSION_ID=12\n"
METADATA = b"Name: evil\nVersion: 1.0\n"


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (
            [
                file("cache/abc", METADATA),
                folder("opt/evil-1.0.dist-info"),
                symlink("opt/evil-1.0.dist-info/METADATA", "/cache/abc"),
            ],
            ["evil"],
        ),
        ([file("cache/METADATA", METADATA), symlink("evil-1.0.dist-info", "cache")], ["evil"]),
        (
            [symlink("var/lib/dpkg", "../../usr/share/db"), file("usr/share/db/status", DPKG)],
            ["bash"],
        ),
        ([symlink("var/lib", "/v"), symlink("v/dpkg", "/d"), file("d/status", DPKG)], ["bash"]),
        ([symlink("var", "/v"), file("v/lib/dpkg/status.d/bash", DPKG)], ["bash"]),
        ([symlink("usr", "/u"), file("u/lib/apk/db/installed", b"P:musl\nV:1.2-r0\n")], ["musl"]),
        # A link back up, and one that is known by its own name already.
        (
            [
                symlink("opt/x/x", "."),
                symlink("opt/lib/y", "../.."),
                symlink("opt/lib64", "lib"),
                file("opt/lib/evil-1.0.dist-info/METADATA", METADATA),
            ],
            ["evil"],
        ),
    ],
)
def test_packages_behind_links_are_listed_once(
    tmp_path: Path, members: list[Member], expected: list[str]
) -> None:
    report = scanned(image(tar(file("etc/os-release", RELEASE), *members)).write(tmp_path))
    assert [one.name for one in only(report).packages.listed] == expected


@pytest.mark.parametrize("target", ["/gone", "METADATA", "/dev/null", "../../up"])
def test_a_list_of_packages_behind_a_link_to_nowhere_is_not_evaluated(
    tmp_path: Path, target: str
) -> None:
    layer = tar(symlink("opt/evil-1.0.dist-info/METADATA", target), file("dev/pad"))
    report = scanned(image(layer).write(tmp_path))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert at(report, "image.not_evaluated") == ["opt/evil-1.0.dist-info/METADATA"]


def test_links_that_lead_everywhere_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keepstone.scan.images.links._MAX_LOOKED", 20_000)
    everywhere = tar(*(symlink(f"a/{number}", "/a") for number in range(60)))
    report = scanned(image(everywhere).write(tmp_path))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "behind all links" in reasons(report)


def test_no_list_of_packages_has_a_longer_name_than_links_are_followed_for() -> None:
    # Packages of npm lie in one another without end; of those the outermost are followed to.
    patterns = [
        one.replace("[^/]", "").replace("var/lib|", "")
        for one, _ in _INSTALLED
        if "node_modules/" not in one
    ]
    assert max(one.count("/") for one in patterns) == _BELOW
