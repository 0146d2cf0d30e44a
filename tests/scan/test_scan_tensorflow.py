"""TensorFlow: every operator of every graph is met, and TFLite's offsets are held to the file."""

from __future__ import annotations

import json
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.paths import scan_paths
from keepstone.scan.report import FileReport
from keepstone.scan.scanner import scan_file
from keepstone.scan.tensorflow.ops import FILES, HOST, Op, allowed, call_standing, standing
from tests.scan.judging import Payload, outcome_of

Judge = Callable[[bytes], FileReport]


@pytest.fixture
def scan(tmp_path: Path) -> Judge:
    def judge(data: bytes) -> FileReport:
        (tmp_path / "file").write_bytes(data)
        return scan_file(tmp_path / "file")

    return judge


def rules(report: FileReport) -> set[str]:
    return {item.rule for item in report.findings}


# Graphs, written field by field -----------------------------------------------------------------


def varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def node(name: str, operator: str, *inputs: str, **attributes: bytes) -> bytes:
    """Attributes are AttrValues."""
    parts = [field(1, name), field(2, operator), *(field(3, one) for one in inputs)]
    parts += [field(5, field(1, key) + field(2, value)) for key, value in attributes.items()]
    return b"".join(parts)


def constant(name: str, *texts: str) -> bytes:
    tensor = field(1, 7) + b"".join(field(8, text) for text in texts)
    return node(name, "Const", value=field(8, tensor), dtype=field(6, 7))


def function(name: str, *nodes: bytes) -> bytes:
    return field(1, field(1, name)) + b"".join(field(3, one) for one in nodes)


def graph(*nodes: bytes, functions: tuple[bytes, ...] = ()) -> bytes:
    body = b"".join(field(1, one) for one in nodes)
    library = b"".join(field(1, one) for one in functions)
    return body + field(2, library) + field(4, field(1, 1286))


def meta(found: bytes, *more: bytes) -> bytes:
    info = field(4, "serve") + field(5, "2.15.0")
    saver = field(1, "saver_filename:0") + field(2, "call:0") + field(7, 2)
    return field(1, info) + field(2, found) + field(3, saver) + b"".join(more)


def saved(found: bytes, *more: bytes) -> bytes:
    return field(1, 1) + field(2, meta(found, *more))


def asset(tensor: str, file: str) -> bytes:
    return field(6, field(1, field(1, tensor)) + field(2, file))


SAVER = function(
    "__inference__traced_save_1",
    constant("Const", "_temp/part"),
    node("join", "StringJoin", "file_prefix", "Const:output:0"),
    node("shard", "ShardedFilename", "join:output:0"),
    node("save", "SaveV2", "shard:filename:0"),
    node("merge", "MergeV2Checkpoints", "shard:filename:0", "file_prefix"),
)
PLAIN = (
    node("x", "Placeholder"),
    node("w", "VarHandleOp", shared_name=field(2, "w")),
    node("y", "MatMul", "x", "w"),
    node("saver_filename", "Placeholder"),
    node("call", "StatefulPartitionedCall", "saver_filename"),
)


def plain(*more: bytes, functions: tuple[bytes, ...] = (SAVER,)) -> bytes:
    return graph(*PLAIN, *more, functions=functions)


def test_ordinary_graphs_are_clean(scan: Judge) -> None:
    table = (
        constant("c", "/home/me/vocab.txt"),
        node("t", "InitializeTableFromTextFileV2", "w", "c"),
    )
    keras = json.dumps({"class_name": "Dense", "config": {"units": 3}})
    objects = field(7, field(1, field(4, field(1, "_tf_keras_layer") + field(3, keras))))
    for data, kind in (
        (saved(plain()), "saved_model"),
        (saved(plain(*table), asset("c:0", "vocab.txt")), "saved_model"),
        (saved(plain(), objects), "saved_model"),
        (plain(), "graph_def"),
        (meta(plain()), "meta_graph"),
        (
            field(
                1, field(2, 1) + field(3, "root") + field(4, "_tf_keras_model") + field(5, keras)
            ),
            "keras_metadata",
        ),
        (b"".join(field(i, 99) for i in range(1, 6)) + field(6, field(1, 1)), "tf_fingerprint"),
    ):
        report = scan(data)
        assert (report.format, report.findings) == (kind, ())


