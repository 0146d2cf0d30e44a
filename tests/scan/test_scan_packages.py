"""Readers of what is installed, and trees: nothing that could not be read is passed over."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.errors import InputError
from keepstone.scan.packages.disk import DiskTree
from keepstone.scan.packages.inventory import Inventory, inventory
from keepstone.scan.packages.package import Package
from keepstone.scan.packages.places import look, look_at_running
from keepstone.scan.packages.readers import reader_of
from keepstone.scan.packages.release import ecosystem_of
from tests.scan.osv_records import HeldTree, found_in, left, names

BOOKWORM = 'PRETTY_NAME="Debian"\nID=debian\nVERSION_ID="12"\n'
ALPINE = "ID=alpine\nVERSION_ID=3.19.1\n"


STATUS = """Package: libssl3
Status: install ok installed
Source: openssl (3.0.11-1)
Version: 3.0.11-1~deb12u2
Architecture: amd64
Description: a library
 Package: not-this-one
 Version: 9

Package: bash
Status: install ok installed
Version: 5.2.15-2+b2
Source: bash (5.2.15-2)

Package: gone
Status: deinstall ok config-files
Version: 1

Package: half
Status: install reinstreq half-installed
Version: 2-1
"""


def test_dpkg_names_source_packages_and_what_is_half_installed() -> None:
    found = found_in({"etc/os-release": BOOKWORM, "var/lib/dpkg/status": STATUS})
    path = "var/lib/dpkg/status"
    assert found == Inventory(
        (
            Package("Debian:12", "bash", "5.2.15-2+b2", path, "bash", "5.2.15-2"),
            Package("Debian:12", "half", "2-1", path, "half", "2-1"),
            Package("Debian:12", "libssl3", "3.0.11-1~deb12u2", path, "openssl", "3.0.11-1"),
        ),
        (path,),
    )


def test_distroless_has_a_file_per_package() -> None:
    found = found_in(
        {
            "usr/lib/os-release": BOOKWORM,
            "var/lib/dpkg/status.d/base": "Package: base-files\nVersion: 12.4\n",
            "var/lib/dpkg/status.d/base.md5sums": "0000  ./etc/debian_version\n",
            "rootfs/var/lib/dpkg/status.d/x": "Package: x\nVersion: 1\n",
        }
    )
    assert names(found) == [("Debian:12", "base-files", "12.4"), ("dpkg:unknown", "x", "1")]
    assert found.open == ()


@pytest.mark.parametrize(
    ("stanza", "name"),
    [
        ("Package: a\nStatus: install ok installed\n", "a"),
        ("Package: a\nStatus: install ok installed\nVersion: 1\nVersion: 2\n", "a"),
        ("Package: a\nVersion: 1\n", "a"),
        ("Package: a\nStatus: installed\nVersion: 1\n", "a"),
        ("Package: a\nStatus: install ok installed\nVersion: 1\nSource: b (\n", "a"),
        ("Package: a\nStatus: install ok installed\nVersion: " + "1" * 300 + "\n", "a"),
        ("Status: install ok installed\nVersion: 1\n", "var/lib/dpkg/status"),
        ("\n\n", "var/lib/dpkg/status"),
        ("Package: a\0\nStatus: install ok installed\nVersion: 1\n", "var/lib/dpkg/status"),
        ("Package: \u202ea\nStatus: install ok installed\nVersion: 1\n", "?a"),
    ],
)
def test_a_stanza_that_does_not_say_is_open(stanza: str, name: str) -> None:
    found = found_in({"etc/os-release": BOOKWORM, "var/lib/dpkg/status": stanza})
    assert found.packages == ()
    assert list(left(found)) == [name]


@pytest.mark.parametrize("place", ["var/lib/dpkg/status", "lib/apk/db/installed"])
def test_an_empty_list_and_an_endless_one_are_open(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(left(found_in({place: ""}))) == [place]
    monkeypatch.setattr("keepstone.scan.packages.readers.source._MAX_LINES", 10)
    assert "more than 10 lines" in left(found_in({place: "\n" * 20}))[place]


def test_a_second_stanza_of_one_package_is_not_lost() -> None:
    twice = "".join(
        f"Package: a\nStatus: install ok installed\nVersion: {version}\n\n" for version in "121"
    )
    found = found_in({"etc/os-release": BOOKWORM, "var/lib/dpkg/status": twice})
    assert names(found) == [("Debian:12", "a", "1"), ("Debian:12", "a", "2")]


def test_dpkg_of_this_machine_is_read_as_dpkg_reads_it(need: Callable[[str, str], str]) -> None:
    need("dpkg-query", "list the packages of this machine")
    form = "${db:Status-Abbrev}\t${Package}\t${Version}\t${source:Package}\t${source:Version}\n"
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    theirs = {tuple(row[1:]) for row in rows if row[0][1] not in "nc"}
    found = look(Path("/var/lib/dpkg/status"))
    ours = {(one.name, one.version, one.source, one.source_version) for one in found.packages}
    assert ours == theirs
    assert len(ours) > 50
    assert found.open == ()
    assert found.read == ("/var/lib/dpkg/status",)


APK = """C:Q1abc=
P:libcrypto3
V:3.1.4-r5
A:x86_64
o:openssl
D:so:libc.musl

