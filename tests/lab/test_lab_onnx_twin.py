"""The gradient of ONNX files: what the runtime serves, computed once more, or none at all."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from keepstone.contract.onnx_graph import read_computed
from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.lab.norms import LINF
from keepstone.lab.samples import Samples
from keepstone.lab.suites.catalogue import suite_called
from keepstone.lab.suites.question import Question
from keepstone.lab.suites.result import SuiteResult
from keepstone.lab.suites.run import run_suite
from keepstone.lab.targets import onnx_ops, onnx_twin
from keepstone.lab.targets.onnx_ops import OPERATORS
from keepstone.lab.targets.port import Capability, GradientTarget
from keepstone.workspace.lab.attacking import Opened, Wanted, open_model

Need = Callable[[str], ModuleType]
DRAW = np.random.default_rng(4)
WIDTH = 16
ROWS = DRAW.uniform(-2, 2, (160, WIDTH)).astype(np.float32)


@pytest.fixture(autouse=True)
def torch(need_module: Need) -> Any:
    return need_module("torch")


def weights(*shape: int) -> Any:
    return DRAW.normal(size=shape).astype(np.float32)


def save(
    path: Path,
    nodes: Sequence[Any],
    arrays: dict[str, Any],
    *,
    outputs: Sequence[tuple[str, int]] = (("y", 3),),
    opset: int = 20,
) -> Path:
    """From `x` (n, 16) on; the outputs are rows of so many numbers, or labels where it is 0."""
    shown = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])
        if width
        else helper.make_tensor_value_info(name, TensorProto.INT64, [None])
        for name, width in outputs
    ]
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])],
        shown,
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def node(operator: str, *names: str, domain: str = "", **attributes: Any) -> Any:
    """Its last name is its output."""
    return helper.make_node(operator, names[:-1], names[-1:], domain=domain, **attributes)


def opened(path: Path, y: Any, check: Callable[[Opened], Any]) -> Any:
    samples = Samples(ROWS, np.asarray(y), Digest.of(b"rows"), ())
    with open_model(path, samples, Wanted(low=-2.0, high=2.0, gradient=True)) as found:
        return check(found)


def labels(classes: int = 3) -> Any:
    return np.arange(len(ROWS)) % classes


def why(path: Path, classes: int = 3) -> str:
    """Why there is no gradient; empty where there is."""

    def check(found: Opened) -> str:
        able = Capability.GRADIENT in found.target.capabilities
        told = str(getattr(found.target, "without_gradient", ""))
        assert able == (not told)
        return told

    return str(opened(path, labels(classes), check))


LAST = (node("MatMul", "h", "w", "y"),)
# Between x and a last product: the nodes, the constants, and how wide it makes a row.
PARTS: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    **{
        name: ([node(name, "x", "h")], {}, WIDTH)
        for name in (
            *("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Erf", "Neg", "Abs", "Exp"),
            *("Elu", "LeakyRelu", "HardSigmoid", "HardSwish", "Mish", "Gelu", "Identity"),
            *("Dropout", "Softmax", "LogSoftmax", "Sin", "Cos"),
        )
    },
    "Elu of one": ([node("Elu", "x", "h", alpha=0.3)], {}, WIDTH),
    "Gelu by tanh": ([node("Gelu", "x", "h", approximate="tanh")], {}, WIDTH),
    "HardSigmoid of two": ([node("HardSigmoid", "x", "h", alpha=0.5, beta=0.1)], {}, WIDTH),
    "PRelu": ([node("PRelu", "x", "s", "h")], {"s": np.array([0.3], np.float32)}, WIDTH),
    "Add": ([node("Add", "x", "b", "h")], {"b": weights(WIDTH)}, WIDTH),
    "Sub": ([node("Sub", "b", "x", "h")], {"b": weights(WIDTH)}, WIDTH),
    "Mul": ([node("Mul", "x", "b", "h")], {"b": weights(WIDTH)}, WIDTH),
    "Div": ([node("Div", "x", "b", "h")], {"b": np.full(WIDTH, 3, np.float32)}, WIDTH),
    "Pow": ([node("Pow", "x", "b", "h")], {"b": np.array(2, np.float32)}, WIDTH),
    "Sqrt": (
        [node("Mul", "x", "x", "q"), node("Add", "q", "b", "p"), node("Sqrt", "p", "h")],
        {"b": np.array(1, np.float32)},
        WIDTH,
    ),
    "Log": (
        [node("Exp", "x", "q"), node("Add", "q", "b", "p"), node("Log", "p", "h")],
        {"b": np.array(1, np.float32)},
        WIDTH,
    ),
    "Reciprocal": (
        [node("Exp", "x", "q"), node("Reciprocal", "q", "h")],
        {},
        WIDTH,
    ),
    "Clip": (
        [node("Clip", "x", "low", "high", "h")],
        {"low": np.array(-1, np.float32), "high": np.array(1.5, np.float32)},
        WIDTH,
    ),
    "Clip above": ([node("Clip", "x", "", "high", "h")], {"high": np.array(1, np.float32)}, WIDTH),
    "Gemm": ([node("Gemm", "x", "a", "b", "h")], {"a": weights(WIDTH, 5), "b": weights(5)}, 5),
    "Gemm turned": (
        [node("Gemm", "x", "a", "b", "h", transB=1, alpha=0.5, beta=2.0)],
        {"a": weights(5, WIDTH), "b": weights(5)},
        5,
    ),
    "Cast": ([node("Cast", "x", "d", to=11), node("Cast", "d", "h", to=1)], {}, WIDTH),
    "Reshape": (
        [
            node("Reshape", "x", "to", "r"),
            node("Transpose", "r", "t", perm=[0, 2, 1]),
            node("Flatten", "t", "h"),
        ],
        {"to": np.array([0, 2, -1])},
        WIDTH,
    ),
    "Shape": (
        [
            node("Shape", "x", "all"),
            node("Gather", "all", "zero", "n"),
            node("Unsqueeze", "n", "axes", "first"),
            node("Concat", "first", "rest", "to", axis=0),
            node("Reshape", "x", "to", "r"),
            node("Flatten", "r", "h"),
        ],
        {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([4, 4])},
        WIDTH,
    ),
    "Slice": (
        [node("Slice", "x", "from", "to", "axes", "steps", "h")],
        {
            "from": np.array([-9]),
            "to": np.array([1 << 40]),
            "axes": np.array([-1]),
            "steps": np.array([2]),
        },
        5,
    ),
    "Squeeze": (
        [node("Unsqueeze", "x", "at", "u"), node("Squeeze", "u", "at", "h")],
        {"at": np.array([1])},
        WIDTH,
    ),
    "Gather": ([node("Gather", "x", "which", "h", axis=1)], {"which": np.array([3, -1, 3])}, 3),
    "Concat": ([node("Tanh", "x", "t"), node("Concat", "x", "t", "h", axis=1)], {}, 2 * WIDTH),
    "ReduceMean": (
        [node("ReduceMean", "x", "at", "m"), node("Sub", "x", "m", "h")],
        {"at": np.array([1])},
        WIDTH,
    ),
    "ReduceSum": (
        [node("ReduceSum", "x", "at", "m"), node("Mul", "x", "m", "h")],
        {"at": np.array([-1])},
        WIDTH,
    ),
    "LayerNormalization": (
        [node("LayerNormalization", "x", "s", "b", "h", epsilon=0.01)],
        {"s": weights(WIDTH), "b": weights(WIDTH)},
        WIDTH,
    ),
    "Constant": (
        [
            node("Constant", "c", value=numpy_helper.from_array(weights(WIDTH))),
            node("Add", "x", "c", "h"),
        ],
        {},
        WIDTH,
    ),
    "Constant number": (
        [node("Constant", "c", value_float=1.5), node("Mul", "x", "c", "h")],
        {},
        WIDTH,
    ),
    "Scaler": (
        [node("Scaler", "x", "h", domain="ai.onnx.ml", offset=[0.5] * 16, scale=[2.0] * 16)],
        {},
        WIDTH,
    ),
    **{
        f"Normalizer {how}": (
            [node("Normalizer", "x", "h", domain="ai.onnx.ml", norm=how)],
            {},
            WIDTH,
        )
        for how in ("L1", "L2")
    },
}


def image(*nodes: Any, width: int, **arrays: Any) -> tuple[list[Any], dict[str, Any], int]:
    first = node("Reshape", "x", "to", "i")
    named = {"to": np.array([-1, 1, 4, 4]), **arrays}
    return [first, *nodes, node("Flatten", "o", "h")], named, width


PARTS |= {
    "Conv": image(node("Conv", "i", "k", "b", "o"), width=12, k=weights(3, 1, 3, 3), b=weights(3)),
    "Conv padded": image(
        node("Conv", "i", "k", "o", pads=[1, 0, 2, 1], strides=[2, 1]),
        width=27,
        k=weights(3, 1, 2, 3),
    ),
    "MaxPool": image(
        node("MaxPool", "i", "o", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 0, 0]), width=4
    ),
    "AveragePool": image(node("AveragePool", "i", "o", kernel_shape=[2, 2]), width=9),
    "GlobalAveragePool": image(
        node("Conv", "i", "k", "c"),
        node("GlobalAveragePool", "c", "o"),
        width=3,
        k=weights(3, 1, 2, 2),
    ),
    "BatchNormalization": image(
        node("Conv", "i", "k", "c"),
        node("BatchNormalization", "c", "s", "s", "m", "v", "o", epsilon=0.1),
        width=27,
        k=weights(3, 1, 2, 2),
        s=weights(3),
        m=weights(3),
        v=np.array([0.5, 1, 2], np.float32),
    ),
}
PARTS["Conv dilated"] = image(
    node("Conv", "i", "k", "o", dilations=[2, 1]), width=18, k=weights(3, 1, 2, 2)
)


@pytest.mark.parametrize("name", PARTS)
def test_an_operator_is_computed_as_the_runtime_does(tmp_path: Path, name: str) -> None:
    nodes, arrays, width = PARTS[name]
    path = save(tmp_path / "m.onnx", [*nodes, *LAST], arrays | {"w": weights(width, 3)})
    assert why(path) == ""
    assert opened(path, labels(), check_gradient)


def check_gradient(found: Opened) -> bool:
    """Along lines, the change that the gradient tells is the one that the runtime serves."""
    target = found.target
    assert isinstance(target, GradientTarget)
    rows = ROWS[:8].astype(np.float64)
    fitted = target.domain.fit(rows, rows)
    weigh = DRAW.normal(size=(8, target.classes))
    told = target.linearize(fitted)
    gradient = told.vjp(weigh)
    along = DRAW.normal(size=rows.shape) / 4
    step = 2e-3

    def served(at: float) -> Any:
        asked = target.domain.fit(fitted + at * along, fitted)
        return (np.asarray(target.predict(asked).scores, np.float64) * weigh).sum(axis=1)

    change = (served(step) - served(-step)) / (2 * step)
    expected = (gradient * along).sum(axis=1)
    close = np.abs(change - expected) <= 0.05 * (1 + np.abs(expected))
    # A row may lie next to a corner, where there are two gradients.
    return bool(close.mean() >= 0.7) and bool((told.labels == target.predict(fitted).labels).all())


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "log", "argmax beside"])
def test_chances_are_told_by_their_logarithms(tmp_path: Path, kind: str) -> None:
    """However sure: what 32 bits hold as certain still has a gradient, and the right one."""
    count = 1 if kind == "sigmoid" else 3
    last = {"sigmoid": "Sigmoid", "log": "LogSoftmax"}.get(kind, "Softmax")
    nodes = [node("MatMul", "x", "w", "h"), node(last, "h", "p"), node("Identity", "p", "y")]
    outputs: list[tuple[str, int]] = [("y", count)]
    if kind == "argmax beside":
        nodes.append(helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0))
        outputs.append(("label", 0))
    path = save(tmp_path / "m.onnx", nodes, {"w": 60 * weights(WIDTH, count)}, outputs=outputs)

    def check(found: Opened) -> None:
        rows = found.target.domain.fit(ROWS[:50], ROWS[:50])
        assert isinstance(found.target, GradientTarget)
        told = found.target.linearize(rows)
        sure = np.sort(told.scores, axis=1)
        assert (sure[:, -1] - sure[:, -2] > 40).any()
        weigh = np.zeros_like(told.scores)
        weigh[:, 0] = 1
        gradient = told.vjp(weigh)
        least = told.scores.argmax(axis=1) != 0
        assert (np.abs(gradient[least]).max(axis=1) > 1).all()

    assert why(path, max(2, count)) == ""
    opened(path, labels(max(2, count)), check)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_linear_classifier_is_read(tmp_path: Path, classes: int) -> None:
    half = weights(1, WIDTH)
    matrix = np.concatenate([-half, half]) if classes == 2 else weights(3, WIDTH)
    how = {"post_transform": "LOGISTIC" if classes == 2 else "SOFTMAX"}
    linear = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "q"],
        domain="ai.onnx.ml",
        coefficients=matrix.ravel().tolist(),
        intercepts=[0.0] * classes,
        classlabels_ints=list(range(classes)),
        multi_class=int(classes > 2),
        **how,
    )
    nodes = [linear, node("Normalizer", "q", "y", domain="ai.onnx.ml", norm="L1")]
    path = save(tmp_path / "m.onnx", nodes, {}, outputs=(("y", classes), ("label", 0)))
    assert why(path, classes) == ""
    assert opened(path, labels(classes), check_gradient)


def test_a_network_that_torch_exports_has_its_own_gradient(tmp_path: Path, torch: Any) -> None:
    nn = torch.nn
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)),
        *(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 2), nn.SiLU(), nn.Flatten()),
        *(nn.Dropout(), nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)),
    ).eval()
    path = tmp_path / "m.onnx"
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            torch.zeros(2, WIDTH),
            str(path),
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )

    def check(found: Opened) -> None:
        rows = ROWS[:20]
        given = torch.from_numpy(rows).requires_grad_()
        weigh = DRAW.normal(size=(20, 3)).astype(np.float32)
        (right,) = torch.autograd.grad(network(given), given, torch.from_numpy(weigh))
        assert isinstance(found.target, GradientTarget)
        assert np.allclose(found.target.linearize(rows).vjp(weigh), right.numpy(), atol=1e-4)

    assert why(path) == ""
    opened(path, labels(), check)


# Believed where it is right, and nowhere else


def test_a_twin_that_says_otherwise_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [node("Tanh", "x", "h"), *LAST]
    path = save(tmp_path / "m.onnx", nodes, {"w": weights(WIDTH, 3)})
    changed = dict(OPERATORS) | {"Tanh": lambda torch, node, args: torch.tanh(args[0]) * 1.01}
    assert why(path) == ""
    monkeypatch.setattr(onnx_twin, "OPERATORS", changed)
    assert "differs from what is served" in why(path)


def test_a_twin_that_is_wrong_on_the_samples_alone_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is drawn all over the domain seldom comes where the samples are."""
    path = save(tmp_path / "m.onnx", [node("Relu", "x", "h"), *LAST], {"w": weights(WIDTH, 3)})

    def wrong(torch: Any, node: Any, args: Any) -> Any:
        corner = (args[0] == 2.0).all(dim=1, keepdim=True)
        return torch.relu(args[0]) + corner

    monkeypatch.setattr(onnx_twin, "OPERATORS", dict(OPERATORS) | {"Relu": wrong})
    assert why(path) == ""
    assert "differs" in why_of(path, np.full_like(ROWS, 2.0))