@pytest.mark.parametrize("operator", sorted(HOST))
def test_operators_that_reach_out_are_flagged_everywhere(scan: Judge, operator: str) -> None:
    bad = node("bad", operator, "x")
    inside = plain(functions=(SAVER, function("f", bad)))
    for data in (saved(plain(bad)), plain(bad), saved(inside), meta(inside)):
        report = scan(data)
        assert report.outcome is Outcome.FLAGGED
        assert rules(report) == {"tf.host_operator"}


def test_an_operator_that_nobody_knows_is_named(scan: Judge) -> None:
    report = scan(saved(plain(node("a", "VendorOp", "x"), node("b", "_Internal", "x"))))
    assert report.outcome is Outcome.FLAGGED
    assert [item.rule for item in report.findings] == ["tf.unknown_operator"] * 2
    assert "VendorOp" in report.findings[0].message
    own = function("VendorOp", node("r", "Relu", "x"))
    assert scan(saved(plain(node("a", "VendorOp", "x"), functions=(own,)))).outcome is Outcome.CLEAN


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../x", "gs://bucket/x", "~/x", "C:\\x", "a/../../b", "\\\\host\\x"]
)
def test_files_outside_of_the_model_are_flagged(scan: Judge, path: str) -> None:
    direct = (constant("c", path), node("r", "RestoreV2", "c", "x"))
    joined = (
        constant("c", path),
        node("i", "Identity", "c"),
        node("j", "StringJoin", "i:0", "x"),
        node("r", "SaveV2", "^x", "j"),
    )
    text = (constant("c", path), node("t", "InitializeTableFromTextFile", "w", "c"))
    for nodes in (direct, joined, text):
        assert rules(scan(saved(plain(*nodes)))) == {"tf.path"}
        assert rules(scan(saved(plain(functions=(function("f", *nodes),))))) == {"tf.path"}
    assert rules(scan(saved(plain(), asset("c:0", path)))) == {"tf.path"}


def test_attributes_that_name_files_are_looked_at(scan: Judge) -> None:
    for operator, key, good, bad in (
        ("PrintV2", "output_stream", "stderr", "file:///tmp/x"),
        ("DecodeProtoV2", "descriptor_source", "local://", "/tmp/x"),
    ):
        for text, found in ((good, set()), (bad, {"tf.host_operator"})):
            report = scan(saved(plain(node("p", operator, "x", **{key: field(2, text)}))))
            assert rules(report) == found


def test_keras_beside_a_graph_isoutcome_of(scan: Judge) -> None:
    evil = json.dumps({"class_name": "Lambda", "config": {"function": ["4wAAAA==", None, None]}})
    objects = field(7, field(1, field(4, field(1, "_tf_keras_layer") + field(3, evil))))
    assert rules(scan(saved(plain(), objects))) == {"keras.lambda"}
    kept = field(1, field(2, 1) + field(4, "_tf_keras_layer") + field(5, evil))
    assert rules(scan(kept)) == {"keras.lambda"}


def test_what_readers_take_differently_is_flagged(scan: Judge) -> None:
    assert rules(scan(saved(plain(node("x", "Relu", "y"))))) == {"tf.ambiguous"}
    assert rules(scan(saved(plain(functions=(SAVER, SAVER))))) == {"tf.ambiguous"}
    assert rules(scan(saved(plain(), field(2, plain())))) == {"tf.ambiguous"}
    assert rules(scan(saved(plain(field(1, "z") + field(2, "Relu") + field(30, "?"))))) == {
        "tf.unknown_field"
    }


def test_the_lists_of_operators_do_not_meet() -> None:
    assert not allowed() & (HOST | FILES)
    assert len(allowed()) > 1000
    assert standing("MatMul") is Op.ALLOWED
    assert standing("SaveV2") is Op.FILES
    assert standing("NoSuch") is Op.UNKNOWN
    for name in ("io.read_file", "raw_ops.WriteFile", "compat.v1.py_func", "tf.io.gfile.GFile"):
        assert call_standing(name) is Op.HOST, name
    for name in ("math.add", "nn.relu", "compat.v1.nn.relu", "concat", "__operators__.getitem"):
        assert call_standing(name) is Op.ALLOWED, name


