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
from keepstone.lab.samples import read_samples

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
