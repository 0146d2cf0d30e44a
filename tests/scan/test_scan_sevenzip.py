"""7z archives: unpacked by coders known here, or not evaluated by the name of what is not."""

from __future__ import annotations

import bz2
import lzma
import os
import pickle
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.archive import sevenzip
from tests.scan.judging import flags_pickle, judged, outcome_of, reasons_of, rules_of

GOOD = Path(__file__).parent / "good"
TEXT = b'{"hidden_size": 4}'


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


EVIL = pickle.dumps(Payload(), 2)


def number(value: int) -> bytes:
    """7z's own form of a number: the leading ones of the first byte count what follows."""
    for length in range(8):
        if value < 1 << (7 * length + 7):
            head = (0xFF00 >> length) & 0xFF | value >> (8 * length)
            return bytes([head]) + (value & ((1 << 8 * length) - 1)).to_bytes(length, "little")
    return b"\xff" + value.to_bytes(8, "little")


def archive(
    *files: tuple[str, bytes],
    coders: tuple[tuple[bytes, bytes], ...] = ((b"\x00", b""),),
    packed: bytes | None = None,
    attributes: tuple[int, ...] = (),
    size: int | None = None,
) -> bytes:
    """An archive with one stream; `coders` as its directory names them, the last one packs."""
    whole = b"".join(data for _, data in files)
    stored = whole if packed is None else packed
    total = len(whole) if size is None else size
    folder = number(len(coders))
    for name, settings in coders:
        folder += bytes([len(name) | (0x20 if settings else 0)]) + name
        folder += number(len(settings)) + settings if settings else b""
    for index in range(len(coders) - 1):
        folder += number(index) + number(index + 1)
    streams = b"\x06\x00\x01\x09" + number(len(stored)) + b"\x00"
    streams += b"\x07\x0b\x01\x00" + folder + b"\x0c" + number(total) * len(coders) + b"\x00"
    streams += b"\x08\x0d" + number(len(files))
    if len(files) > 1:
        streams += b"\x09" + b"".join(number(len(data)) for _, data in files[:-1])
    streams += b"\x0a\x01" + b"".join(zlib.crc32(d).to_bytes(4, "little") for _, d in files)
    names = b"\x00" + b"".join(name.encode("utf-16-le") + b"\x00\x00" for name, _ in files)
    listed = b"\x05" + number(len(files)) + b"\x11" + number(len(names)) + names
    if attributes:
        marks = b"\x01\x00" + b"".join(one.to_bytes(4, "little") for one in attributes)
        listed += b"\x15" + number(len(marks)) + marks
    header = b"\x01\x04" + streams + b"\x00\x00" + listed + b"\x00\x00"
    return wrapped(stored, header)


def wrapped(stored: bytes, header: bytes) -> bytes:
    start = len(stored).to_bytes(8, "little") + len(header).to_bytes(8, "little")
    start += zlib.crc32(header).to_bytes(4, "little")
    crc = zlib.crc32(start).to_bytes(4, "little")
    return b"7z\xbc\xaf\x27\x1c\x00\x04" + crc + start + stored + header


def raw(data: bytes, *filters: dict[str, object]) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=list(filters))