def test_damage_never_turns_a_graph_clean() -> None:
    whole = saved(plain(node("bad", "WriteFile", "x"), functions=(SAVER,)))
    at = whole.index(b"WriteFile")
    chosen = random.Random(7)
    for _ in range(400):
        changed = bytearray(whole)
        for _ in range(chosen.randint(1, 3)):
            place = chosen.randrange(len(changed))
            if not at - 2 <= place < at + 9:
                changed[place] = chosen.randrange(256)
        assert outcome_of(bytes(changed)) is not Outcome.CLEAN


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_get_a_verdict(body: bytes) -> None:
    for front in (b"\x08\x01\x12", b"\x0a", b"\x1c\x00\x00\x00TFL3", saved(plain())[:40]):
        outcome_of(front + body)


# TFLite -----------------------------------------------------------------------------------------


class Lite:
    """Builds a model of one operator; what a test changes is an argument."""

    def __init__(self) -> None:
        self.b = flatbuffers.Builder(1024)

    def table(self, size: int, **slots: tuple[str, int]) -> int:
        self.b.StartObject(size)
        for slot, (kind, value) in slots.items():
            number = int(slot[1:])
            if kind == "ref":
                self.b.PrependUOffsetTRelativeSlot(number, value, 0)
            else:
                getattr(self.b, f"Prepend{kind}Slot")(number, value, 0)
        return int(self.b.EndObject())

    def refs(self, *items: int) -> int:
        self.b.StartVector(4, len(items), 4)
        for item in reversed(items):
            self.b.PrependUOffsetTRelative(item)
        return int(self.b.EndVector())

    def ints(self, *items: int) -> int:
        self.b.StartVector(4, len(items), 4)
        for item in reversed(items):
            self.b.PrependInt32(item)
        return int(self.b.EndVector())

    def model(
        self,
        code: int = 0,
        custom: str = "",
        options: bytes = b"",
        shape: tuple[int, ...] = (2, 3),
        opcode: int = 0,
        buffer: int = 1,
        inputs: tuple[int, ...] = (0, 1),
        outside: int = 0,
        version: int = 3,
    ) -> bytes:
        data = self.b.CreateByteVector(bytes(24))
        far = {"_1": ("Uint64", outside), "_2": ("Uint64", 64)} if outside else {}
        buffers = self.refs(self.table(3), self.table(3, _0=("ref", data), **far))
        slots = {"_0": ("Byte", min(code, 127)), "_3": ("Int32", code)}
        if custom:
            slots["_1"] = ("ref", self.b.CreateString(custom))
        codes = self.refs(self.table(4, **slots))
        tensors = []
        for number in (0, buffer):
            form = self.ints(*shape)
            tensors.append(self.table(4, _0=("ref", form), _2=("Uint32", number)))
        held = {"_5": ("ref", self.b.CreateByteVector(options))} if options else {}
        ins, outs = self.ints(*inputs), self.ints(0)
        operator = self.table(6, _0=("Uint32", opcode), _1=("ref", ins), _2=("ref", outs), **held)
        parts = [self.refs(*tensors), self.ints(0), self.ints(0), self.refs(operator)]
        graphs = self.refs(
            self.table(5, **{f"_{i}": ("ref", part) for i, part in enumerate(parts)})
        )
        told = self.b.CreateString("MLIR Converted.")
        root = self.table(
            8,
            _0=("Uint32", version),
            _1=("ref", codes),
            _2=("ref", graphs),
            _3=("ref", told),
            _4=("ref", buffers),
        )
        self.b.Finish(root, b"TFL3")
        return bytes(self.b.Output())


def lite(**changes: object) -> bytes:
    return Lite().model(**changes)  # type: ignore[arg-type]


NODE_DEF = b"\x03Add\x00\x16\x12\x03Add\x1a\x01x"


