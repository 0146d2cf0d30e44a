"""What the layers of an image make together, and what a later layer cannot take back."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.errors import InputError, KeepstoneError
from keepstone.scan.archive.tarheaders import TarMember
from keepstone.scan.images.content import ContentLook
from keepstone.scan.images.descriptor import Descriptor
from keepstone.scan.images.entry import Entry
from keepstone.scan.images.judge import Asked, scan_images
from keepstone.scan.images.layer import read_layer
from keepstone.scan.images.layout import LayoutFolder
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.merge import Merged
from keepstone.scan.images.packages import PackageCheck
from keepstone.scan.images.tree import LayerTree
from keepstone.scan.images.unpack import LayerStream
from tests.scan.building import private_key, token
from tests.scan.imaging import (
    BASE,
    Made,
    Member,
    at,
    diff_id,
    file,
    findings,
    folder,
    hardlink,
    image,
    only,
    reasons,
    rules,
    scanned,
    symlink,
    tar,
)
from tests.scan.judging import Payload

KEY = private_key()
EVIL = pickle.dumps(Payload(), 2)
DPKG = (
    b"Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.15-2+b7\n"
    b"Source: bash (5.2.15-2)\n\n"
)
RELEASE = b'ID=debian\nVERSION_ID="12"\n'


def view(*layers: list[Member]) -> dict[str, int]:
    """The merged view of layers: every file by its path, with the number of its layer."""
    merged = Merged()
    for index, members in enumerate(layers):
        entries = [
            Entry(
                info.name, info.type.decode(), info.mode, info.size, info.linkname, index, 0, False
            )
            for info, _ in members
        ]
        list(merged.lay(entries))
    return {path: entry.layer for path, entry in merged.files()}


def test_later_layers_replace_and_delete() -> None:
    assert view([file("a"), file("d/x"), file("d/y")], [file("a")]) == {"a": 1, "d/x": 0, "d/y": 0}
    assert view([file("a"), file("d/x")], [file(".wh.a", b""), file("d/.wh.x", b"")]) == {}
    assert view([file("d/x"), file("d/e/y")], [file(".wh.d", b"")]) == {}
    assert view([file("d/x"), file("d/y")], [file("d")]) == {"d": 1}


def test_an_opaque_folder_hides_what_lies_below_it_alone() -> None:
    """Its own layer's files stay, wherever in the layer the mark stands."""
    for members in (
        [file("d/.wh..wh..opq", b""), file("d/new")],
        [file("d/new"), file("d/.wh..wh..opq", b"")],
    ):
        assert view([file("d/old"), file("d/e/old"), file("x")], members) == {"d/new": 1, "x": 0}


def test_a_whiteout_takes_nothing_of_its_own_layer() -> None:
    assert view([file("a")], [file("a"), file(".wh.a", b"")]) == {"a": 1}


def test_files_are_placed_through_links_inside_of_the_image() -> None:
    """As in every Debian of today, where /lib is a link."""
    lower = [folder("usr/lib"), symlink("lib", "usr/lib"), symlink("abs", "/usr/lib")]
    found = view(lower, [file("lib/a"), file("abs/b"), file("lib/.wh.c", b"")])
    assert set(found) == {"lib", "abs", "usr/lib/a", "usr/lib/b"}
    assert "usr/lib/c" not in view(lower, [file("usr/lib/c")], [file("lib/.wh.c", b"")])


def test_a_link_up_out_of_the_image_stays_in_it() -> None:
    found = view([symlink("up", "../../../usr")], [file("up/x")])
    assert set(found) == {"up", "usr/x"}


def test_hard_links_are_one_file() -> None:
    merged = Merged()
    made = [file("a"), hardlink("b", "a", 0o4755)]
    entries = [
        Entry(info.name, info.type.decode(), info.mode, 1, info.linkname, 0, 0, False)
        for info, _ in made
    ]
    assert list(merged.lay(entries)) == []
    assert merged.find("a") is merged.find("b")
    # Whoever unpacks the second name gives the one file its rights.
    assert merged.find("a").mode & 0o4000  # type: ignore[union-attr]


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
ENTRIES = st.lists(st.tuples(st.sampled_from("+-o"), NAMES), max_size=8)


