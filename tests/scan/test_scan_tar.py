"""Tar archives: honest ones of every dialect are clean, and every trick of unpacking is flagged."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.archive.tarheaders import TarMember, read_tar
from keepstone.scan.formats import identify
from tests.scan.judging import flags_pickle, judged, outcome_of, reasons_of, rules_of

TEXT = b'{"hidden_size": 4}'
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


EVIL = pickle.dumps(Payload(), 2)


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def archive(*members: tuple[tarfile.TarInfo | str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as file:
        for one, data in members:
            info = member(one) if isinstance(one, str) else one
            if info.isfile():
                info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target), b""


def checked(block: bytes) -> bytes:
    """A header with its checksum made right."""
    bare = block[:148] + b" " * 8 + block[156:]
    return bare[:148] + b"%06o\x00 " % sum(bare) + bare[156:]


def patched(data: bytes, at: int, value: bytes, header: int = 0) -> bytes:
    """`data` with bytes of one header changed, and its checksum made right again."""
    block = bytearray(data[header : header + 512])
    block[at : at + len(value)] = value
    return data[:header] + checked(bytes(block)) + data[header + 512 :]


# Honest archives ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_an_honest_archive_of_each_dialect_is_clean(form: int) -> None:
    long = "folder/" + "x" * 90 + "/" + "y" * 60 + ".json"
    folder = member("folder", type=tarfile.DIRTYPE)
    data = archive((folder, b""), ("a.json", TEXT), (long, TEXT), ("empty", b""), form=form)
    assert identify(memoryview(data)) == "tar"
    assert judged(data) == []


def test_other_letters_and_links_that_stay_inside_are_clean() -> None:
    data = archive(("größe/ß.json", TEXT), link("größe/again.json", "ß.json"))
    assert judged(data) == []
    data = archive(("a.json", TEXT), link("b.json", "a.json", tarfile.LNKTYPE))
    assert judged(data) == []


def test_an_archive_of_old_is_told_by_its_checksum() -> None:
    data = archive(("a.json", TEXT), form=tarfile.USTAR_FORMAT)
    old = patched(data, 257, bytes(255))
    assert identify(memoryview(old)) == "tar"
    assert judged(old) == []


def test_what_lies_inside_is_judged_at_any_depth() -> None:
    inner = archive(("model.bin", EVIL))
    assert flags_pickle(archive(("inner.tar", inner)))
    assert outcome_of(archive(("a", b"\x00\x01\x02junk"))) is Outcome.NOT_EVALUATED
    deep = TEXT
    for _ in range(14):
        deep = archive(("inner.tar", deep))
    assert "nested deeper" in reasons_of(deep)


def test_a_sparse_member_is_judged_as_what_it_unfolds_to() -> None:
    records = {"GNU.sparse.map": f"0,0,600,{len(EVIL)}", "GNU.sparse.size": str(600 + len(EVIL))}
    info = member("model", pax_headers=records)
    assert flags_pickle(archive((info, EVIL)))
    one = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(len(EVIL))}
    mapped = b"1\n0\n%d\n" % len(EVIL)
    info = member("model", pax_headers=one)
    data = archive((info, mapped + bytes(512 - len(mapped)) + EVIL))
    assert flags_pickle(data)
    large = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "99999999999"}
    assert "sparse" in reasons_of(archive((member("m", pax_headers=large), TEXT)))


def test_gnu_sparse_maps_are_followed() -> None:
    data = archive((member("model", type=tarfile.GNUTYPE_SPARSE), b""), form=tarfile.GNU_FORMAT)
    block = bytearray(data[:512])
    block[124:136] = b"%011o\x00" % len(EVIL)
    block[386:398], block[398:410] = b"%011o\x00" % 0, b"%011o\x00" % len(EVIL)
    block[483:495] = b"%011o\x00" % len(EVIL)
    body = EVIL + bytes(-len(EVIL) % 512)
    assert flags_pickle(checked(bytes(block)) + body + bytes(1024))


# Tricks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../a", "/etc/a", "x/../../a", "C:/a", "..\\a", "\\a"])
def test_a_name_that_leads_out_is_flagged(name: str) -> None:
    assert "tar.unsafe_path" in rules_of(archive((name, TEXT)))


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "a/../../x", "..\\..\\x"])
def test_a_link_that_leads_out_is_flagged(target: str) -> None:
    assert "tar.link" in rules_of(archive(link("here", target)))


def test_a_member_written_through_a_link_is_flagged_in_either_order() -> None:
    through = archive(link("d", "e"), ("d/file", TEXT))
    assert "tar.link" in rules_of(through)
    assert "tar.link" in rules_of(archive(("d/file", TEXT), link("D", "e")))


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "not-here"])
def test_a_hard_link_to_what_is_not_in_the_archive_is_flagged(target: str) -> None:
    assert "tar.link" in rules_of(archive(link("here", target, tarfile.LNKTYPE)))


def test_a_hard_link_to_a_link_is_flagged() -> None:
    data = archive(("a", TEXT), link("s", "a"), link("h", "s", tarfile.LNKTYPE))
    assert "tar.link" in rules_of(data)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_is_flagged(kind: bytes) -> None:
    assert "tar.device" in rules_of(archive((member("null", type=kind), b"")))


def test_rights_of_the_owner_are_flagged() -> None:
    assert "tar.device" in rules_of(archive((member("a.json", mode=0o4755), TEXT)))


def test_a_name_twice_is_flagged_whatever_its_case_or_form() -> None:
    assert "tar.ambiguous" in rules_of(archive(("a.json", TEXT), ("A.JSON", TEXT)))
    assert "tar.ambiguous" in rules_of(archive(("a.json", TEXT), ("./a.json", TEXT)))
    assert "tar.ambiguous" in rules_of(archive(("\u00e9", TEXT), ("e\u0301", TEXT)))


def test_a_pax_record_that_renames_or_resizes_is_flagged() -> None:
    renamed = member("good.json", pax_headers={"path": "evil.json"})
    assert "tar.ambiguous" in rules_of(archive((renamed, TEXT)))
    resized = archive((member("a.json", pax_headers={"size": "0"}), TEXT))
    data = patched(resized, 124, b"%011o\x00" % 512, 1024)
    assert "tar.ambiguous" in rules_of(data)


def test_a_global_header_that_renames_is_flagged() -> None:
    out = io.BytesIO()
    records = {"path": "x"}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers=records) as f:
        f.addfile(member("a.json", size=len(TEXT)), io.BytesIO(TEXT))
    assert "tar.ambiguous" in rules_of(out.getvalue())


def test_what_follows_the_end_is_flagged_and_judged() -> None:
    first, second = archive(("a.json", TEXT)), archive(("model", EVIL))
    assert "tar.ambiguous" in rules_of(first + second)
    assert flags_pickle(first + second)
    assert "tar.ambiguous" in rules_of(first + b"x" * 600)


def test_a_folder_with_a_content_is_flagged() -> None:
    data = patched(archive((member("d", type=tarfile.DIRTYPE), b"")), 124, b"%011o\x00" % 512)
    assert "tar.ambiguous" in rules_of(data)


def test_an_unknown_kind_is_flagged_and_its_content_judged() -> None:
    data = patched(archive(("model", EVIL), form=tarfile.USTAR_FORMAT), 156, b"Z")
    assert "tar.ambiguous" in rules_of(data)
    assert flags_pickle(data)


def test_what_is_broken_is_not_evaluated() -> None:
    data = archive(("a.json", TEXT), ("b.json", TEXT), form=tarfile.USTAR_FORMAT)
    assert outcome_of(data[:512]) is Outcome.NOT_EVALUATED
    broken = data[:1024] + b"x" + data[1025:]
    assert outcome_of(broken) is Outcome.NOT_EVALUATED
    assert outcome_of(patched(data, 124, b"junk")) is Outcome.NOT_EVALUATED


def test_members_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keepstone.scan.archive.tarheaders.MAX_MEMBERS", 2)
    data = archive(*((f"{n}.json", TEXT) for n in range(4)))
    assert "more than 2 members" in reasons_of(data)


def test_a_tar_made_by_gnu_tar_is_clean(tmp_path: Path, need: object) -> None:
    import subprocess

    tar = need("tar", "write an archive")  # type: ignore[operator]
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.json").write_bytes(TEXT)
    (tmp_path / "m" / "hole.json").write_bytes(b'{"a": 1}' + b" " * 4096)
    for form in ("gnu", "posix", "ustar", "v7", "oldgnu"):
        done = subprocess.run(
            [tar, f"--format={form}", "-cf", "-", "m"],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
        assert judged(done.stdout) == [], form


# Whatever comes -------------------------------------------------------------------------------


@given(st.binary(max_size=2048))
def test_any_bytes_are_read_without_failing(data: bytes) -> None:
    list(read_tar(memoryview(data)))


@given(st.integers(0, 4095), st.integers(0, 255))
def test_one_changed_byte_never_hides_the_payload(at: int, value: int) -> None:
    data = bytearray(archive(("a.json", TEXT), ("model.pkl", EVIL), form=tarfile.USTAR_FORMAT))
    at %= len(data)
    data[at] = value
    intact = EVIL in bytes(data)
    if intact:
        assert outcome_of(bytes(data)) is not Outcome.CLEAN


@given(st.integers(0, 511), st.binary(min_size=1, max_size=12))
def test_a_changed_header_with_its_sum_made_right_hides_nothing(at: int, value: bytes) -> None:
    data = archive(("model.pkl", EVIL), form=tarfile.USTAR_FORMAT)
    changed = patched(data, at, value[: 512 - at])
    assert outcome_of(changed) is not Outcome.CLEAN
    for item in read_tar(memoryview(changed)):
        if isinstance(item, TarMember):
            assert 0 <= item.start <= len(changed) + 512