def test_ordinary_lite_models_are_clean(scan: Judge, tmp_path: Path) -> None:
    for data in (
        lite(),
        lite(code=32, custom="TFLite_Detection_PostProcess"),
        lite(code=32, custom="FlexAdd", options=NODE_DEF),
    ):
        report = scan(data)
        assert (report.format, report.findings) == ("tflite", ())
    # MediaPipe and others keep labels in an archive behind the model.
    with zipfile.ZipFile(tmp_path / "file", "a") as file:
        file.writestr("labels.txt", "cat\ndog\n")
    assert scan_file(tmp_path / "file").findings == ()
    with zipfile.ZipFile(tmp_path / "file", "a") as file:
        file.writestr("x", "cos\nsystem\n(S'true'\ntR.")
    assert "pickle.dangerous_import" in rules(scan_file(tmp_path / "file"))


BAD_LITE = {
    "a host operator": ({"code": 32, "custom": "FlexReadFile"}, "tflite.host_operator"),
    "a saver": ({"code": 32, "custom": "FlexSaveV2"}, "tflite.host_operator"),
    "another in the options": (
        {"code": 32, "custom": "FlexAdd", "options": NODE_DEF + b"\x12\x09WriteFile"},
        "tflite.host_operator",
    ),
    "of another operator": (
        {"code": 32, "custom": "FlexAdd", "options": b"\x12\x03Mul"},
        "tflite.unknown",
    ),
    "a custom operator": ({"code": 32, "custom": "Evil"}, "tflite.custom_operator"),
    "a nameless operator": ({"code": 32}, "tflite.custom_operator"),
    "a call of another": ({"code": 173}, "tflite.custom_operator"),
    "an unknown of TensorFlow's": ({"code": 32, "custom": "FlexNoSuch"}, "tflite.unknown"),
    "an unknown operator": ({"code": 250}, "tflite.unknown"),
    "an impossible operator": ({"code": 9999}, "tflite.malformed"),
    "a printer": ({"code": 32, "custom": "FlexPrintV2"}, "tflite.host_operator"),
    "another version": ({"version": 9}, "tflite.unknown"),
    "no such code": ({"opcode": 7}, "tflite.malformed"),
    "no such buffer": ({"buffer": 7}, "tflite.malformed"),
    "no such tensor": ({"inputs": (0, 99)}, "tflite.malformed"),
    "a large tensor": ({"shape": (200, 3)}, "tflite.malformed"),
    "a negative shape": ({"shape": (-2, -3)}, "tflite.malformed"),
    "outside": ({"outside": 1 << 40}, "tflite.malformed"),
}


@pytest.mark.parametrize("name", BAD_LITE)
def test_each_rule_of_lite_bites(scan: Judge, name: str) -> None:
    changes, rule = BAD_LITE[name]
    report = scan(lite(**changes))
    assert report.format == "tflite"
    assert rules(report) == {rule}


def test_bytes_behind_a_lite_model_are_flagged(scan: Judge) -> None:
    for tail in (b"x" * 100_000, pickle.dumps(Payload()), pickle.dumps(Payload(), 0)):
        assert rules(scan(lite() + tail)) == {"tflite.hidden"}


def test_variables_are_data_beside_a_clean_graph(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(saved(plain()))
    shard = folder / "variables" / "variables.data-00000-of-00001"
    shard.write_bytes(bytes(range(7, 256)))
    (folder / "variables" / "variables.index").write_bytes(bytes(range(9, 90)))
    report = scan_paths([folder])
    assert report.outcome is Outcome.CLEAN
    assert [file.format for file in report.files] == ["saved_model", "data", "data"]
    # What has a format of its own is judged as what it is.
    shard.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert scan_paths([folder]).outcome is Outcome.FLAGGED
    shard.write_bytes(bytes(range(7, 256)))
    shard.rename(folder / "other")
    assert scan_paths([folder]).outcome is Outcome.NOT_EVALUATED
    (folder / "saved_model.pb").write_bytes(saved(plain(node("bad", "WriteFile", "x"))))
    (folder / "other").rename(shard)
    files = scan_paths([folder]).files
    assert [file.outcome for file in files[1:]] == [Outcome.NOT_EVALUATED] * 2


def test_damaged_lite_models_keep_their_payload() -> None:
    whole = lite(code=32, custom="FlexWriteFile")
    at = whole.index(b"FlexWriteFile")
    chosen = random.Random(11)
    for _ in range(600):
        changed = bytearray(whole)
        changed[chosen.randrange(8, at - 4)] = chosen.randrange(256)
        outcome_of(bytes(changed[: chosen.randint(40, len(changed))]))