@given(st.lists(ENTRIES, max_size=4))
def test_layers_merge_as_a_plain_model_says(layers: list[list[tuple[str, str]]]) -> None:
    """The model keeps paths of files in a dictionary, and knows neither nodes nor folders."""
    wanted: dict[str, int] = {}
    given_layers: list[list[Member]] = []
    for index, changes in enumerate(layers):
        members, lower = [], dict(wanted)
        for kind, name in changes:
            before, _, last = name.rpartition("/")
            start = f"{before}/" if before else ""
            if kind == "-":
                members.append(file(f"{start}.wh.{last}", b""))
                hidden = (name, f"{name}/")
            elif kind == "o":
                members.append(file(f"{name}/.wh..wh..opq", b""))
                hidden = ("", f"{name}/")
            else:
                continue
            for path in lower:
                if path == hidden[0] or path.startswith(hidden[1]):
                    wanted.pop(path, None)
        for kind, name in changes:
            # A file under a file has no place: the model's files have endings of their own.
            if kind == "+":
                members.append(file(f"{name}/f"))
                wanted[f"{name}/f"] = index
        given_layers.append(members)
    assert view(*given_layers) == wanted


def test_a_secret_that_a_later_layer_deletes_is_found_with_its_layer(tmp_path: Path) -> None:
    made = image(tar(file("root/id", KEY)), tar(file("root/.wh.id", b"")))
    report = scanned(made.write(tmp_path))
    (found,) = findings(report)
    assert found.finding.rule == "secret.private_key"
    assert (found.number, found.deleted, found.finding.location.path) == (2, True, "root/id")
    assert found.layer == only(report).layers[1].digest