def why_of(path: Path, rows: Any) -> str:
    samples = Samples(rows, labels(), Digest.of(b"rows"), ())
    with open_model(path, samples, Wanted(low=-2.0, high=2.0, gradient=True)) as found:
        return str(getattr(found.target, "without_gradient", ""))


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([node("Celu", "x", "h")], "the operator Celu is not computed here"),
        ([node("CumSum", "x", "one", "h")], "the operator CumSum"),
        (
            [
                node("Reshape", "x", "to", "i"),
                node("MaxPool", "i", "o", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
                node("Flatten", "o", "h"),
            ],
            "MaxPool of such a kind",
        ),
        (
            [
                node("Reshape", "x", "to", "i"),
                node("Conv", "i", "k", "o", auto_pad="SAME_UPPER"),
                node("Flatten", "o", "h"),
            ],
            "Conv that pads by itself",
        ),
    ],
)
def test_what_is_not_computed_is_said(tmp_path: Path, nodes: list[Any], told: str) -> None:
    arrays = {"one": np.array(1), "to": np.array([-1, 1, 4, 4]), "k": weights(1, 1, 3, 3)}
    width = {"MaxPool": 4}.get(nodes[min(1, len(nodes) - 1)].op_type, WIDTH)
    path = save(tmp_path / "m.onnx", [*nodes, *LAST], arrays | {"w": weights(width, 3)})
    assert told in why(path)


