"""Samples out of files: what is read, and what is refused with a code."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from keepstone.core.digest import Digest
from keepstone.errors import KeepstoneError
from keepstone.lab import samples as module
from keepstone.lab.samples import read_samples, require_same_columns

X = np.array([[0.5, 1.0], [2.0, -3.0], [4.0, 5.0]])


def code(path: Path, label: str | None = None) -> str:
    with pytest.raises(KeepstoneError) as caught:
        read_samples(path, label)
    return caught.value.code


def npz(path: Path, **arrays: object) -> Path:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def test_npz(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x=X.reshape(3, 2, 1).astype("f4"), y=np.array([0, 1, 1], "u1"))
    found = read_samples(path)
    assert found.x.tolist() == X.tolist()
    assert found.y.tolist() == [0, 1, 1]
    assert found.digest == Digest.of(path.read_bytes())
    assert len(found.take(np.array([2, 0]))) == 2


def test_other_names_and_text_labels(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x=X, kind=np.array(["cat", "dog", "cat"]))
    assert read_samples(path, "kind").y.tolist() == ["cat", "dog", "cat"]
    assert code(path) == "data.no_column"


@pytest.mark.parametrize("label", ["y", "label", "target", "class"])
def test_csv(tmp_path: Path, label: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"first,{label},second\n0.5,7,1\n2,8,-3\n\n4,7,5\n")
    found = read_samples(path)
    assert found.x.tolist() == X.tolist()
    assert found.y.tolist() == [7, 8, 7]
    assert found.features == ("first", "second")


def test_csv_with_text_labels_and_a_named_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('y,what\n1,"a, b"\n2,c\n')
    assert read_samples(path, "what").y.tolist() == ["a, b", "c"]


def test_parquet(tmp_path: Path, need_module: Callable[[str], ModuleType]) -> None:
    pa, pq = need_module("pyarrow"), need_module("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": X[:, 0], "label": ["x", "y", "x"], "b": X[:, 1]}), path)
    found = read_samples(path)
    assert found.x.tolist() == X.tolist()
    assert found.y.tolist() == ["x", "y", "x"]
    assert found.features == ("a", "b")
    pq.write_table(pa.table({"a": [1.0, None], "label": [0, 1]}), path)
    assert code(path) == "data.not_finite"
    pq.write_table(pa.table({"a": ["x", "z"], "label": [0, 1]}), path)
    assert code(path) == "data.malformed"
    path.write_bytes(b"PAR1 and no more")
    assert code(path) == "data.malformed"


def test_an_object_array_is_not_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/fired",)

    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([[Bomb()]], object), y=np.array([1]), allow_pickle=True)
    assert code(path) == "data.malformed"
    assert not (tmp_path / "fired").exists()


def test_an_array_that_lies_about_its_size_costs_nothing(tmp_path: Path) -> None:
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 64)}
    np.lib.format.write_array_header_1_0(stream, header)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", stream.getvalue() + bytes(64))
    assert code(path) == "data.malformed"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.npz", b"no zip", "data.malformed"),
        ("a.csv", b"\xff\xfe", "data.malformed"),
        ("a.csv", b"x,y\n1,2,3\n", "data.malformed"),
        ("a.csv", b'x,y\n"1,2\n', "data.malformed"),
        ("a.csv", b"x,y\n", "data.empty"),
        ("a.csv", b"x,z\n1,2\n", "data.no_column"),
        ("a.csv", b"y,label,x\n1,2,3\n", "data.no_column"),
        ("a.csv", b"x,y\nred,2\n", "data.bad_type"),
        ("a.csv", b"x,y\nnan,2\n", "data.not_finite"),
        ("a.csv", b"x,y\n1e999,2\n", "data.not_finite"),
        ("a.json", b"{}", "data.unknown_format"),
    ],
)
def test_what_is_no_table(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert code(path) == expected


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (X, [0, 1], "data.bad_shape"),
        (X[:, 0], [0, 1, 2], "data.bad_shape"),
        (X, [[0], [1], [2]], "data.bad_shape"),
        (X, [0.0, 1.5, 2.0], "data.bad_labels"),
        (X, [0.0, np.nan, 2.0], "data.bad_labels"),
        (X * 1j, [0, 1, 2], "data.bad_type"),
        (X[:0], np.zeros(0, int), "data.empty"),
        (X * np.inf, [0, 1, 2], "data.not_finite"),
    ],
)
def test_what_is_no_labelled_sample(tmp_path: Path, x: object, y: object, expected: str) -> None:
    assert code(npz(tmp_path / "a.npz", x=x, y=y)) == expected


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert code(tmp_path / "a.npz") == "data.unreadable"


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    assert code(tmp_path / "a.npz") == "data.not_regular"
    (tmp_path / "b.csv").mkdir()
    assert code(tmp_path / "b.csv") == "data.not_regular"


# Files that break their readers


def npy(header: str, content: bytes = b"") -> bytes:
    head = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + content


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (True, 4), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 4), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 4",
        "{'descr': (), 'fortran_order': False, 'shape': (1, 4), }",
        "{'descr': [3], 'fortran_order': False, 'shape': (1, 4), }",
        "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1, 4), }",
        "{'descr': ('<f8', (4,)), 'fortran_order': False, 'shape': (1,), }",
        '"' * 3,
        "(" * 5000,
        "",
    ],
)
def test_a_header_that_is_none(tmp_path: Path, header: str) -> None:
    path = zipped(tmp_path / "a.npz", x=npy(header, bytes(32)), y=npy(header, bytes(32)))
    assert code(path) == "data.malformed"


def test_a_corrupt_stream_and_an_encrypted_member(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x=np.random.default_rng(0).random((50, 4)), y=np.zeros(50, int))
    whole = path.read_bytes()
    found = set()
    for at in range(40, 1500, 7):
        path.write_bytes(whole[:at] + b"\xff\xff\xff" + whole[at + 3 :])
        try:
            read_samples(path)
        except KeepstoneError as error:
            found.add(error.code)
    assert found <= {"data.malformed", "data.no_column"}
    assert "data.malformed" in found
    # The lowest bit of a member's flags.
    local, central = whole.index(b"PK\x03\x04") + 6, whole.index(b"PK\x01\x02") + 8
    locked = bytearray(whole)
    locked[local] |= 1
    locked[central] |= 1
    path.write_bytes(locked)
    assert code(path) == "data.malformed"


def test_small_numbers_are_measured_as_what_they_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = npz(tmp_path / "a.npz", x=np.zeros((100, 20), "u1"), y=np.zeros(100, "u1"))
    monkeypatch.setattr(module, "MAX_BYTES", 100 * 20 * 8)
    assert len(read_samples(path)) == 100
    monkeypatch.setattr(module, "MAX_BYTES", 100 * 20 * 8 - 1)
    assert code(path) == "data.too_large"
    table = tmp_path / "a.csv"
    table.write_text("x,y\n" + "1,1\n" * 2000)
    assert code(table) == "data.too_large"


def test_one_long_label_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "1,b\n" * 1000 + f"1,{'a' * 1000}\n")
    assert code(path) == "data.too_large"
    wide = np.array([b"a" * 1000, *[b"b"] * 299])
    assert code(npz(tmp_path / "a.npz", x=np.zeros((300, 1)), y=wide)) == "data.too_large"


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.array([0, 1, 2**63], "u8"), "data.bad_labels"),
        (np.array([0.0, 1.0, 2.0**63]), "data.bad_labels"),
        (np.array([0.0, 1.0, -1e300]), "data.bad_labels"),
        (np.array(["a", "", "b"]), "data.bad_labels"),
        (np.array(["a", " ", "b"]), "data.bad_labels"),
        (np.array([b"a", b"", b"b"]), "data.bad_labels"),
        (np.array([b"a", b"\xff", b"b"]), "data.bad_labels"),
    ],
)
def test_a_label_that_is_none(tmp_path: Path, y: np.ndarray, expected: str) -> None:
    assert code(npz(tmp_path / "a.npz", x=X, y=y)) == expected


@pytest.mark.parametrize("label", ["", '" "', "9223372036854775808"])
def test_a_label_of_a_csv_that_is_none(tmp_path: Path, label: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"x,y\n1,2\n1,{label}\n")
    assert code(path) == "data.bad_labels"


def test_labels_at_the_ends_of_what_is_read(tmp_path: Path) -> None:
    ends = [-(2**63), 0, 2**63 - 1]
    assert read_samples(npz(tmp_path / "a.npz", x=X, y=np.array(ends))).y.tolist() == ends
    names = np.array(["é".encode(), b"a", b"b"])
    assert read_samples(npz(tmp_path / "b.npz", x=X, y=names)).y.tolist() == ["é", "a", "b"]


def test_columns_of_parquet_are_told_by_their_schema(
    tmp_path: Path, need_module: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    pa, pq = need_module("pyarrow"), need_module("pyarrow.parquet")
    path = tmp_path / "a.parquet"

    def write(**columns: object) -> Path:
        pq.write_table(pa.table(columns), path, row_group_size=2)
        return path

    for kept in (["x", "y", "x"], [b"x", b"y", b"x"]):
        assert read_samples(write(a=[1, 2, 3], label=kept)).y.tolist() == ["x", "y", "x"]
    assert read_samples(write(a=[1, 2, 3], label=[True, False, True])).y.tolist() == [1, 0, 1]
    for missing in (
        ["x", None, "y"],
        [1, None, 2],
        [True, None, False],
        ["x", "", "y"],
        [b"\xff"] * 3,
    ):
        assert code(write(a=[1, 2, 3], label=missing)) == "data.bad_labels"
    assert code(write(a=[1], label=pa.array([2**63], pa.uint64()))) == "data.bad_labels"

    wrong = [[[1.0]], [{"b": 1}], ["x"], [True], pa.array([1], pa.date32()), pa.nulls(1)]
    files = [write(a=one, label=[1]).read_bytes() for one in wrong]
    files += [write(a=[1], label=one).read_bytes() for one in ([[1]], [{"b": 1}], pa.nulls(1))]
    read = []
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: read.append(1))
    for content in files:
        path.write_bytes(content)
        assert code(path) == "data.malformed"
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 10)
    assert code(write(a=[1] * 100, label=[1] * 100)) == "data.too_large"
    assert not read


def test_a_text_that_comes_in_each_row_is_kept_once(
    tmp_path: Path, need_module: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    pa, pq = need_module("pyarrow"), need_module("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1] * 1000, "label": ["x" * 1000] * 1000}), path)
    assert len(read_samples(path)) == 1000
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    assert code(path) == "data.too_large"


def test_columns_of_one_name_are_refused(
    tmp_path: Path, need_module: Callable[[str], ModuleType]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b, a,label\n1,2,3,0\n4,5,6,1\n")
    assert code(path) == "data.two_columns"
    pa = need_module("pyarrow")
    need_module("pyarrow.parquet")
    table = pa.Table.from_arrays([pa.array([1.0, 2.0])] * 2 + [pa.array([0, 1])], ["a", "a", "y"])
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    assert code(tmp_path / "a.parquet") == "data.two_columns"


@pytest.mark.parametrize(
    ("features", "why"),
    [(("b", "a"), "in another order"), (("a", "c"), "'c' is none of them"), (("a",), "not those")],
)
def test_columns_that_are_not_those_wanted_are_refused(features: tuple[str, ...], why: str) -> None:
    with pytest.raises(KeepstoneError, match=why) as caught:
        require_same_columns(features, ("a", "b"), "the model")
    assert caught.value.code == "data.other_columns"


def test_columns_without_names_are_taken_as_they_come() -> None:
    require_same_columns((), ("a", "b"), "the model")
    require_same_columns(("a", "b"), (), "the model")
    require_same_columns(("a b", " c"), ("a_b", "c"), "the model")
