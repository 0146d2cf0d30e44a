"""Places to hide: behind another format's mark, in a byte string, in any corner of an ONNX file."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, SparseTensorProto, TensorProto, helper

from keepstone.core.finding import Outcome
from keepstone.errors import InputError
from keepstone.scan.allowance import Allowance
from keepstone.scan.formats import identify
from keepstone.scan.paths import scan_paths
from keepstone.scan.pickle import opcodes
from keepstone.scan.pickle.opcodes import Cause, resembles_importing_pickle, walk
from keepstone.scan.report import FileReport
from keepstone.scan.scanner import scan_file

CALL = b"cos\nsystem\n(S'true'\ntR."


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


@pytest.fixture
def judge(tmp_path: Path) -> Callable[[bytes], FileReport]:
    def scan(data: bytes) -> FileReport:
        (tmp_path / "file").write_bytes(data)
        return scan_file(tmp_path / "file")

    return scan


def rules(report: FileReport) -> set[str]:
    return {item.rule for item in report.findings}


def words(report: FileReport) -> str:
    return " ".join(item.message for item in report.findings)


# A pickle behind the mark of another format -----------------------------------------------------

# Each begins with another format's mark, and is a whole pickle to `pickle.load`.
DECOYS = {
    "gguf": b"GGUF\x03\x00\x00\x00\x000" + CALL,
    "tflite": b"S'abTFL3'\n0" + CALL,
    "ort": b"S'abORTM'\n0" + CALL,
    "tar": b"S'" + b"a" * 255 + b"ustar'\n0" + CALL,
    "hdf5": b"B\x03\x02\x00\x00" + bytes(507) + b"\x89HDF\r\n\x1a\n0" + CALL,
    "pe": b"MZZ0" + CALL,
    "bzip2": b"BZh\x00\x00" + bytes(0x685A) + b"0" + CALL,
}


@pytest.mark.parametrize("name", sorted(DECOYS))
def test_a_mark_hides_no_pickle(judge: Callable[[bytes], FileReport], name: str) -> None:
    data = DECOYS[name]
    asked = Real(data)
    with contextlib.suppress(Exception):
        asked.load()
    assert ("os", "system") in asked.asked, "the decoy must work, or it proves nothing"
    report = judge(data)
    assert report.outcome is Outcome.FLAGGED
    assert rules(report) & {"file.polyglot", "pickle.dangerous_import"}


def test_a_long_decoy_before_the_payload_hides_nothing(
    judge: Callable[[bytes], FileReport],
) -> None:
    for decoy in (b"S'" + b"a" * 200_000 + b"'\n0", b"N0" * 50_000, b"N0" * 150_000):
        report = judge(decoy + CALL)
        assert (report.format, report.outcome) == ("pickle", Outcome.FLAGGED)


def test_what_goes_on_for_too_long_is_a_pickle_and_not_evaluated(
    judge: Callable[[bytes], FileReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opcodes, "_RESEMBLES", 50)
    monkeypatch.setattr("keepstone.scan.view.Allowance", lambda: Allowance(100))
    report = judge(b"N0" * 100 + CALL)
    assert (report.format, report.outcome) == ("pickle", Outcome.NOT_EVALUATED)
    assert "more opcodes" in words(report)


@pytest.mark.parametrize(
    "front",
    [b"\x80\x04N.", b"GGUF\x03\x00\x00\x00", b"just bytes", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"],
)
def test_an_archive_at_the_end_of_another_file_is_flagged(
    judge: Callable[[bytes], FileReport], front: bytes
) -> None:
    out = io.BytesIO()
    out.write(front)
    with zipfile.ZipFile(out, "a") as file:
        file.writestr("data.pkl", CALL)
    report = judge(out.getvalue())
    assert report.outcome is Outcome.FLAGGED
    assert "file.polyglot" in rules(report)


def test_text_that_speaks_of_archives_is_no_polyglot(
    judge: Callable[[bytes], FileReport],
) -> None:
    for data in (b"PK\x05\x06 is how it ends", b"text PK\x05\x06" + bytes(18), b"#" * 70_000):
        assert "file.polyglot" not in rules(judge(data))


# Pickles in pickles, and in arrays --------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_in_a_byte_string_is_named(
    judge: Callable[[bytes], FileReport], protocol: int
) -> None:
    inner = pickle.dumps(Payload(), protocol)
    outer = pickle.dumps({"weights": pickle.dumps([inner], max(protocol, 3))}, max(protocol, 3))
    report = judge(outer)
    assert report.outcome is Outcome.FLAGGED
    (item,) = [item for item in report.findings if item.rule == "pickle.dangerous_import"]
    assert "posix.system" in item.message
    offset = item.location.offset
    assert offset is not None
    assert outer[offset : offset + 1] in (b"c", b"\x93")


def test_pickles_in_pickles_are_followed_to_a_depth(
    judge: Callable[[bytes], FileReport],
) -> None:
    data = pickle.dumps(Payload(), 4)
    for _ in range(30):
        data = pickle.dumps(data, 4)
    assert judge(data).outcome is Outcome.NOT_EVALUATED


@pytest.mark.parametrize("descr", [b"'|O'", b"'|\\x4f'", b"'|\\u004f'"])
def test_an_object_array_is_seen_however_it_is_spelled(
    judge: Callable[[bytes], FileReport], descr: bytes
) -> None:
    header = b"{'descr': " + descr + b", 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    array = np.empty(1, object)
    array[0] = Payload()
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    data += pickle.dumps(array, 3)
    report = judge(data)
    assert report.outcome is Outcome.FLAGGED
    assert "posix.system" in words(report)


def test_what_an_object_array_holds_counts_as_a_pickle(
    judge: Callable[[bytes], FileReport],
) -> None:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    assert rules(judge(start + b"\x80\x04].")) == set()
    assert "pickle.broken" in rules(judge(start + b"\x80\x04](K"))


def test_an_object_array_in_an_archive_is_seen(
    judge: Callable[[bytes], FileReport],
) -> None:
    array = np.empty(1, object)
    array[0] = Payload()
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        save(out, a=array)
        report = judge(gzip.compress(out.getvalue()))
        assert report.outcome is Outcome.FLAGGED
        assert "(gzip) > a.npy > (object array)" in {f.location.member for f in report.findings}


# Against the loader that everybody uses ---------------------------------------------------------


class Real(pickle.Unpickler):
    """The C unpickler, except that every name leads to the same harmless thing."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.asked: list[tuple[str, str]] = []

    def find_class(self, module: str, name: str) -> object:
        self.asked.append((module, name))
        return lambda *_, **__: None

    def persistent_load(self, _: object) -> str:
        return "os"


