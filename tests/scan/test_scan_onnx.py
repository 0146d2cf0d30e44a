"""ONNX: each rule has a file that it flags, and a plain model is clean."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from keepstone.contract.onnx import read_onnx
from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.scan.onnx import checker, child
from keepstone.scan.onnx import structure as scan_onnx_module
from keepstone.scan.onnx.checker import Checked, CheckLimits, check_with_runtime
from keepstone.scan.onnx.structure import MAX_EXPANDED_NODES, expanded_nodes
from keepstone.scan.report import FileReport
from keepstone.scan.scanner import scan_file, scan_paths

Judge = Callable[[onnx.ModelProto | bytes], FileReport]


def value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3])


def model(*nodes: onnx.NodeProto, **parts: object) -> onnx.ModelProto:
    """A model whose nodes come before the one that makes its output."""
    graph = helper.make_graph(
        [*nodes, helper.make_node("Relu", ["x"], ["y"])], "g", [value("x")], [value("y")]
    )
    for part, items in parts.items():
        getattr(graph, part).extend(items)
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    found.ir_version = 8
    return found


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    def scan(found: onnx.ModelProto | bytes) -> FileReport:
        data = found if isinstance(found, bytes) else found.SerializeToString()
        (tmp_path / "model").write_bytes(data)
        return scan_file(tmp_path / "model")

    return scan


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The checker says ok to everything; the list counts how often it was asked."""
    asked: list[int] = []

    def check(descriptor: int, size: int, sha256: Digest) -> Checked:
        asked.append(size)
        return Checked("ok", "", ("x",), ("y",))

    monkeypatch.setattr(scan_onnx_module, "check_with_runtime", check)
    return asked


def rules(report: FileReport) -> set[str]:
    return {item.rule for item in report.findings}


def external() -> TensorProto:
    tensor = TensorProto(name="w", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    return tensor


def with_functions(*functions: onnx.FunctionProto) -> onnx.ModelProto:
    found = model()
    found.functions.extend(functions)
    found.opset_import.append(helper.make_opsetid("local", 1))
    return found


def function(name: str, *calls: str, domain: str = "local") -> onnx.FunctionProto:
    nodes = [
        helper.make_node(call, ["a"], [f"b{i}"], domain="local") for i, call in enumerate(calls)
    ]
    nodes.append(helper.make_node("Relu", ["a"], ["out"]))
    return helper.make_function(
        domain,
        name,
        ["a"],
        ["out"],
        nodes,
        [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)],
    )


def test_a_plain_model_is_clean(judge: Judge) -> None:
    report = judge(model())
    assert (report.format, report.outcome, report.findings) == ("onnx", Outcome.CLEAN, ())


def test_functions_and_library_operators_are_clean(judge: Judge) -> None:
    found = with_functions(function("inner"), function("outer", "inner", "inner"))
    found.graph.node.insert(0, helper.make_node("outer", ["x"], ["z"], domain="local"))
    assert judge(found).outcome is Outcome.CLEAN
    found = model(
        helper.make_node("FusedMatMul", ["x", "x"], ["m"], domain="com.microsoft", transB=1)
    )
    found.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert judge(found).outcome is Outcome.CLEAN


