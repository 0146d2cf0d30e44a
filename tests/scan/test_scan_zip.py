"""Zip archives: what two readers could take differently is flagged, and honest ones are not."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.archive.zipdir import Listing, ends_as_zip, read_zip
from keepstone.scan.formats import identify
from keepstone.scan.scanner import scan_file

GOOD = pickle.dumps([1], 2)
_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


EVIL = pickle.dumps(Payload(), 2)


class OneWay(io.RawIOBase):
    """A sink that cannot seek: zipfile then writes each size after its content, as torch does."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self.data += piece
        return len(piece)


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as file:
        # It warns of the duplicate names that are wanted here.
        warnings.simplefilter("ignore")
        for name, data in members:
            file.writestr(name, data)
    return out.getvalue()


def listing(data: bytes) -> Listing:
    return read_zip(memoryview(data))


def reasons(data: bytes) -> str:
    found = listing(data)
    return " ".join(problem.reason for problem in found.problems)


def rules(data: bytes) -> set[str]:
    return {problem.rule for problem in listing(data).problems}


def patched(data: bytes, mark: bytes, offset: int, form: str, value: int | bytes) -> bytes:
    """`data` with one number written `offset` bytes behind the first `mark`."""
    out = bytearray(data)
    struct.pack_into(form, out, data.find(mark) + offset, value)
    return bytes(out)


# Honest archives -----------------------------------------------------------------------------


def streamed() -> bytes:
    sink = OneWay()
    with zipfile.ZipFile(sink, "w") as file:  # type: ignore[call-overload]
        file.writestr("archive/data.pkl", GOOD)
        with file.open("archive/data/0", "w", force_zip64=True) as member:
            member.write(bytes(1000))
    return sink.data


def commented() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.comment = b"made by hand"
        file.writestr("ä/ß.txt", b"text" * 100)
        file.mkdir("folder")
    return out.getvalue()


def saved(save: Callable[..., None]) -> bytes:
    out = io.BytesIO()
    save(out, a=np.ones(3), b=np.zeros((2, 2)))
    return out.getvalue()


def wide_end() -> bytes:
    """The 64-bit end record that torch writes into every archive, large or not."""
    data = archive(("archive/data.pkl", GOOD))
    at = data.find(_END)
    count, size, start = struct.unpack_from("<H2I", data, at + 10)
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    return data[:at] + end64 + locator + data[at:]


HONEST = {
    "stored": archive(("a", b"1"), ("b/c", b"2")),
    "empty": archive(),
    "streamed": streamed(),
    "commented": commented(),
    "npz": saved(np.savez),
    "compressed npz": saved(np.savez_compressed),
    "wide end": wide_end(),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_archive_has_no_problem(name: str) -> None:
    data = HONEST[name]
    assert listing(data).problems == []
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert [entry.name for entry in listing(data).entries] == file.namelist()
    assert ends_as_zip(memoryview(data)) == bool(listing(data).entries)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (HONEST["streamed"], "torch"),
        (HONEST["npz"], "npz"),
        (archive(("config.json", b"{}"), ("model.weights.h5", b"")), "keras"),
        (HONEST["stored"], "zip"),
    ],
)
def test_an_archive_is_called_by_its_members(data: bytes, kind: str) -> None:
    assert identify(memoryview(data)) == kind


# Attacks -------------------------------------------------------------------------------------

ONE = archive(("data.pkl", GOOD))
TWO = archive(("a", b"first"), ("b", b"second"))


def nested_content() -> bytes:
    """The second member's header lies in the first member's content."""
    inner = archive(("inner", EVIL))
    data = archive(("outer", inner))
    at, hidden = data.find(_CENTRAL), data.find(_LOCAL, 4)
    entry = bytearray(archive(("inner", EVIL))[inner.find(_CENTRAL) : inner.find(_END)])
    struct.pack_into("<I", entry, 42, hidden)
    end = data.rfind(_END)
    directory = data[data.rfind(_CENTRAL) : end] + bytes(entry)
    start = data.rfind(_CENTRAL)
    assert at < start
    tail = struct.pack("<4s4H2IH", _END, 0, 0, 2, 2, len(directory), start, 0)
    return data[:start] + directory + tail