LZMA2 = (b"\x21", b"\x18")
LZMA1 = (b"\x03\x01\x01", b"\x5d\x00\x00\x01\x00")
_ONE = {"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}
_TWO = {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}


def zipped(data: bytes) -> bytes:
    machine = zlib.compressobj(wbits=-15)
    return machine.compress(data) + machine.flush()


PACKINGS = {
    "copy": (((b"\x00", b""),), lambda data: data),
    "lzma": ((LZMA1,), lambda data: raw(data, _ONE)),
    "lzma2": ((LZMA2,), lambda data: raw(data, _TWO)),
    "deflate": (((b"\x04\x01\x08", b""),), zipped),
    "bzip2": (((b"\x04\x02\x02", b""),), bz2.compress),
    "delta": (
        ((b"\x03", b"\x00"), LZMA2),
        lambda data: raw(data, {"id": lzma.FILTER_DELTA, "dist": 1}, _TWO),
    ),
    "x86": (
        ((b"\x03\x03\x01\x03", b""), LZMA2),
        lambda data: raw(data, {"id": lzma.FILTER_X86}, _TWO),
    ),
}


# Honest archives ------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", PACKINGS)
def test_what_each_coder_packed_is_judged(packing: str) -> None:
    coders, pack = PACKINGS[packing]
    packed = pack(TEXT + TEXT)
    clean = archive(("a.json", TEXT), ("b.json", TEXT), coders=coders, packed=packed)
    assert judged(clean) == []
    evil = archive(("a.json", TEXT), ("m.bin", EVIL), coders=coders, packed=pack(TEXT + EVIL))
    assert flags_pickle(evil)


# Made by py7zr 1.1: two files, LZMA2 with BCJ, the directory packed with LZMA.
REAL = (GOOD / "two.7z").read_bytes()


def test_an_archive_of_another_writer_is_clean() -> None:
    assert judged(REAL) == []


# Tricks ---------------------------------------------------------------------------------------


def test_names_that_lead_out_and_twice_are_flagged() -> None:
    assert "sevenzip.unsafe_path" in rules_of(archive(("../a.json", TEXT)))
    assert "sevenzip.ambiguous" in rules_of(archive(("a.json", TEXT), ("A.json", TEXT)))


def test_a_link_that_leads_out_is_flagged() -> None:
    mode = (0o120777 << 16) | 0x8000
    assert "sevenzip.unsafe_path" in rules_of(archive(("l", b"/etc/passwd"), attributes=(mode,)))
    assert outcome_of(archive(("l", b"inside"), attributes=(mode,))) is Outcome.NOT_EVALUATED


def test_what_follows_the_archive_is_flagged() -> None:
    assert "sevenzip.ambiguous" in rules_of(archive(("a.json", TEXT)) + b"more")


@pytest.mark.parametrize(
    ("coder", "name"),
    [
        (b"\x06\xf1\x07\x01", "AES encryption"),
        (b"\x03\x04\x01", "PPMd"),
        (b"\x03\x03\x01\x1b", "BCJ2"),
        (b"\x04\xf7\x11\x01", "Zstandard"),
        (b"\x0f\x0f", "0f0f"),
    ],
)
def test_a_coder_that_is_not_undone_is_named(coder: bytes, name: str) -> None:
    data = archive(("a.json", TEXT), coders=((coder, b"\x00"),))
    assert outcome_of(data) is Outcome.NOT_EVALUATED
    assert name in reasons_of(data)


def test_a_bomb_is_flagged_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sevenzip, "MAX_UNPACKED", 1 << 16)
    data = archive(("a", bytes(1 << 20)), coders=(LZMA2,), packed=raw(bytes(1 << 20), _TWO))
    assert "sevenzip.bomb" in rules_of(data)
    assert "more than the limit" in reasons_of(data)


def test_a_size_that_lies_is_not_evaluated() -> None:
    data = archive(("a.json", TEXT), coders=(LZMA2,), packed=raw(TEXT, _TWO), size=len(TEXT) + 9)
    assert outcome_of(data) is Outcome.NOT_EVALUATED
    short = archive(("a.json", TEXT), coders=(LZMA2,), packed=raw(TEXT * 2, _TWO))
    assert outcome_of(short) is Outcome.NOT_EVALUATED


def test_a_wrong_checksum_is_not_evaluated() -> None:
    data = archive(("a.json", TEXT))
    assert outcome_of(data.replace(TEXT, TEXT.replace(b"4", b"5"))) is Outcome.NOT_EVALUATED
    assert outcome_of(data[:9] + b"\x00" + data[10:]) is Outcome.NOT_EVALUATED


# Whatever comes -------------------------------------------------------------------------------


@given(st.integers(12, len(REAL) - 1), st.integers(0, 255))
def test_a_changed_byte_of_a_real_archive_never_fails(at: int, value: int) -> None:
    # Some bits of a compressed stream mean nothing: the checksum says that all is as it was.
    data = bytearray(REAL)
    data[at] = value
    assert "failed" not in reasons_of(bytes(data))


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_byte_never_hides_the_payload(at: int, value: int) -> None:
    packed = raw(TEXT + EVIL, _TWO)
    whole = archive(("a.json", TEXT), ("m.bin", EVIL), coders=(LZMA2,), packed=packed)
    data = bytearray(whole)
    data[at % len(data)] = value
    assert outcome_of(bytes(data)) is not Outcome.CLEAN


@given(st.binary(max_size=300))
def test_any_directory_is_read_without_failing(header: bytes) -> None:
    assert outcome_of(wrapped(EVIL, b"\x01" + header)) is not Outcome.CLEAN
    assert outcome_of(wrapped(EVIL, b"\x17" + header)) is not Outcome.CLEAN


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_directory_with_its_sum_made_right_hides_nothing(at: int, value: int) -> None:
    whole = archive(("a.json", TEXT), ("m.bin", EVIL))
    header = bytearray(whole[32 + len(TEXT) + len(EVIL) :])
    header[at % len(header)] = value
    data = wrapped(TEXT + EVIL, bytes(header))
    assert outcome_of(data) is not Outcome.CLEAN
