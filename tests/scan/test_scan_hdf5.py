"""HDF5: our own reader sees what the library sees, and what leads out of the file is flagged."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.hdf5 import source as source_module
from keepstone.scan.hdf5.file import Hdf5
from keepstone.scan.report import FileReport
from keepstone.scan.scanner import scan_file
from tests.scan.test_scan_tensors import Payload

Write = Callable[[h5py.File], object]
VERSIONS = ("earliest", "v108", "v110", "v112", "latest")


@pytest.fixture
def scan(tmp_path: Path) -> Callable[..., FileReport]:
    def judge(write: Write, **options: Any) -> FileReport:
        with h5py.File(tmp_path / "file", "w", **options) as file:
            write(file)
        return scan_file(tmp_path / "file")

    return judge


def rules(report: FileReport) -> set[str]:
    return {item.rule for item in report.findings}


def rich(file: h5py.File) -> None:
    file.attrs["large"] = "x" * 100_000
    file.attrs["fixed"] = np.bytes_(b"fixed")
    file.attrs["number"] = 5
    for i in range(40):
        file.attrs[f"many{i}"] = f"value {i}"
    group = file.create_group("group")
    for i in range(200):
        layer = group.create_group(f"layer_{i:04d}")
        layer.attrs["weight_names"] = [f"kernel:{i}", f"bias:{i}"]
    data = group.create_dataset(
        "data", data=np.zeros((50, 50)), chunks=(10, 10), compression="gzip", shuffle=True
    )
    for i in range(20):
        data.attrs[f"big{i}"] = np.bytes_(b"z" * 3000 + str(i).encode())
    group["soft"] = h5py.SoftLink("/group/data")
    group["hard"] = group["data"]
    file.create_dataset("plain", data=np.arange(10))
    file.create_dataset("lzf", data=np.zeros((50, 50)), chunks=(10, 10), compression="lzf")
    file["type"] = np.dtype("f4")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ordered", [False, True])
def test_our_reader_sees_what_the_library_sees(tmp_path: Path, version: str, ordered: bool) -> None:
    path = tmp_path / "file"
    with h5py.File(path, "w", libver=(version, "latest"), track_order=ordered) as file:
        rich(file)
    reader = Hdf5(memoryview(path.read_bytes()))
    seen = {(held.path, held.attribute.name): held.attribute.texts for held in reader}
    assert reader.troubles == []
    with h5py.File(path) as file:
        wanted: dict[tuple[str, str], Any] = {("/", name): file.attrs[name] for name in file.attrs}
        file.visititems(
            lambda name, item: wanted.update(
                {(f"/{name}", key): item.attrs[key] for key in item.attrs}
            )
        )
    # One object may be met by either of its two names.
    found = {(path.replace("/hard", "/data"), name): texts for (path, name), texts in seen.items()}
    for (where, name), value in wanted.items():
        texts = found[where.replace("/hard", "/data"), name]
        if isinstance(value, str | bytes):
            raw = value.encode() if isinstance(value, str) else bytes(value)
            assert texts[0].rstrip(b"\x00") == raw
        elif isinstance(value, np.ndarray) and value.dtype.kind == "O":
            assert [text.decode() for text in texts] == list(value)


def test_values_of_every_size_are_read(tmp_path: Path) -> None:
    """Some lie in blocks of blocks, some in a tree of their own."""
    path = tmp_path / "file"
    for count, size in ((2000, 3000), (20, 70_000)):
        with h5py.File(path, "w", libver="latest") as file:
            for i in range(count):
                file.attrs[f"a{i}"] = np.bytes_(b"q" * size + str(i).encode())
        reader = Hdf5(memoryview(path.read_bytes()))
        found = {held.attribute.name: held.attribute.texts[0] for held in reader}
        assert reader.troubles == []
        assert found == {f"a{i}": b"q" * size + str(i).encode() for i in range(count)}


def test_weights_alone_are_clean(scan: Callable[..., FileReport]) -> None:
    for version in VERSIONS:
        report = scan(rich, libver=(version, "latest"))
        assert (report.format, report.findings) == ("hdf5", ())


def external_link(file: h5py.File) -> None:
    file["x"] = h5py.ExternalLink("/etc/passwd", "/x")


def external_data(file: h5py.File) -> None:
    file.create_dataset("x", (10,), "i1", external=[("/etc/passwd", 0, 10)])


def virtual_data(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (10,))
    file.create_virtual_dataset("x", layout)


def deep_link(file: h5py.File) -> None:
    group = file.create_group("a/b/c/d")
    group["x"] = h5py.ExternalLink("other.h5", "/x")


WAYS_OUT = [external_link, external_data, virtual_data, deep_link]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("write", WAYS_OUT)
def test_what_leads_out_of_the_file_is_flagged(
    scan: Callable[..., FileReport], write: Write, version: str
) -> None:
    report = scan(write, libver=(version, "latest"))
    assert report.outcome is Outcome.FLAGGED
    assert rules(report) == {"hdf5.external"}


def test_a_filter_from_elsewhere_is_flagged(scan: Callable[..., FileReport]) -> None:
    def write(file: h5py.File) -> None:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((10,))
        properties.set_filter(32017, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        space = h5py.h5s.create_simple((10,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, space, dcpl=properties)

    assert rules(scan(write)) == {"hdf5.plugin"}


def test_what_comes_before_and_after_is_flagged(
    scan: Callable[..., FileReport], tmp_path: Path
) -> None:
    assert rules(scan(rich, userblock_size=512)) == {"hdf5.user_block"}
    scan(rich)
    path = tmp_path / "file"
    path.write_bytes(path.read_bytes() + b"more")
    assert rules(scan_file(path)) == {"hdf5.hidden"}
    path.write_bytes(path.read_bytes()[:-2000])
    assert "hdf5.malformed" in rules(scan_file(path))


def test_a_pickle_in_an_attribute_is_judged(scan: Callable[..., FileReport]) -> None:
    """PyTables opens what looks like one."""

    def write(file: h5py.File) -> None:
        file.attrs["x"] = np.void(pickle.dumps(Payload()))

    assert scan(write).outcome is Outcome.FLAGGED


def test_work_is_bounded(scan: Callable[..., FileReport], monkeypatch: pytest.MonkeyPatch) -> None:
    for field, value in (("left", 10_000), ("steps", 100)):
        monkeypatch.setattr(
            "keepstone.scan.hdf5.file.Source",
            lambda data, field=field, value=value: source_module.Source(data, **{field: value}),
        )
        assert rules(scan(rich)) >= {"hdf5.too_large"}


def test_damage_ends_in_a_verdict(tmp_path: Path) -> None:
    chosen = random.Random(5)
    for version in VERSIONS:
        path = tmp_path / version
        with h5py.File(path, "w", libver=(version, "latest")) as file:
            external_link(file)
            for i in range(20):
                file.attrs[f"a{i}"] = f"value {i}"
        whole = path.read_bytes()
        for _ in range(150):
            changed = bytearray(whole)
            for _ in range(chosen.randint(1, 6)):
                changed[chosen.randrange(8, len(changed))] = chosen.randrange(256)
            (tmp_path / "changed").write_bytes(changed[: chosen.randint(100, len(changed))])
            report = scan_file(tmp_path / "changed")
            assert not any("scanner failed" in item.message for item in report.findings)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3), st.binary(max_size=400))
def test_any_bytes_behind_the_mark_are_read_within_bounds(version: int, body: bytes) -> None:
    reader = Hdf5(memoryview(b"\x89HDF\r\n\x1a\n" + bytes([version]) + body))
    assert list(reader) is not None
    assert reader.troubles