def nested(levels: int) -> onnx.ModelProto:
    graph = helper.make_graph([], "g", [], [])
    for _ in range(levels):
        node = helper.make_node("If", ["c"], ["d"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "g", [], [])
        del node.attribute[1]
        graph.node[0].CopyFrom(node)
    found = model()
    found.graph.node[0].attribute.add(name="g", type=onnx.AttributeProto.GRAPH, g=graph)
    return found


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n.")
    found = model()
    found.doc_string = "text"
    tail = out.getvalue()
    # As the bytes of one more doc_string: an unknown field would show.
    graph_doc = b"\x52" + varint(len(tail)) + tail
    data = found.graph.SerializeToString() + graph_doc
    found.ClearField("graph")
    return found.SerializeToString() + b"\x3a" + varint(len(data)) + data


def varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def with_unknown_field() -> onnx.ModelProto:
    found = model()
    found.graph.MergeFromString(b"\xfa\x3e\x00")
    return found


FLAGGED = {
    "onnx.external_data": lambda: model(initializer=[external()]),
    "onnx.custom_domain": lambda: model(helper.make_node("Evil", ["x"], ["e"], domain="ai.evil")),
    "onnx.host_operator": lambda: model(
        helper.make_node("EPContext", ["x"], ["e"], domain="com.microsoft")
    ),
    "onnx.function_shadow": lambda: with_functions(function("Relu", domain="")),
    "onnx.function_bomb": lambda: with_functions(function("f", "f")),
    "onnx.ambiguous": lambda: with_functions(function("f"), function("f")),
    "onnx.malformed": lambda: model().SerializeToString()[:-3],
    "onnx.invalid": lambda: model(helper.make_node("NoSuchOperator", ["x"], ["e"])),
    "file.polyglot": zipped,
}
NOT_EVALUATED = {
    "onnx.too_deep": lambda: nested(20),
    "onnx.too_large": lambda: model(
        sparse_initializer=[onnx.SparseTensorProto(dims=[1 << 20, 1 << 20])]
    ),
    "onnx.unknown_field": lambda: with_unknown_field(),
}


@pytest.mark.parametrize("rule", FLAGGED)
def test_each_rule_flags(judge: Judge, rule: str) -> None:
    report = judge(FLAGGED[rule]())
    assert report.outcome is Outcome.FLAGGED
    assert rule in rules(report)


@pytest.mark.parametrize("rule", NOT_EVALUATED)
def test_each_limit_leaves_it_open(judge: Judge, rule: str) -> None:
    report = judge(NOT_EVALUATED[rule]())
    assert report.outcome is Outcome.NOT_EVALUATED
    assert rule in rules(report)


def test_external_data_says_where(judge: Judge, no_child: list[int]) -> None:
    (item,) = judge(model(initializer=[external()])).findings
    assert "etc/passwd" in item.message
    assert item.location.member == "graph.initializer"
    assert item.location.offset is not None


def test_what_the_structure_flags_is_never_opened(judge: Judge, no_child: list[int]) -> None:
    for rule in set(FLAGGED) - {"onnx.invalid", "file.polyglot"} | set(NOT_EVALUATED):
        judge({**FLAGGED, **NOT_EVALUATED}[rule]())
    assert no_child == []
    judge(model())
    assert len(no_child) == 1


def test_a_file_of_two_gigabytes_is_not_evaluated(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_onnx_module, "MAX_SIZE", 10)
    assert rules(judge(model())) == {"onnx.too_large"}


def test_what_two_readers_see_differently_is_flagged(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        scan_onnx_module, "check_with_runtime", lambda *_: Checked("ok", "", ("x", "z"), ("y",))
    )
    assert rules(judge(model())) == {"onnx.reader_mismatch"}


@pytest.mark.parametrize("result", ["limit", "crash", "unsupported", "changed", "missing"])
def test_a_checker_without_an_answer_leaves_it_open(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, result: str
) -> None:
    monkeypatch.setattr(scan_onnx_module, "check_with_runtime", lambda *_: Checked(result, "why"))
    report = judge(model())
    assert report.outcome is Outcome.NOT_EVALUATED
    assert rules(report) == {"scan.not_evaluated"}


# Weights in files beside the model ---------------------------------------------------------------


def beside(folder: Path, location: str = "weights", **numbers: str) -> Path:
    """A model whose weights lie in the file `weights` of its folder, or where `location` says."""
    weights = numpy_helper.from_array(np.ones((3, 3), np.float32), "w")
    found = model(helper.make_node("MatMul", ["x", "w"], ["z"]), initializer=[weights])
    (folder / "weights").write_bytes(weights.raw_data)
    tensor = found.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": "0", "length": "36", **numbers}
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)
    (folder / "model").write_bytes(found.SerializeToString())
    return folder / "model"