def hidden_member() -> bytes:
    """Three members lie in the file, and the directory knows the first and the last."""
    data = archive(("a", b"1"), ("evil", EVIL), ("b", b"2"))
    at = data.find(_CENTRAL)
    second = data.find(_CENTRAL, at + 1)
    third = data.find(_CENTRAL, second + 1)
    end = data.rfind(_END)
    directory = data[at:second] + data[third:end]
    return data[:at] + directory + struct.pack("<4s4H2IH", _END, 0, 0, 2, 2, len(directory), at, 0)


def renamed_by_extra() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        info = zipfile.ZipInfo("data.pkl")
        info.extra = struct.pack("<2HBI", 0x7075, 13, 1, 0) + b"evil.pkl"
        file.writestr(info, GOOD)
    return out.getvalue()


def two_ends() -> bytes:
    """A second, whole archive lies in the comment of the first."""
    other = archive(("evil", EVIL))
    return patched(ONE, _END, 20, "<H", len(other)) + other


AMBIGUOUS = {
    "twice": archive(("data.pkl", EVIL), ("data.pkl", GOOD)),
    "by letter case": archive(("Data.PKL", EVIL), ("data.pkl", GOOD)),
    "by slashes": archive(("a/data.pkl", EVIL), ("a//./data.pkl", GOOD)),
    "by backslash": archive(("a/x", EVIL), ("a\\x", GOOD)),
    "name in the local header": ONE.replace(b"data.pkl", b"evil.pkl", 1),
    "flags in the local header": patched(ONE, _LOCAL, 6, "<H", 1),
    "method in the local header": patched(ONE, _LOCAL, 8, "<H", 8),
    "checksum in the local header": patched(ONE, _LOCAL, 14, "<I", 7),
    "size in the local header": patched(ONE, _LOCAL, 22, "<I", 3),
    "size in the directory": patched(ONE, _CENTRAL, 24, "<I", 3),
    "bytes before": b"#!/bin/sh\n" + ONE,
    "bytes after": ONE + b"more",
    "two ends": two_ends(),
    "a count too low": patched(patched(TWO, _END, 8, "<H", 1), _END, 10, "<H", 1),
    "several disks": patched(ONE, _END, 4, "<H", 1),
    "a header elsewhere": patched(ONE, _CENTRAL, 42, "<I", 1),
    "into the directory": patched(ONE, _CENTRAL, 20, "<I", 10_000),
    "a nul in the name": ONE.replace(b"data.pkl", b"data\x00pkl"),
    "another name in an extra field": renamed_by_extra(),
    "members in one another": nested_content(),
    "a member without an entry": hidden_member(),
    "a wide size without a field": patched(ONE, _CENTRAL, 24, "<I", 0xFFFFFFFF),
    "two end records that differ": patched(wide_end(), _END, 10, "<H", 9),
    "a wide end elsewhere": patched(wide_end(), b"PK\x06\x07", 8, "<Q", 0),
    "a wide end on several disks": patched(wide_end(), b"PK\x06\x06", 24, "<Q", 7),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_two_readers_take_differently_is_flagged(tmp_path: Path, name: str) -> None:
    data = AMBIGUOUS[name]
    assert "zip.ambiguous" in rules(data)
    (tmp_path / "file").write_bytes(data)
    assert scan_file(tmp_path / "file").outcome is Outcome.FLAGGED


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/passwd", "C:/evil", "..\\evil"])
def test_a_name_that_leads_out_is_flagged(name: str) -> None:
    assert "zip.unsafe_path" in rules(archive((name, b"")))


def test_a_name_is_not_suspect_for_its_dots() -> None:
    assert rules(archive(("a..b/..c/...", b""))) == set()


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04",
        ONE[:-1],
        patched(ONE, _CENTRAL, 0, "<4s", b"none"),
        patched(ONE, _CENTRAL, 28, "<H", 5000),
        patched(ONE, _END, 12, "<I", 1 << 30),
    ],
)
def test_a_broken_archive_is_not_evaluated(data: bytes) -> None:
    assert "scan.not_evaluated" in rules(data)