def test_a_secret_that_stands_is_not_called_deleted(tmp_path: Path) -> None:
    report = scanned(image(tar(file("root/id", KEY)), tar(file("x"))).write(tmp_path))
    assert [(item.number, item.deleted) for item in findings(report)] == [(2, False)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
def test_a_malicious_pickle_in_a_layer_is_found(tmp_path: Path, pack: object) -> None:
    members = [
        file("opt/m.pkl", EVIL),
        file("opt/noname", EVIL),
        file("opt/m.gz", gzip.compress(EVIL)),
    ]
    layer = pack(tar(*members))  # type: ignore[operator]
    report = scanned(image(layer).write(tmp_path))
    assert at(report, "pickle.dangerous_import") == ["opt/m.gz", "opt/m.pkl", "opt/noname"]


def test_a_pickle_without_a_mark_is_found_behind_much_that_does_nothing(tmp_path: Path) -> None:
    idle = b"N0" * 100_000 + b"cposix\nsystem\n(S'true'\ntR."
    members = [file("opt/data", idle), file("opt/data.gz", gzip.compress(idle))]
    report = scanned(image(tar(*members)).write(tmp_path))
    assert at(report, "pickle.dangerous_import") == ["opt/data", "opt/data.gz"]


def test_a_systems_own_files_are_no_models(tmp_path: Path) -> None:
    system = tar(
        file("usr/bin/tool", Path("/bin/true").read_bytes(), 0o755),
        file("usr/bin/script", b"#!/bin/sh\nexec true\n", 0o755),
        file("usr/lib/python3/os.py", b"import os\nos.system('true')\n"),
        file("usr/share/doc/git/1.5.txt", b"Git v1.5.2.3 Release Notes\n" * 9),
        file("usr/share/man/a.gz", gzip.compress(b"A manual. " * 100)),
    )
    assert scanned(image(system).write(tmp_path)).outcome is Outcome.CLEAN


def test_rights_of_live_files_count_alone(tmp_path: Path) -> None:
    lower = tar(
        file("bin/a", mode=0o4755),
        file("bin/b", mode=0o2755),
        file("bin/gone", mode=0o4755),
        file("open", mode=0o666),
        folder("tmp", 0o1777),
        folder("drop", 0o777),
        symlink("l", "open"),
    )
    report = scanned(image(lower, tar(file("bin/.wh.gone", b""))).write(tmp_path))
    assert at(report, "image.setuid") == ["bin/a", "bin/b"]
    assert at(report, "image.world_writable") == ["drop", "open"]
    assert {item.number for item in findings(report)} == {2}


def test_capabilities_and_devices_are_found(tmp_path: Path) -> None:
    capable = {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
    layer = tar(
        file("bin/ping", pax_headers=capable),
        file("dev/sda", b"", type=tarfile.BLKTYPE),
        file("dev/null", b"", type=tarfile.CHRTYPE),
        file("run/pipe", b"", type=tarfile.FIFOTYPE),
    )
    report = scanned(image(layer).write(tmp_path))
    assert at(report, "image.capability") == ["bin/ping"]
    assert at(report, "image.device") == ["dev/null", "dev/sda"]
    assert rules(report) == {"image.capability", "image.device"}


@pytest.mark.parametrize(
    "user", ["", "0", "00", "+0", "-0", "0:0", "root", "root:app", "zero", "4294967296", "-1"]
)
def test_root_by_every_name_is_found(tmp_path: Path, user: str) -> None:
    report = scanned(Made(config={"User": user}).write(tmp_path))
    assert rules(report) == {"image.root"}, user


@pytest.mark.parametrize("user", ["app", "1000", "1000:0", "00042", "app:root"])
def test_other_users_are_not_root(tmp_path: Path, user: str) -> None:
    assert scanned(Made(config={"User": user}).write(tmp_path)).outcome is Outcome.CLEAN


@pytest.mark.parametrize("user", ["nobody", " 0", "0x0", "\u0661"])
def test_who_is_not_known_is_not_evaluated(tmp_path: Path, user: str) -> None:
    report = scanned(Made(config={"User": user}).write(tmp_path))
    assert report.outcome is Outcome.NOT_EVALUATED


def test_who_runs_an_image_of_windows_is_not_evaluated(tmp_path: Path) -> None:
    made = Made(config={})
    made.document = {"os": "windows", "architecture": "amd64"}
    assert rules(scanned(made.write(tmp_path))) == {"image.not_evaluated"}


def test_a_name_of_digits_counts_before_the_number(tmp_path: Path) -> None:
    named = tar(file("etc/passwd", b"1234:x:0:0::/:/bin/sh\n"))
    assert rules(scanned(image(named, config={"User": "1234"}).write(tmp_path))) == {"image.root"}


@pytest.mark.parametrize(
    ("user", "passwd"),
    [
        ("app", b"app:x:0\napp:x:1000:1000::/:/bin/sh\n"),
        ("app", b"app\n"),
        ("app", b"app:x\n"),
        ("app", b"app:x::1000::/:/bin/sh\n"),
        ("app", b"app:x:none:1000::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"),
        ("app", b"app:x:1000:1000::/:/bin/sh\napp:x:0:0::/:/bin/sh\n"),
        ("app", b"app:x:0\r\napp:x:1000:1000::/:/bin/sh\r\n"),
        ("1234", b"1234:x\n"),
        ("1234", b"1234:x:4294967296:0::/:/bin/sh\n"),
    ],
)
def test_a_row_of_which_a_part_is_missing_is_root(tmp_path: Path, user: str, passwd: bytes) -> None:
    """Runtimes take the first row of a name, and 0 for what is missing in it."""
    made = image(tar(file("etc/passwd", passwd)), config={"User": user})
    assert rules(scanned(made.write(tmp_path))) == {"image.root"}


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"])
def test_rows_of_users_end_with_a_newline_alone(tmp_path: Path, end: str) -> None:
    """Else a runtime sees one user where another is judged."""
    accounts = f"other:x:1:1::/:/bin/sh{end}app:x:1000:1000::/:/bin/sh\n".encode()
    report = scanned(image(tar(file("etc/passwd", accounts))).write(tmp_path))
    assert rules(report) == {"image.not_evaluated"}
    assert "does not say who" in reasons(report)


def test_a_user_that_a_later_layer_makes_root_is_root(tmp_path: Path) -> None:
    later = tar(file("usr/passwd", b"app:x:0:0::/:/bin/sh\n"), symlink("etc/passwd", "/usr/passwd"))
    assert rules(scanned(image(later).write(tmp_path))) == {"image.root"}


def test_secrets_in_settings_are_found(tmp_path: Path) -> None:
    made = Made(
        config={
            "User": "app",
            "Env": [f"GH={token()}", "PATH=/usr/bin"],
            "Labels": {"note": f"use {token()}"},
            "Cmd": ["run", f"--token={token()}"],
        }
    )
    made.document = {
        "history": [{"created_by": f"|1 TOKEN={token()} /bin/sh -c true"}, {"created_by": "true"}]
    }
    report = scanned(made.write(tmp_path))
    assert {item.finding.rule for item in findings(report)} == {"secret.token"}
    paths = {item.finding.location.path for item in findings(report)}
    assert paths == {"ENV", "LABEL note", "CMD", "history 1 (created_by)"}
    assert token() not in reasons(report)


BASED = "org.opencontainers.image.base."


@pytest.mark.parametrize(
    ("annotations", "rule"),
    [
        ({}, "image.base_unknown"),
        ({f"{BASED}name": "debian:12"}, "image.base_by_name"),
        ({f"{BASED}name": "debian:12", f"{BASED}digest": "12"}, "image.base_by_name"),
        ({f"{BASED}name": "debian:12", f"{BASED}digest": "sha256:" + "a" * 64}, None),
        ({f"{BASED}name": "", f"{BASED}digest": ""}, None),
    ],
)
def test_a_base_without_a_digest_is_said(
    tmp_path: Path, annotations: dict[str, str], rule: str | None
) -> None:
    made = Made(manifest={"annotations": annotations})
    assert rules(scanned(made.write(tmp_path), base=True)) == ({rule} if rule else set())


def test_packages_are_those_of_the_merged_view(tmp_path: Path) -> None:
    lower = tar(
        file("var/lib/dpkg/status", DPKG),
        file("usr/lib/os-release", RELEASE),
        symlink("etc/os-release", "../usr/lib/os-release"),
        file("opt/six-1.16.0.dist-info/METADATA", b"Name: six\nVersion: 1.16.0\n"),
    )
    upper = tar(
        file("var/lib/dpkg/status", DPKG.replace(b"5.2.15-2", b"5.2.15-9")),
        file("opt/.wh.six-1.16.0.dist-info", b""),
    )
    listed = only(scanned(image(lower, upper).write(tmp_path))).packages.listed
    assert [(one.ecosystem, one.name, one.version) for one in listed] == [
        ("Debian:12", "bash", "5.2.15-9+b7")
    ]


def test_without_records_vulnerabilities_are_not_evaluated(tmp_path: Path) -> None:
    root = image(tar(file("var/lib/dpkg/status", DPKG))).write(tmp_path)
    report = scanned(root, packages=PackageCheck(None, 0))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert rules(report) == {"image.vulnerabilities"}


def test_what_was_not_kept_is_read_again_and_verified(tmp_path: Path) -> None:
    """The lists of packages come out of their layers once more, where memory had no room."""
    layer = tar(file("pad", bytes(3000)), file("var/lib/dpkg/status", DPKG))
    root = image(gzip.compress(layer)).write(tmp_path)
    report = scanned(root, limits=Limits(kept=0))
    assert [one.name for one in only(report).packages.listed] == ["bash"]
    assert report.outcome is Outcome.CLEAN


def test_a_file_that_changes_between_two_looks_is_not_believed(tmp_path: Path) -> None:
    """The second look stops inside of the blob, before its digest would show the change."""

    looks: list[str] = []

    class Fickle(LayoutFolder):
        def chunks(self, blob: Descriptor) -> Iterator[bytes]:
            whole = b"".join(LayoutFolder.chunks(self, blob))
            if DPKG in whole:
                looks.append(blob.digest)
                whole = whole.replace(b"5.2.15", b"9.9.99") if len(looks) > 1 else whole
            yield whole

    root = image(tar(file("var/lib/dpkg/status", DPKG))).write(tmp_path)
    asked = Asked(PackageCheck(None, 0, asked=False), limits=Limits(kept=0), base=False)
    report = scan_images(Fickle(root), "fickle", asked)
    assert only(report).packages.listed == ()
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "no longer what it was" in reasons(report)


def test_large_files_pass_by(tmp_path: Path) -> None:
    big = b"\x00\x01 binary" + bytes(40 << 20) + b"\n" + KEY + b"\n"
    report = scanned(image(tar(file("var/big", big))).write(tmp_path))
    assert rules(report) == {"secret.private_key"}


@pytest.mark.parametrize("edge", [1, 2, 3])
def test_a_secret_over_the_edge_of_a_window_is_found(edge: int) -> None:
    """The content comes in pieces of a window each, and the key lies over the end of one."""
    step = 4 << 20
    big = bytearray(b"\x00\x01 binary" + bytes(9 * step))
    place = edge * step - len(KEY) // 2
    big[place - 1 : place + len(KEY)] = b"\n" + KEY
    entry = Entry("big", "0", 0o644, len(big), "", 0, 0, False)
    member = TarMember("big", "0", "", 0o644, 0, len(big), 0, {})
    view = memoryview(bytes(big))
    pieces = (view[at : at + step] for at in range(0, len(big), step))
    found = ContentLook(Limits(), lambda _: False).look(entry, member, pieces)
    assert [item.rule for item in found] == ["secret.private_key"]


def test_a_large_archive_is_opened_for_secrets(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("pad", bytes(34 << 20))
        made.writestr("id", KEY, zipfile.ZIP_DEFLATED)
    report = scanned(image(tar(file("opt/app.zip", out.getvalue()))).write(tmp_path))
    assert "secret.private_key" in rules(report)


def test_a_large_model_is_judged_or_said(tmp_path: Path) -> None:
    data = EVIL[:-1] + b"0B\x00\x00\xa0\x02" + bytes(0x02A00000) + b"0N."
    root = image(tar(file("m.pkl", data))).write(tmp_path)
    assert "pickle.dangerous_import" in rules(scanned(root))
    report = scanned(root, limits=Limits(held=1 << 20))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "looks like a model" in reasons(report)


@pytest.mark.slow
def test_memory_is_flat_for_large_layers(tmp_path: Path) -> None:
    """Half a gigabyte of layers costs no more memory than its largest file that is judged."""
    zeros = bytes(48 << 20)
    root = image(*[tar(file("a", zeros), file("b", zeros)) for _ in range(6)]).write(tmp_path)
    command = [sys.executable, "-c", _MEASURE, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 << 10


_MEASURE = """
import resource, sys
from tests.scan.imaging import Made, scanned
import pathlib, tempfile
with tempfile.TemporaryDirectory() as small:
    scanned(Made().write(pathlib.Path(small)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scanned(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_several_streams_in_a_row_are_one(tmp_path: Path) -> None:
    layer = tar(file("bin/a", mode=0o4755), file("b", bytes(5000)))
    half = len(layer) // 2
    skipped = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    for number, packed in enumerate(
        (
            gzip.compress(layer[:half]) + gzip.compress(layer[half:]) + bytes(512),
            zstd.compress(layer[:half]) + skipped + zstd.compress(layer[half:]) + skipped,
        )
    ):
        stream = LayerStream(iter([packed]), Limits())
        assert stream.piece(0, len(layer)) == layer
        made = image(packed)
        told = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        made.document = {"rootfs": {"diff_ids": [diff_id(BASE), told]}}
        assert rules(scanned(made.write(tmp_path / str(number)))) == {"image.setuid"}


@given(st.binary(max_size=2000), st.integers(1, 600))
def test_any_bytes_are_a_layer_that_ends(data: bytes, step: int) -> None:
    """Nothing but a coded answer comes of any bytes."""
    pieces, code = (data[at : at + step] for at in range(0, len(data), step)), ""
    try:
        stream = LayerStream(pieces, Limits())
        read_layer(stream, 0, ContentLook(Limits(), lambda _: False), Limits(entries=100))
        stream.finish()
    except KeepstoneError as error:
        code = error.code
    assert code in ("", "image.layer_broken", "image.bomb")


def test_a_tree_reads_nothing_that_is_not_in_it(tmp_path: Path) -> None:
    tree = LayerTree(Merged(), {}, LayoutFolder(tmp_path), (), Limits())
    for path in ("etc/passwd", "/etc/passwd", "../../etc/passwd"):
        with pytest.raises(InputError) as caught:
            tree.read(path, 100)
        assert caught.value.code == "scan.unreadable"