def test_weights_beside_the_model_are_judged_with_it(tmp_path: Path) -> None:
    assert scan_file(beside(tmp_path)).findings == ()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "weights").write_bytes(bytes(36))
    assert scan_file(beside(tmp_path, "below/weights")).findings == ()


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../weights",
        "a/../../weights",
        "C:\\weights",
        "~/x",
        "file:///etc/passwd",
        "",
    ],
)
def test_weights_outside_of_the_folder_are_flagged(
    tmp_path: Path, no_child: list[int], location: str
) -> None:
    assert rules(scan_file(beside(tmp_path, location))) == {"onnx.external_data"}
    assert no_child == []


def test_no_link_is_followed_to_weights(tmp_path: Path, no_child: list[int]) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "way").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    for location in ("link", "way/passwd", "pipe"):
        report = scan_file(beside(tmp_path, location))
        assert report.outcome is not Outcome.CLEAN
    assert no_child == []


def test_weights_beyond_the_end_of_their_file_are_flagged(
    tmp_path: Path, no_child: list[int]
) -> None:
    for numbers in ({"length": "37"}, {"offset": "1"}, {"offset": "-1"}, {"length": "0x10"}):
        assert rules(scan_file(beside(tmp_path, **numbers))) == {"onnx.external_data"}
    assert no_child == []


def test_weights_that_are_not_there_are_flagged(tmp_path: Path, no_child: list[int]) -> None:
    for location in ("missing", "missing/weights", "model"):
        assert rules(scan_file(beside(tmp_path, location))) == {"onnx.external_data"}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("model", beside(tmp_path).read_bytes())
    (tmp_path / "packed").write_bytes(packed.getvalue())
    assert scan_file(tmp_path / "packed").outcome is not Outcome.CLEAN
    assert no_child == []