def test_what_would_fill_the_memory_is_not_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = [
        node("Reshape", "x", "to", "i"),
        node("Conv", "i", "k", "c", kernel_shape=[1, 1], pads=[500] * 4, strides=[501] * 2),
        node("Flatten", "c", "h"),
    ]
    arrays = {"to": np.array([-1, 1, 4, 4]), "k": weights(1, 1, 1, 1), "w": weights(9, 3)}
    assert "Conv with such pads" in why(save(tmp_path / "a.onnx", [*wide, *LAST], arrays))
    names = ["x", *(f"s{at}" for at in range(9)), "h"]
    long = [node("Sin", *pair) for pair in itertools.pairwise(names)]
    path = save(tmp_path / "b.onnx", [*long, *LAST], {"w": weights(WIDTH, 3)})
    assert why(path) == ""
    monkeypatch.setattr(onnx_twin, "_MAX_ROW", 5 * 4 * WIDTH)
    assert "so much out of one row" in why(path)


def test_what_nobody_asks_for_any_more_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    real = onnx_twin._run

    def run(torch: Any, node: Any, values: dict[str, Any]) -> dict[str, Any]:
        held.append(len(values))
        return real(torch, node, values)

    monkeypatch.setattr(onnx_twin, "_run", run)
    names = ["x", *(f"s{at}" for at in range(9)), "h"]
    nodes = [node("Sin", *pair) for pair in itertools.pairwise(names)]
    path = save(tmp_path / "m.onnx", [*nodes, *LAST], {"w": weights(WIDTH, 3)})
    assert why(path) == ""
    assert max(held) <= 2