_LINES = st.sampled_from(
    [b"os", b"system", b"0", b"1", b" 1", b"0x1", b"1\x00z", b"'os'", b"", b"01", b"-1", b"1L"]
)
_OPCODES = [
    item for item in pickletools.opcodes if item.name not in ("BYTEARRAY8", "LONG_BINPUT", "PUT")
]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Opcodes with arguments of the right form, in any order; perhaps cut short."""
    data = b""
    for item in draw(st.lists(st.sampled_from(_OPCODES), min_size=2, max_size=14)):
        data += item.code.encode("latin1")
        if item.arg is None:
            continue
        if item.arg.n == pickletools.UP_TO_NEWLINE:
            lines = 2 if "pair" in item.arg.name else 1
            data += b"".join(draw(_LINES) + b"\n" for _ in range(lines))
        elif item.arg.n >= 0:
            data += draw(st.sampled_from([b"\x00", b"\x01", b"\x02"])) + bytes(item.arg.n - 1)
        else:
            text = draw(st.sampled_from([b"", b"os", b"system", b"\x80"]))
            width = {-2: 1, -3: 4, -4: 4, -5: 8}[item.arg.n]
            data += len(text).to_bytes(width, "little") + text
    return data[: draw(st.integers(len(data) // 2, len(data)))] if draw(st.booleans()) else data


@settings(max_examples=500)
@given(streams())
def test_what_the_c_loader_asks_for_is_always_reported(data: bytes) -> None:
    real = Real(data)
    with contextlib.suppress(Exception):
        real.load()
    found = walk(memoryview(data)).imports
    named = {(item.module, item.name) for item in found}
    for module, name in real.asked:
        cut = any((m, n[: len(name)]) == (module, name) for m, n in named if n is not None)
        computed = any(None in one for one in named)
        assert cut or computed or (module, name) in named


def test_a_line_that_ends_with_the_file_is_still_read() -> None:
    for data in (b"\x80\x02cantigravity\nx", b"\x80\x02(iantigravity\nx"):
        real = Real(data)
        with contextlib.suppress(Exception):
            real.load()
        found = walk(memoryview(data))
        assert [item.module for item in found.imports] == ["antigravity"]
        assert found.cause is Cause.BROKEN
    assert Real(b"").asked == []
    assert not resembles_importing_pickle(memoryview(b"c"), Allowance())


@given(st.binary(max_size=200))
def test_any_bytes_have_a_format(data: bytes) -> None:
    assert identify(memoryview(data))
    resembles_importing_pickle(memoryview(data), Allowance())


# ONNX: data outside of the file, wherever a tensor can lie ----------------------------------------


def outside() -> TensorProto:
    tensor = TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../weights.bin")
    return tensor


def attribute(**parts: object) -> AttributeProto:
    found = AttributeProto(name="a")
    for part, item in parts.items():
        target = getattr(found, part)
        target.extend([item]) if hasattr(target, "extend") else target.CopyFrom(item)
    return found


def graph_with(item: AttributeProto) -> GraphProto:
    node = helper.make_node("Relu", ["x"], ["y"])
    node.attribute.append(item)
    return helper.make_graph([node], "inner", [], [])


def sparse(**parts: TensorProto) -> SparseTensorProto:
    found = SparseTensorProto(dims=[1])
    for part, tensor in parts.items():
        getattr(found, part).CopyFrom(tensor)
    return found


def model() -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def in_attribute(item: AttributeProto) -> onnx.ModelProto:
    found = model()
    found.graph.node[0].attribute.append(item)
    return found


def in_graph(**parts: object) -> onnx.ModelProto:
    found = model()
    for part, item in parts.items():
        getattr(found.graph, part).append(item)
    return found


def in_function(default: bool) -> onnx.ModelProto:
    found = model()
    function = found.functions.add(name="f", domain="local")
    if default:
        function.attribute_proto.append(attribute(t=outside()))
    else:
        function.node.extend(graph_with(attribute(t=outside())).node)
    return found


def in_training(part: str) -> onnx.ModelProto:
    found = model()
    getattr(found.training_info.add(), part).CopyFrom(
        helper.make_graph([], "t", [], [], [outside()])
    )
    return found


def without_the_mark() -> onnx.ModelProto:
    tensor = outside()
    tensor.data_location = TensorProto.DEFAULT
    return in_graph(initializer=tensor)


def without_an_entry() -> onnx.ModelProto:
    tensor = outside()
    del tensor.external_data[:]
    return in_graph(initializer=tensor)


PLACES: dict[str, Callable[[], onnx.ModelProto]] = {
    "initializer": lambda: in_graph(initializer=outside()),
    "sparse values": lambda: in_graph(sparse_initializer=sparse(values=outside())),
    "sparse indices": lambda: in_graph(sparse_initializer=sparse(indices=outside())),
    "attribute": lambda: in_attribute(attribute(t=outside())),
    "attribute list": lambda: in_attribute(attribute(tensors=outside())),
    "sparse attribute": lambda: in_attribute(attribute(sparse_tensor=sparse(values=outside()))),
    "sparse attribute list": lambda: in_attribute(
        attribute(sparse_tensors=sparse(indices=outside()))
    ),
    "subgraph": lambda: in_attribute(attribute(g=graph_with(attribute(t=outside())))),
    "subgraph list": lambda: in_attribute(attribute(graphs=graph_with(attribute(t=outside())))),
    "function": lambda: in_function(default=False),
    "function default": lambda: in_function(default=True),
    "training": lambda: in_training("algorithm"),
    "initialization": lambda: in_training("initialization"),
    "entries alone": without_the_mark,
    "mark alone": without_an_entry,
}


@pytest.mark.parametrize("place", PLACES)
def test_data_outside_of_the_file_is_found_in_every_place(
    judge: Callable[[bytes], FileReport], place: str
) -> None:
    report = judge(PLACES[place]().SerializeToString())
    assert (report.format, report.outcome) == ("onnx", Outcome.FLAGGED)
    assert "onnx.external_data" in rules(report)


# Paths ------------------------------------------------------------------------------------------


def test_a_named_path_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError) as caught:
        scan_paths([tmp_path / "pipe"])
    assert caught.value.code == "scan.unreadable"
    # In a folder it is one file of many: the others are still judged.
    (report,) = scan_paths([tmp_path]).files
    assert report.outcome is Outcome.NOT_EVALUATED


def test_a_link_that_is_named_is_followed_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(CALL)
    (tmp_path / "link").symlink_to("target")
    (report,) = scan_paths([tmp_path / "link"]).files
    assert report.outcome is Outcome.FLAGGED
    inside = {Path(f.path).name: f.outcome for f in scan_paths([tmp_path]).files}
    assert inside["link"] is Outcome.NOT_EVALUATED