def test_content_that_is_not_what_the_archive_says(tmp_path: Path) -> None:
    def judged(data: bytes) -> tuple[set[str], str]:
        (tmp_path / "file").write_bytes(data)
        found = scan_file(tmp_path / "file").findings
        return {item.rule for item in found}, " ".join(item.message for item in found)

    # A checksum that both headers agree on and the content does not.
    wrong = patched(patched(ONE, _LOCAL, 14, "<I", 7), _CENTRAL, 16, "<I", 7)
    assert "checksum is wrong" in judged(wrong)[1]
    evil = archive(("data.pkl", EVIL))
    wrong = patched(patched(evil, _LOCAL, 14, "<I", 7), _CENTRAL, 16, "<I", 7)
    assert "pickle.dangerous_import" in judged(wrong)[0]
    # Deflate that gives another size than both headers say.
    packed = archive(("a", b"text" * 50), method=zipfile.ZIP_DEFLATED)
    wrong = patched(patched(packed, _LOCAL, 22, "<I", 9), _CENTRAL, 24, "<I", 9)
    assert "zip.ambiguous" in judged(wrong)[0]
    encrypted = patched(patched(ONE, _LOCAL, 6, "<H", 1), _CENTRAL, 8, "<H", 1)
    assert "encrypted" in judged(encrypted)[1]


def test_bytes_behind_the_end_of_deflate_are_flagged(tmp_path: Path) -> None:
    packed = archive(("a", b"text" * 50), method=zipfile.ZIP_DEFLATED)
    local, central = packed.find(_LOCAL), packed.find(_CENTRAL)
    size = struct.unpack_from("<I", packed, local + 18)[0]
    data = packed[:central] + EVIL + packed[central:]
    data = patched(data, _LOCAL, 18, "<I", size + len(EVIL))
    data = patched(data, _CENTRAL, 20, "<I", size + len(EVIL))
    data = patched(data, _END, 16, "<I", central + len(EVIL))
    (tmp_path / "file").write_bytes(data)
    assert "zip.ambiguous" in {item.rule for item in scan_file(tmp_path / "file").findings}


# Properties ----------------------------------------------------------------------------------

_NAMES = st.text("abc/._-é", min_size=1, max_size=8)


@given(st.lists(st.tuples(_NAMES, st.binary(max_size=40)), max_size=5), st.booleans())
def test_every_member_that_zipfile_reads_is_seen(
    members: list[tuple[str, bytes]], packed: bool
) -> None:
    data = archive(*members, method=zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
    found = listing(data)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert [entry.name for entry in found.entries] == file.namelist()


@given(
    st.sampled_from([*HONEST.values(), *AMBIGUOUS.values()]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_without_a_problem_zipfile_reads_the_same_members(
    seed: bytes, edits: list[tuple[int, int]]
) -> None:
    data = bytearray(seed)
    for position, byte in edits:
        data[position % len(data)] = byte
    found = listing(bytes(data))
    if found.problems:
        return
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as file:
        assert file.namelist() == [entry.name for entry in found.entries]
        for info, entry in zip(file.infolist(), found.entries, strict=True):
            assert (info.header_offset, info.compress_size) == (entry.header, entry.packed)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_end_in_a_listing(data: bytes, cut: int) -> None:
    listing(data)
    listing(ONE[:cut] + data)
    listing(data + ONE[cut:])