@pytest.mark.parametrize("shape", [[1] * 65, [0, 2**40, 2**40]])
def test_a_shape_beyond_arrays_is_refused_by_its_code(tmp_path: Path, shape: list[int]) -> None:
    odd = helper.make_tensor("t", 1, shape, [0.0] if shape[0] else [])
    nodes = [node("MatMul", "x", "w", "y"), helper.make_node("Constant", [], ["u"], value=odd)]
    path = save(tmp_path / "m.onnx", nodes, {"w": weights(WIDTH, 3)})
    with pytest.raises(InputError) as refused:
        read_computed(memoryview(path.read_bytes()), "y")
    assert refused.value.code == "onnx.not_read"


def test_labels_alone_have_no_gradient(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x", "w", "h")]
    nodes.append(helper.make_node("ArgMax", ["h"], ["label"], axis=1, keepdims=0))
    path = save(tmp_path / "m.onnx", nodes, {"w": weights(WIDTH, 3)}, outputs=(("label", 0),))
    assert "labels alone" in why(path)


def test_without_torch_there_is_none_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "m.onnx", [node("Tanh", "x", "h"), *LAST], {"w": weights(WIDTH, 3)})
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "torch":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "keepstone[torch]" in why(path)
    # That is told, and no fault of the file.
    result = opened(path, labels(), attacked)
    assert "attack.from_outside" not in [one.code for one in result.problems]
    assert any("keepstone[torch]" in one for one in result.not_evaluated)