def test_weights_are_data_beside_a_clean_model(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    beside(tmp_path / "folder")
    (tmp_path / "folder" / "weights").write_bytes(bytes(range(100, 136)))
    files = scan_paths([tmp_path / "folder"]).files
    assert [(file.format, file.outcome) for file in files] == [
        ("onnx", Outcome.CLEAN),
        ("data", Outcome.CLEAN),
    ]


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand", "Tile"])
def test_a_bomb_out_of_constants_is_flagged(
    judge: Judge, no_child: list[int], operator: str
) -> None:
    for lengths, found in (([1 << 20, 1 << 20], {"onnx.constant_bomb"}), ([3, 3], set())):
        shape = numpy_helper.from_array(np.array(lengths, np.int64), "s")
        inputs = ["s"] if operator == "ConstantOfShape" else ["x", "s"]
        node = helper.make_node(operator, inputs, ["z"])
        assert rules(judge(model(node, initializer=[shape]))) == found


def test_metadata_that_holds_a_program_is_flagged(judge: Judge, no_child: list[int]) -> None:
    found = model()
    found.metadata_props.add(key="note", value="__import__('os').system('id')")
    assert rules(judge(found)) == {"metadata.program"}


# Functions that unfold ------------------------------------------------------------------------


def test_functions_are_counted_as_they_unfold() -> None:
    found = with_functions(function("f", "g", "g"), function("g", "h", "h"), function("h"))
    found.graph.node.append(helper.make_node("f", ["x"], ["z"], domain="local"))
    # h unfolds to 1 node, g to 3 + 2*1, f to 3 + 2*5; the model has 8 nodes of its own.
    assert expanded_nodes(read_onnx(found.SerializeToString())) == 9 - 0 + 13
    doubling = [function(f"f{i}", f"f{i + 1}", f"f{i + 1}") for i in range(40)]
    bomb = with_functions(*doubling, function("f40"))
    bomb.graph.node.append(helper.make_node("f0", ["x"], ["z"], domain="local"))
    assert expanded_nodes(read_onnx(bomb.SerializeToString())) == MAX_EXPANDED_NODES + 1


def test_a_bomb_of_functions_is_flagged(judge: Judge, no_child: list[int]) -> None:
    doubling = [function(f"f{i}", f"f{i + 1}", f"f{i + 1}") for i in range(40)]
    bomb = with_functions(*doubling, function("f40"))
    bomb.graph.node.append(helper.make_node("f0", ["x"], ["z"], domain="local"))
    assert rules(judge(bomb)) == {"onnx.function_bomb"}


@pytest.mark.parametrize("length", [2, 3, 5000])
def test_circles_of_functions_are_found_at_any_length(length: int) -> None:
    circle = [function(f"f{i}", f"f{(i + 1) % length}") for i in range(length)]
    assert expanded_nodes(read_onnx(with_functions(*circle).SerializeToString())) is None
    chain = [function(f"f{i}", f"f{i + 1}") for i in range(length)]
    found = with_functions(*chain, function(f"f{length}"))
    assert expanded_nodes(read_onnx(found.SerializeToString())) is not None


# The child -----------------------------------------------------------------------------------


def check(data: bytes, tmp_path: Path, limits: CheckLimits | None = None) -> Checked:
    path = tmp_path / "checked"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return check_with_runtime(descriptor, len(data), Digest.of(data), limits)
    finally:
        os.close(descriptor)


def test_the_child_reports_what_the_runtime_sees(tmp_path: Path) -> None:
    assert check(model().SerializeToString(), tmp_path) == Checked("ok", "", ("x",), ("y",))
    assert check(b"\x08\x08nonsense", tmp_path).result == "refused"
    newer = model()
    newer.ir_version = 99
    assert check(newer.SerializeToString(), tmp_path).result == "unsupported"


def test_the_child_reads_what_was_scanned_or_nothing(tmp_path: Path) -> None:
    data = model().SerializeToString()
    (tmp_path / "swapped").write_bytes(data)
    with (tmp_path / "swapped").open("rb") as file:
        found = check_with_runtime(file.fileno(), len(data), Digest.of(b"what was scanned"))
    assert found.result == "changed"


def heavy(nodes: int = 400, size: int = 1500) -> bytes:
    """A chain of constant products: work for the optimiser before the first request."""
    weight = numpy_helper.from_array(np.zeros((size, size), np.float32), "w0")
    chain = [helper.make_node("MatMul", [f"w{i}", f"w{i}"], [f"w{i + 1}"]) for i in range(nodes)]
    last = [
        helper.make_node("ReduceSum", [f"w{nodes}"], ["s"], keepdims=0),
        helper.make_node("Add", ["x", "s"], ["y2"]),
    ]
    found = model(*chain, *last, initializer=[weight])
    found.graph.output.append(value("y2"))
    return found.SerializeToString()


def test_a_bomb_for_the_processor_hits_the_limit(tmp_path: Path) -> None:
    found = check(heavy(), tmp_path, CheckLimits(cpu_seconds=1))
    assert found.result == "limit"
    assert found.detail.endswith(("SIGXCPU.", "SIGXCPU", "SIGKILL"))


def test_a_bomb_for_the_clock_hits_the_limit(tmp_path: Path) -> None:
    assert check(heavy(), tmp_path, CheckLimits(seconds=0.5)) == Checked(
        "limit", "it took too long"
    )


def test_a_bomb_for_the_memory_hits_the_limit(tmp_path: Path) -> None:
    """Each constant unfolds to just less than the runtime's own limit for one; all are kept."""
    shape = numpy_helper.from_array(np.array([1 << 24], np.int64), "shape")
    nodes = []
    for i in range(20):
        filled = numpy_helper.from_array(np.array([i], np.float32))
        nodes.append(helper.make_node("ConstantOfShape", ["shape"], [f"c{i}"], value=filled))
        nodes.append(helper.make_node("ReduceSum", [f"c{i}"], [f"s{i}"], keepdims=0))
        nodes.append(helper.make_node("Add", ["x", f"s{i}"], [f"y{i}"]))
    found = model(*nodes, initializer=[shape], output=[value(f"y{i}") for i in range(20)])
    limits = CheckLimits(memory=1 << 30)
    assert check(found.SerializeToString(), tmp_path, limits).result in ("limit", "crash")


def test_a_crash_of_the_child_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = {
        "segfault": f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})",
        "killed": f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})",
        "silent": "pass",
        "noise": "print('{not json')",
        "liar": 'print(\'{"result": "clean"}\')',
        "list": "print('[]')",
        "flood": "import sys\nwhile True: sys.stdout.write('x' * 65536)",
        "lingers": "import os, time; os.close(1); time.sleep(60)",
    }
    expected = {"killed": "limit", "flood": "limit", "lingers": "limit"}
    for name, script in scripts.items():
        (tmp_path / name).write_text(script)
        monkeypatch.setattr(checker, "_CHILD", tmp_path / name)
        assert check(b"", tmp_path, CheckLimits(seconds=2)).result == expected.get(name, "crash")