P:musl
V:1.2.4_git20230717-r4
F:lib
R:ld-musl

"""


@pytest.mark.parametrize("place", ["lib/apk/db/installed", "usr/lib/apk/db/installed"])
def test_apk_names_origins(place: str) -> None:
    found = found_in({"etc/os-release": ALPINE, place: APK})
    branch, version = "Alpine:v3.19", "1.2.4_git20230717-r4"
    assert found.packages == (
        Package(branch, "libcrypto3", "3.1.4-r5", place, "openssl", "3.1.4-r5"),
        Package(branch, "musl", version, place, "musl", version),
    )
    broken = found_in({"etc/os-release": ALPINE, place: "P:a\nV:1\nV:2\n\nP:b\n\nV:3\n"})
    assert broken.packages == ()
    assert len(broken.open) == 3


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ({"ID": "debian", "VERSION_ID": "12"}, "Debian:12"),
        ({"ID": "debian", "VERSION_CODENAME": "trixie"}, "Debian:trixie"),
        ({"ID": "debian"}, "Debian:unknown"),
        ({"ID": "ubuntu", "VERSION_ID": "22.04", "VERSION": "22.04.4 LTS (J)"}, "Ubuntu:22.04:LTS"),
        ({"ID": "ubuntu", "VERSION_ID": "23.10", "VERSION": "23.10 (M)"}, "Ubuntu:23.10"),
        ({"ID": "alpine", "VERSION_ID": "3.19.1"}, "Alpine:v3.19"),
        ({"ID": "alpine", "VERSION_ID": "3.20_alpha20240329"}, "Alpine:edge"),
        ({"ID": "wolfi", "VERSION_ID": "20230201"}, "Wolfi"),
        ({"ID": "linuxmint", "VERSION_ID": "21"}, "linuxmint:21"),
        ({}, "dpkg:unknown"),
    ],
)
def test_a_release_is_said_in_osvs_words(release: dict[str, str], said: str) -> None:
    assert ecosystem_of(release, "dpkg") == said


def _wheel(folder: Path, name: str, version: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in files.items():
            archive.writestr(place, text)
        rows = [f"{place},," for place in (*files, f"{info}/RECORD")]
        archive.writestr(f"{info}/RECORD", "\n".join(rows) + "\n")
    return path


def test_environments_that_pip_made_are_read_each(tmp_path: Path) -> None:
    wheels = [_wheel(tmp_path, "alpha_pkg", "1.0"), _wheel(tmp_path, "beta", "2.0rc1")]
    for place, wheel in (("one", wheels[0]), ("two", wheels[1]), ("two", wheels[0])):
        target = tmp_path / "envs" / place / "lib/python3.11/site-packages"
        command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "-q"]
        subprocess.run([*command, "--target", str(target), str(wheel)], check=True)
    (target / "beta-2.0rc1.dist-info/requirements.txt").write_text("never==1\n")
    found = look(tmp_path / "envs", locks=False)
    assert names(found) == [
        ("PyPI", "alpha_pkg", "1.0"),
        ("PyPI", "alpha_pkg", "1.0"),
        ("PyPI", "beta", "2.0rc1"),
    ]
    assert found.open == ()
    assert look(tmp_path / "envs") == found
    # What is installed and has no metadata is not passed over.
    (target / "beta-2.0rc1.dist-info/METADATA").unlink()
    assert list(left(look(tmp_path / "envs"))) == ["beta-2.0rc1.dist-info"]


def test_the_running_environment_is_what_python_itself_lists() -> None:
    from importlib.metadata import distributions

    found = look_at_running()
    ours = {(one.name, one.version) for one in found.packages}
    listed = {(item.metadata["Name"], item.version) for item in distributions()}
    assert listed - ours <= {("keepstone", "0.1.0")}
    assert ("pytest", pytest.__version__) in ours


@pytest.mark.parametrize(
    ("path", "text", "package", "open_"),
    [
        ("a-1.dist-info/METADATA", "Name: a\nVersion: 1\n\nName: b\n", "a 1", []),
        ("a.egg-info/PKG-INFO", "Name: a\nVersion: 1\n", "a 1", []),
        ("a-1-py3.11.egg-info", "Name: a\nVersion: 1\n", "a 1", []),
        ("a-1.egg/EGG-INFO/PKG-INFO", "Name: a\nVersion: 1\n", "a 1", []),
        ("a_b-1.0.dist-info/METADATA", "Name: A.b\nVersion: 1\n", "A.b 1", []),
        ("a-2.dist-info/METADATA", "Name: a\nVersion: 1\n", "a 1", ["a"]),
        ("b-1.dist-info/METADATA", "Name: a\nVersion: 1\n", "a 1", ["a"]),
        ("a-1.dist-info/METADATA", "Name: a\nVersion: 1\nVersion: 2\n", "", ["a"]),
        ("a-1.dist-info/METADATA", "Name: a\n", "", ["a"]),
        ("a-1.dist-info/METADATA", "", "", ["a-1.dist-info/METADATA"]),
        ("a-1.dist-info/METADATA", "Name: a\nVersion: 1\0\n", "", ["a-1.dist-info/METADATA"]),
    ],
)
def test_metadata_of_python(path: str, text: str, package: str, open_: list[str]) -> None:
    found = found_in({path: text})
    assert [f"{one.name} {one.version}" for one in found.packages] == ([package] if package else [])
    assert list(left(found)) == open_


@pytest.mark.parametrize(
    "path",
    [
        *("yarn.lock", "a/Cargo.lock", "go.sum", "var/lib/rpm/Packages", "lib/x-1-py3.egg"),
        *("var/lib/pacman/local/a-1-1/desc", "usr/lib/opkg/status", "var/lib/opkg/status"),
        "Pipfile",
    ],
)
def test_lists_that_are_not_read_are_said_to_be(path: str) -> None:
    assert list(left(found_in({path: "x"}))) == [path]


@pytest.mark.parametrize(
    "path",
    [
        *("setup.pyc", "requirements.ini", "site-packages/x/requirements.txt"),
        *("node_modules/a/yarn.lock", "node_modules/a/package.json", "site-packages/x/setup.py"),
    ],
)
def test_other_files_are_no_lists(path: str) -> None:
    assert reader_of(path) is None


LISTS = [
    *("var/lib/dpkg/status", "lib/apk/db/installed", "a-1.dist-info/METADATA", "requirements.txt"),
    *("poetry.lock", "uv.lock", "pdm.lock", "pylock.toml", "pyproject.toml", "Pipfile.lock"),
    *("environment.yml", "conda-meta/a.json", "package-lock.json", "constraints.txt"),
]
BAD = [
    *(b"\x00" * 100, b"\xff\xfe\xfa", b"[" * 100_000, b'{"a":' * 100_000, b"a" * 1_000_000),
    *(b"[[package]]\nname = 1\nversion = []\n", b"[[packages]]\n", b"package = 7\n", b"- - - - ?"),
    *(b'{"packages": [1], "lockfileVersion": 3}', b'{"default": [], "name": {}, "version": 2}'),
    *(b'{"lockfileVersion": 3, "packages": {"node_modules/a": 3}}', b'{"a": 1, "a": 2}'),
    *(b"lock-version = '1.0'\npackages = [1]\n", b"dependencies: [[[[]]]]", b"project = 3\n"),
    *(b"a: &a [x, x]\nb: [*a, *a]\ndependencies: *a\n", b"Name: \xff\nVersion: \xff\n"),
]


# Documents of the right form that rightly name no package.
NOTHING = {
    *(("pyproject.toml", place) for place in (5, 6, 7, 13)),
    *(("environment.yml", place) for place in (9, 10, 11)),
}


@pytest.mark.parametrize("path", LISTS)
def test_nothing_broken_reads_as_an_empty_list(path: str) -> None:
    for place, data in enumerate(BAD):
        found = found_in({path: data})
        assert found.packages == ()
        assert bool(found.open) != ((path, place) in NOTHING), (place, data[:40])


@given(path=st.sampled_from(LISTS), data=st.binary(max_size=300))
def test_any_bytes_are_read_or_open(path: str, data: bytes) -> None:
    found_in({path: data})


@given(
    path=st.sampled_from(LISTS),
    text=st.text(alphabet="[]{}\"'=:,.- \nabNameVersionPackage1", max_size=300),
)
def test_any_text_is_read_or_open(path: str, text: str) -> None:
    for one in found_in({path: text}).packages:
        assert one.name
        assert one.version


def test_a_file_that_cannot_be_read_or_is_too_large_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepstone.scan.packages.inventory.MAX_FILE", 10)
    (tmp_path / "requirements.txt").write_text("a==1\n" * 10)
    os.mkfifo(tmp_path / "constraints.txt")
    (tmp_path / "uv.lock").symlink_to(tmp_path / "nowhere")
    found = inventory(DiskTree(tmp_path))
    assert found.packages == ()
    assert set(left(found)) == {"constraints.txt", "requirements.txt", "uv.lock"}


def test_no_link_leads_out_of_a_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "requirements.txt").write_text("secret==1\n")
    (outside / "lib").mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "real-requirements.txt").write_text("a==1\n-r linked.txt\n")
    (root / "requirements.txt").symlink_to("real-requirements.txt")
    (root / "linked.txt").symlink_to(outside / "requirements.txt")
    (root / "dev-requirements.txt").symlink_to("../outside/requirements.txt")
    (root / "lib").symlink_to("../outside/lib")
    (root / "again").symlink_to(".")
    found = look(root)
    assert {one.name for one in found.packages} == {"a"}
    assert {one.path.removeprefix(f"{root}/") for one in found.open} == {
        "dev-requirements.txt",
        "lib",
        "real-requirements.txt",
        "requirements.txt",
    }
    tree = DiskTree(root)
    for path in ("../outside/requirements.txt", "/etc/passwd", "a\0b", "lib"):
        with pytest.raises(InputError, match=r"scan\.unreadable"):
            tree.read(path, 100)


def test_links_of_a_root_file_system_are_its_own(tmp_path: Path) -> None:
    root = tmp_path / "rootfs"
    for folder in ("etc", "usr/lib", "var/lib/dpkg", "run"):
        (root / folder).mkdir(parents=True)
    (root / "usr/lib/real-release").write_text(BOOKWORM)
    (root / "usr/lib/os-release").symlink_to("/usr/lib/real-release")
    (root / "etc/os-release").symlink_to("/../../usr/lib/os-release")
    (root / "var/run").symlink_to("/run")
    (root / "var/lib/dpkg/status").write_text(STATUS)
    found = look(root)
    assert ("Debian:12", "bash", "5.2.15-2+b2") in names(found)
    assert found.open == ()
    # The same links to what the root does not hold lead out.
    (root / "run").rmdir()
    (root / "usr/lib/real-release").unlink()
    (root / "usr/lib/os-release").unlink()
    (root / "usr/lib/os-release").symlink_to("/etc/os-release")
    found = look(root)
    assert ("dpkg:unknown", "bash", "5.2.15-2+b2") in names(found)
    assert [one.path for one in found.open] == [f"{root}/var/run"]


def test_a_single_list_is_taken_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requirements.txt").write_text("a==1\n-r base.txt\n")
    (tmp_path / "base.txt").write_text("b==1\n")
    (tmp_path / "pylock.toml").write_text('lock-version = "1.0"\n')
    found = look(tmp_path / "requirements.txt")
    assert [one.name for one in found.packages] == ["a", "b"]
    monkeypatch.chdir(tmp_path)
    assert look(Path("requirements.txt")).read == ("requirements.txt",)
    assert look(Path()).read == ("pylock.toml", "requirements.txt")
    for path, code in (("base.txt", "deps.unknown_list"), ("gone", "scan.missing")):
        with pytest.raises(InputError) as error:
            look(tmp_path / path)
        assert error.value.code == code


def test_a_reader_that_fails_leaves_its_file_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> object:
        raise MemoryError

    monkeypatch.setattr("keepstone.scan.packages.readers.jsons.read_json", fail)
    found = inventory(HeldTree({"Pipfile.lock": "{}"}))
    assert left(found) == {"Pipfile.lock": "The reader failed: MemoryError."}
