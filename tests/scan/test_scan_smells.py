"""Smells stand apart: they are told, and no verdict ever hangs on one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from safetensors.numpy import save

from keepstone.core.finding import Outcome, Severity
from keepstone.scan import scanner
from keepstone.scan.onnx import structure
from keepstone.scan.onnx.checker import Checked
from keepstone.scan.report import FileReport, ScanReport, to_json, to_sarif, to_text
from keepstone.scan.rules import RULES, SMELLS, finding, smell, verdict
from keepstone.scan.scanner import scan_file

CHOSEN = np.random.default_rng(1)
WEIGHTS = (CHOSEN.normal(size=(10, 64)) * 0.1).astype(np.float32)
LOUD, DEAD, BIAS = WEIGHTS.copy(), WEIGHTS.copy(), np.zeros(10, np.float32)
LOUD[3] *= 30
DEAD[4] = 0
BIAS[2] = 50


def loud(dtype: str) -> np.ndarray:
    return LOUD.astype(dtype)


def judged(tmp_path: Path, data: bytes) -> FileReport:
    (tmp_path / "file").write_bytes(data)
    return scan_file(tmp_path / "file")


def smells(report: FileReport) -> set[str]:
    return {item.rule for item in report.smells}


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"classifier.weight": WEIGHTS, "classifier.bias": np.zeros(10, np.float32)}, set()),
        ({"classifier.weight": LOUD}, {"smell.class_weights"}),
        ({"model.head.weight": loud("f2")}, {"smell.class_weights"}),
        ({"lm_head.weight": loud("f8")}, {"smell.class_weights"}),
        ({"head/kernel": np.ascontiguousarray(LOUD.T)}, {"smell.class_weights"}),
        ({"fc.weight": DEAD}, {"smell.dead_class"}),
        ({"fc.bias": BIAS}, {"smell.class_bias"}),
        ({"fc.weight": WEIGHTS * np.inf}, {"smell.not_finite"}),
        ({"x": np.frombuffer(b"\x7fELF" + bytes(60), np.uint8)}, {"smell.hidden_file"}),
        ({"layers.0.weight": LOUD}, set()),
        ({"fc.weight": WEIGHTS[:, :0]}, set()),
    ],
)
def test_safetensors_smells_and_stay_clean(
    tmp_path: Path, tensors: dict[str, np.ndarray], expected: set[str]
) -> None:
    report = judged(tmp_path, save(tensors))
    assert smells(report) == expected
    assert (report.outcome, report.findings) == (Outcome.CLEAN, ())
    assert all(item.severity is Severity.INFO for item in report.smells)


def network(*nodes: onnx.NodeProto, **tensors: np.ndarray) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", 1, [None, 64])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def node(operator: str, *inputs: str, to: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [to], **attributes)


GEMM = node("Gemm", "x", "w", "b", to="l", transB=1)
MATMUL = node("MatMul", "x", "w", to="l")
LAST = node("Softmax", "l", to="y")
ZERO = np.zeros(10, np.float32)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (network(GEMM, LAST, w=WEIGHTS, b=ZERO), set()),
        (network(GEMM, LAST, w=LOUD, b=BIAS), {"smell.class_weights", "smell.class_bias"}),
        (network(MATMUL, LAST, w=np.ascontiguousarray(LOUD.T)), {"smell.class_weights"}),
        (network(GEMM, LAST, w=WEIGHTS, b=ZERO, unused=ZERO), {"smell.unreachable"}),
        (
            network(
                MATMUL,
                node("ReduceSum", "x", to="s"),
                node("Greater", "s", "k", to="c"),
                node("Where", "c", "t", "l", to="y"),
                w=np.ascontiguousarray(WEIGHTS.T),
                k=np.array(5, np.float32),
                t=np.zeros((1, 10), np.float32),
            ),
            {"smell.branch"},
        ),
    ],
)
def test_onnx_smells_and_stays_clean(
    tmp_path: Path, data: bytes, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        structure, "check_with_runtime", lambda *_: Checked("ok", "", ("x",), ("y",))
    )
    report = judged(tmp_path, data)
    assert smells(report) == expected
    assert (report.outcome, report.findings) == (Outcome.CLEAN, ())


def test_a_smell_never_changes_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict is the same with every smell at once as with none."""
    every = tuple(smell(rule, "It smells.", "file") for rule in SMELLS)
    files = {
        "clean": save({"fc.weight": LOUD}),
        "flagged": save({"fc.weight": LOUD}) + b"x",
        "open": b"just text",
    }
    for data in files.values():
        with monkeypatch.context() as patch:
            patch.setattr(scanner, "smells_of", lambda *_: ())
            without = judged(tmp_path, data)
            patch.setattr(scanner, "smells_of", lambda *_: every)
            given = judged(tmp_path, data)
        assert (without.outcome, without.findings) == (given.outcome, given.findings)
        assert ScanReport((given,)).outcome is without.outcome
        assert len(given.smells) == len(SMELLS)
    assert not RULES.keys() & SMELLS.keys()
    with pytest.raises(KeyError):
        finding("smell.branch", "A smell is no finding.", "x")
    assert verdict(()) is Outcome.CLEAN


def test_reports_show_smells_apart(tmp_path: Path) -> None:
    report = ScanReport((judged(tmp_path, save({"fc.weight": LOUD})),))
    (file,) = json.loads(json.dumps(to_json(report)))["files"]
    assert file["findings"] == []
    assert [item["rule"] for item in file["smells"]] == ["smell.class_weights"]
    assert report.findings == ()
    (run,) = to_sarif(report)["runs"]
    (result,) = run["results"]
    assert (result["kind"], result["level"]) == ("informational", "none")
    assert run["tool"]["driver"]["rules"][0]["id"] == "smell.class_weights"
    text = to_text(report)
    assert "(no verdict) smell.class_weights" in text
    assert text.endswith("1 clean, 0 flagged, 0 not evaluated")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=5))
def test_noses_never_fail(changes: list[tuple[int, int]]) -> None:
    from keepstone.scan.allowance import Allowance
    from keepstone.scan.smells.look import smells_of
    from keepstone.scan.view import View

    for kind, whole in (
        ("onnx", network(GEMM, LAST, w=LOUD, b=BIAS)),
        ("safetensors", save({"fc.weight": LOUD, "fc.bias": BIAS})),
    ):
        data = bytearray(whole)
        for at, value in changes:
            data[at % len(data)] = value
        smells_of(View("x", memoryview(data), Allowance(), scanner.judge), kind)
