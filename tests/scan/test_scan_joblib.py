"""joblib and NumPy: arrays between opcodes, every compressor, headers that must be honest."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Finding, Outcome
from keepstone.scan.allowance import Allowance
from keepstone.scan.archive import compressed
from keepstone.scan.rules import verdict
from keepstone.scan.scanner import judge
from keepstone.scan.view import View


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def found(data: bytes) -> list[Finding]:
    return list(judge(View("file", memoryview(data), Allowance(), judge)))


def outcome(data: bytes) -> Outcome:
    return verdict(found(data))


def rules(data: bytes) -> set[str]:
    return {item.rule for item in found(data)}


def dumped(thing: object, compress: object = 0) -> bytes:
    out = io.BytesIO()
    joblib.dump(thing, out, compress=compress)
    return out.getvalue()


COMPRESSORS = [0, 3, *((name, 3) for name in ("zlib", "gzip", "bz2", "xz", "lzma", "lz4"))]
ARRAYS = {
    "numbers": np.arange(100.0),
    "fields": np.zeros(3, [("a", "i4"), ("b", "U3", (2,))]),
    "texts": np.array(["a", "bcd"]),
    "dates": np.array(["2024-01-01"], "M8[D]"),
    "fortran": np.asfortranarray(np.ones((3, 4))),
    "objects": np.array([1, None, "a"], object),
    "none": np.empty((0, 3)),
    "several": [np.ones(3), {"a": np.array([None])}, np.ones(2, "f4")],
}


@pytest.mark.parametrize("compress", COMPRESSORS, ids=str)
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_between_opcodes_are_stepped_over(name: str, compress: object) -> None:
    pytest.importorskip("lz4", reason="the extra `compression` is not installed")
    assert outcome(dumped(ARRAYS[name], compress)) is Outcome.CLEAN


@pytest.mark.parametrize("compress", COMPRESSORS, ids=str)
def test_what_follows_an_array_is_still_judged(compress: object) -> None:
    pytest.importorskip("lz4", reason="the extra `compression` is not installed")
    for thing in (
        [np.ones(3), Payload()],
        np.array([Payload()], object),
        [np.array([1], object), Payload()],
    ):
        assert outcome(dumped(thing, compress)) is Outcome.FLAGGED


def test_an_array_whose_bytes_are_opcodes_is_two_files_in_one() -> None:
    # The plain loader goes on behind the wrapper, where joblib reads numbers.
    payload = b"cposix\nsystem\n(S'true'\ntR."
    payload += bytes(-len(payload) % 8)
    data = dumped(np.frombuffer(payload, "u1"))
    # Without alignment the numbers follow the opcode at once.
    bare = unaligned(data, payload)
    assert {"pickle.ambiguous", "pickle.dangerous_import"} <= rules(bare)
    assert outcome(unaligned(dumped(np.arange(64, dtype="u1")), bytes(range(64)))) is Outcome.CLEAN


def unaligned(data: bytes, content: bytes) -> bytes:
    """A dump whose wrapper asks for no padding, as joblib wrote before 1.2."""
    key, start = b"numpy_array_alignment_bytes", data.find(content)
    at = data.find(key) + len(key)
    number = data.index(b"K\x10", at)
    build = data.index(b"sub" if b"sub" in data[number:start] else b"ub", number)
    end = data.index(b"b", build) + 1
    return data[:number] + b"N" + data[number + 2 : end] + data[start:]


def test_an_array_in_another_file_is_said() -> None:
    wrapper = (
        b"\x80\x02cjoblib.numpy_pickle_compat\nNDArrayWrapper\n)\x81}X\x08\x00\x00\x00filename"
    )
    state = b"X\x05\x00\x00\x00a.npysb."
    assert rules(wrapper + state) == {"pickle.sidecar"}
    climbing = b"X\x08\x00\x00\x00../a.npysb."
    assert outcome(wrapper + climbing) is Outcome.FLAGGED


def test_zstandard_is_unpacked() -> None:
    pack = zstd.compress
    assert outcome(pack(pickle.dumps([1]))) is Outcome.CLEAN
    assert outcome(pack(pickle.dumps(Payload()))) is Outcome.FLAGGED
    assert outcome(pack(pickle.dumps([1] * 1000))[:-4]) is Outcome.NOT_EVALUATED


def test_several_streams_are_one_file() -> None:
    import gzip

    two = gzip.compress(pickle.dumps([1])) + gzip.compress(pickle.dumps(Payload()))
    assert outcome(two) is Outcome.FLAGGED
    assert outcome(gzip.compress(pickle.dumps([1])) + bytes(20)) is Outcome.CLEAN
    assert outcome(gzip.compress(pickle.dumps([1])) + b"more") is Outcome.NOT_EVALUATED


def test_a_bomb_is_called_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    monkeypatch.setattr(compressed, "_BOMB", 1 << 16)
    assert "archive.bomb" in rules(gzip.compress(bytes(10**6)))
    assert "archive.bomb" in rules(gzip.compress(bytes(30_000)) * 50)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name in range(20):
            file.writestr(str(name), gzip.compress(bytes(40_000)))
    assert "archive.bomb" in rules(out.getvalue())
    assert "archive.bomb" not in rules(gzip.compress(os.urandom(10**5)))


# NumPy ----------------------------------------------------------------------------------------


def saved(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


@pytest.mark.parametrize("name", [name for name in ARRAYS if name != "several"])
def test_arrays_are_clean_to_their_end(name: str) -> None:
    array = np.asarray(ARRAYS[name])
    assert outcome(saved(array)) is Outcome.CLEAN
    if array.dtype != object:
        assert outcome(saved(array) + saved(array)) is Outcome.CLEAN
        assert outcome(saved(array) + b"more") is Outcome.NOT_EVALUATED
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        save(out, a=array)
        assert outcome(out.getvalue()) is Outcome.CLEAN


def test_objects_are_judged_as_what_they_are() -> None:
    assert outcome(saved(np.array([Payload()], object))) is Outcome.FLAGGED


def npy(header: str, content: bytes = bytes(8), version: bytes = b"\x01\x00") -> bytes:
    text = header.encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + content


PLAIN = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n"


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (npy(PLAIN), None),
        (npy(PLAIN.replace("(1,)", "(1L,)")), None),
        (npy(PLAIN.replace("<f8", "<f8,<f8")), "numpy.malformed"),
        (npy(PLAIN.replace("'<f8'", "__import__('os')")), "numpy.malformed"),
        (npy(PLAIN.replace("{", "{'descr': '|O', ")), "numpy.malformed"),
        (npy(PLAIN.replace("(1,)", "(-1,)")), "numpy.malformed"),
        (npy(PLAIN.replace("(1,)", "(1 << 60,)")), "numpy.malformed"),
        (npy(PLAIN.replace("(1,)", "(2,)")), "numpy.malformed"),
        (npy(PLAIN.replace("(1,)", f"({1 << 40},)")), "archive.bomb"),
        (npy(PLAIN, version=b"\x09\x00"), "numpy.malformed"),
        (npy("[" * 9000 + "]" * 9000), "archive.bomb"),
        (npy("[" * 4000), "numpy.malformed"),
        (npy("{}"), "numpy.malformed"),
    ],
)
def test_a_header_is_what_numpy_writes(data: bytes, rule: str | None) -> None:
    assert rules(data) == ({rule} if rule else set())


def test_a_pickle_behind_an_odd_header_is_still_judged() -> None:
    assert outcome(npy("{'descr': [[]]}", pickle.dumps(Payload(), 2))) is Outcome.FLAGGED


@given(st.binary(max_size=80), st.integers(0, 200))
def test_any_header_ends_in_a_verdict(data: bytes, cut: int) -> None:
    whole = saved(np.array([1, None], object))
    for piece in (b"\x93NUMPY\x01\x00" + data, whole[:cut] + data):
        assert not any("failed" in item.message for item in found(piece))


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_dump_with_a_payload_is_never_clean(position: int, byte: int) -> None:
    data = bytearray(dumped([np.ones(3), Payload(), np.array([None])]))
    data[position % len(data)] = byte
    if b"posix\x94\x8c\x06system" in data and outcome(bytes(data)) is Outcome.CLEAN:
        # Only where the file now ends before it.
        assert b"posix" not in bytes(data)[: bytes(data).index(b".")]


def test_files_on_disk_are_judged_alike(tmp_path: Path) -> None:
    from keepstone.scan.scanner import scan_file

    joblib.dump({"a": np.ones(5)}, tmp_path / "model.joblib", compress=3)
    assert scan_file(tmp_path / "model.joblib").outcome is Outcome.CLEAN