def test_the_child_leaves_nobody_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "forks"
    script.write_text(
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(checker, "_CHILD", script)
    assert check(b"", tmp_path, CheckLimits(seconds=3)).result == "limit"
    pid = int((tmp_path / "pid").read_text())
    # Killed is not yet gone: on a busy machine the kernel takes its time.
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        time.sleep(0.02)
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return
        if state == "Z":
            return
    pytest.fail("a process of the checker still runs")


def test_the_limits_hold_in_the_child(tmp_path: Path) -> None:
    """Under its limits the child can write no file, start no program and take no more memory."""
    probe = (
        "import sys; sys.path.insert(0, sys.argv[1])\nimport child, json, os, resource\n"
        "child.limit(1 << 30, 5)\nout = []\n"
        "try:\n    with open(sys.argv[2], 'wb', buffering=0) as f: f.write(b'x')\n"
        "except OSError: out.append('file')\n"
        "try:\n    bytearray(2 << 30)\nexcept MemoryError: out.append('memory')\n"
        "try:\n    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "    out.append('raised' if os.geteuid() else 'root')\n"
        "except ValueError: out.append('hard')\n"
        "print(json.dumps(out))"
    )
    folder = str(Path(child.__file__).parent)
    result = subprocess.run(
        [sys.executable, "-c", probe, folder, str(tmp_path / "never-written")],
        capture_output=True,
        check=True,
        text=True,
    )
    assert "file" in result.stdout
    assert "memory" in result.stdout
    assert "raised" not in result.stdout


def test_the_child_gains_no_rights() -> None:
    probe = (
        "import sys; sys.path.insert(0, sys.argv[1])\nimport child\nchild.limit(1 << 30, 5)\n"
        "print(open('/proc/self/status').read())"
    )
    command = [sys.executable, "-c", probe, str(Path(child.__file__).parent)]
    status = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert "NoNewPrivs:\t1" in status


def test_runtime_words_are_understood() -> None:
    assert child.classify("std::bad_alloc") == "limit"
    assert child.classify("Unsupported model IR version: 99") == "unsupported"
    assert child.classify("anything else") == "refused"
    assert child.describe(ValueError()) == "ValueError"
    told = child.describe(
        RuntimeError("FAIL : graph.cc:1407\n" + "Graph(...) " * 90 + "no such type")
    )
    assert told.startswith("FAIL")
    assert told.endswith("no such type")
    assert len(told) <= 300


# Damage --------------------------------------------------------------------------------------


def test_damaged_models_are_never_clean_unless_the_runtime_takes_them(
    tmp_path: Path, no_child: list[int]
) -> None:
    """Flips and cuts: the scanner ends in a verdict, and never in an exception."""
    data = model(initializer=[numpy_helper.from_array(np.ones(3, np.float32), "w")])
    whole = data.SerializeToString()
    chosen = random.Random(3)
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(chosen.randint(1, 4)):
            changed[chosen.randrange(len(changed))] = chosen.randrange(256)
        path = tmp_path / "damaged"
        path.write_bytes(changed[: chosen.randint(1, len(changed))])
        before = len(no_child)
        report = scan_file(path)
        assert report.outcome is not Outcome.CLEAN or len(no_child) > before
        assert not any("scanner failed" in item.message for item in report.findings)