def test_a_suite_says_why_it_had_no_gradient(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [node("Celu", "x", "h"), *LAST], {"w": weights(WIDTH, 3)})

    result = opened(path, labels(), attacked)
    missed = result.not_evaluated
    assert any(one.startswith("white-box") and "Celu" in one for one in missed)
    # Who has the file might have done more than was done.
    assert "attack.from_outside" in [one.code for one in result.problems]
    assert not result.sufficient


def attacked(found: Opened) -> SuiteResult:
    y = found.target.predict(ROWS).labels
    asked = Question(LINF, (0.1,), len(ROWS), budget=5)
    return run_suite(found.target, ROWS, y, suite_called("quick"), asked)


def test_a_suite_uses_the_gradient_and_what_is_served_judges(tmp_path: Path) -> None:
    """A bound on the logits of a net that is flat to random search; the runtime has the word."""
    nodes = [node("Tanh", "x", "t"), node("MatMul", "t", "v", "h"), *LAST]
    arrays = {"v": weights(WIDTH, 12), "w": weights(12, 3)}
    path = save(tmp_path / "m.onnx", nodes, arrays)

    def check(found: Opened) -> None:
        y = found.target.predict(ROWS).labels
        asked = Question(LINF, (0.2,), len(ROWS), budget=200)
        result = run_suite(found.target, ROWS, y, suite_called("quick"), asked)
        (first,) = [one for one in result.attacks if one.name == "white-box"]
        assert first.broken > 0
        assert first.gradients > 0
        broken = result.worst.attack >= 0
        served = found.target.predict(result.worst.rows[broken]).labels
        assert (served != y[broken]).all()
        assert not [one for one in result.masking if one.seen and one.weight.value == "proves"]

    opened(path, labels(), check)


def test_every_operator_that_is_written_has_been_held_against_the_runtime() -> None:
    tried = {one.op_type for nodes, _, _ in PARTS.values() for one in nodes} | {"MatMul"}
    names = {name.rpartition(".")[2] for name in OPERATORS}
    # Of whole numbers, in shapes; and the one with a test of its own.
    assert names - tried <= {"Mod", "Sign", "Floor", "ReduceMax", "LinearClassifier"}
    assert onnx_ops.OPERATORS is OPERATORS
