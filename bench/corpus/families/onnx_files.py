"""ONNX: weights in other files, operators from elsewhere, and graphs that never end.

Source: onnx/onnx.proto, docs/ExternalData.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.corpus.case import Case, fail, good, need, zipped
from bench.corpus.wire import field

_LOADER, _RUNTIME = "onnx.load", "onnxruntime"


def _model(
    nodes: Any = None, tensors: Any = (), opsets: Any = None, functions: Any = (), **more: Any
) -> Any:
    helper = need("onnx.helper")
    kind = need("onnx").TensorProto.FLOAT
    nodes = nodes or [helper.make_node("Relu", ["x"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, [1, 4])],
        [helper.make_tensor_value_info("y", kind, None)],
        list(tensors),
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(*item) for item in opsets or (("", 21),)],
        ir_version=10,
        producer_name="corpus",
        functions=list(functions),
        **more,
    )


def _external(location: str, **more: str) -> Any:
    onnx = need("onnx")
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=1)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def _added(tensor: Any) -> bytes:
    helper = need("onnx.helper")
    out: bytes = _model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor]).SerializeToString()
    return out


def _honest(seed: int) -> Iterator[Case]:
    helper, numpy = need("onnx.helper"), need("numpy")
    numpy_helper = need("onnx.numpy_helper")
    draw = numpy.random.default_rng(seed)

    def tensor(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(draw.normal(size=shape).astype("float32"), name)

    node = helper.make_node
    graphs = {
        "relu": ([node("Relu", ["x"], ["y"])], []),
        "gemm": ([node("Gemm", ["x", "w", "b"], ["y"])], [tensor("w", 4, 3), tensor("b", 3)]),
        "network": (
            [
                node("MatMul", ["x", "w"], ["h"]),
                node("Relu", ["h"], ["r"]),
                node("MatMul", ["r", "v"], ["s"]),
                node("Softmax", ["s"], ["y"]),
            ],
            [tensor("w", 4, 8), tensor("v", 8, 3)],
        ),
        "normalisation": ([node("LayerNormalization", ["x", "g"], ["y"])], [tensor("g", 4)]),
        "reduce": ([node("ReduceMean", ["x"], ["y"])], []),
    }
    for slug, (nodes, tensors) in graphs.items():
        yield good(f"{slug}.onnx", _model(nodes, tensors).SerializeToString(), _RUNTIME)
    trees = node(
        "LinearClassifier",
        ["x"],
        ["label", "y"],
        domain="ai.onnx.ml",
        coefficients=[1.0] * 8,
        intercepts=[0.0, 0.0],
        classlabels_ints=[0, 1],
    )
    model = _model([trees], opsets=(("", 21), ("ai.onnx.ml", 3)))
    yield good("linear_classifier.onnx", model.SerializeToString(), _RUNTIME)
    documented = _model(doc_string="A model for tests.")
    documented.metadata_props.add(key="author", value="corpus")
    yield good("metadata.onnx", documented.SerializeToString(), _RUNTIME)
    fused = _model(
        [node("Gelu", ["x"], ["y"], domain="com.microsoft")],
        opsets=(("", 21), ("com.microsoft", 1)),
    )
    yield good("microsoft_domain.onnx", fused.SerializeToString(), _RUNTIME)
    for slug, (dataset, estimator) in {
        "forest": (40, need("sklearn.ensemble").RandomForestClassifier(4, random_state=seed)),
        "logistic": (40, need("sklearn.linear_model").LogisticRegression()),
        "scaler": (40, need("sklearn.preprocessing").StandardScaler()),
    }.items():
        rows = draw.normal(size=(dataset, 4)).astype("float32")
        estimator.fit(rows, numpy.arange(dataset) % 2)
        converted = need("skl2onnx").to_onnx(estimator, rows[:1])
        yield good(f"converted_{slug}.onnx", converted.SerializeToString(), _RUNTIME)


def _folder(seed: int) -> Iterator[Case]:
    weights = need("numpy").arange(4, dtype="float32").tobytes()
    model = _added(_external("weights.bin", offset="0", length="16"))
    yield good("external_folder", {"model.onnx": model, "weights.bin": weights}, "none")


def _bad(seed: int) -> Iterator[Case]:
    helper = need("onnx.helper")
    outside = "Takes a tensor's bytes from outside of the file"
    for slug, location in {
        "parent": "../corpus-canary.txt",
        "deep_parent": "a/../../corpus-canary.txt",
        "absolute": "/etc/passwd",
        "proc": "/proc/self/environ",
        "sibling": "weights.bin",
        "backslash": "..\\..\\secret",
        "url": "http://127.0.0.1:9/weights",
        "empty": "",
        "itself": "fail_external_itself.onnx",
        "dot": "./../corpus-canary.txt",
        "null": "weights.bin\x00.txt",
    }.items():
        yield fail(
            f"external_{slug}.onnx", _added(_external(location)), f"{outside}: {slug}.", _LOADER
        )
    yield fail(
        "external_offset.onnx",
        _added(_external("/etc/passwd", offset="0", length="16")),
        f"{outside}.",
        _LOADER,
    )
    node = helper.make_node
    both = _external("/etc/passwd")
    both.raw_data = bytes(16)
    yield fail(
        "external_and_inline.onnx", _added(both), f"{outside}, and holds some as well.", "none"
    )
    constant = node("Constant", [], ["w"], value=_external("../corpus-canary.txt"))
    yield fail(
        "external_in_constant.onnx",
        _model([constant, node("Add", ["x", "w"], ["y"])]).SerializeToString(),
        f"{outside}, in an attribute.",
        _LOADER,
    )
    branch = helper.make_graph(
        [node("Constant", [], ["o"], value=_external("/etc/passwd"))],
        "branch",
        [],
        [need("onnx").ValueInfoProto(name="o")],
    )
    yield fail(
        "external_in_branch.onnx",
        _model(
            [node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)]
        ).SerializeToString(),
        f"{outside}, in a branch.",
        _LOADER,
    )
    training = _model()
    training.training_info.add().initialization.initializer.append(_external("/etc/passwd"))
    yield fail(
        "external_in_training.onnx",
        training.SerializeToString(),
        f"{outside}, in the training part.",
        "none",
    )
    sparse = _model()
    sparse.graph.sparse_initializer.add().values.CopyFrom(_external("/etc/passwd"))
    yield fail(
        "external_in_sparse.onnx",
        sparse.SerializeToString(),
        f"{outside}, in a sparse tensor.",
        "none",
    )
    function = helper.make_function(
        "local",
        "F",
        ["a"],
        ["b"],
        [node("Constant", [], ["b"], value=_external("/etc/passwd"))],
        [helper.make_opsetid("", 21)],
    )
    yield fail(
        "external_in_function.onnx",
        _model(functions=[function]).SerializeToString(),
        f"{outside}, in a function.",
        "none",
    )
    for slug, domain, operator in (
        ("custom_domain", "evil.domain", "Run"),
        ("py_operator", "ai.onnx.contrib", "PyOp"),
        ("extensions", "ai.onnx.contrib", "AzureAudioToText"),
        ("torch_aten", "org.pytorch.aten", "ATen"),
        ("context", "com.microsoft", "EPContext"),
        ("python_op", "com.microsoft", "PythonOp"),
        ("aten", "com.microsoft", "ATen"),
    ):
        model = _model(
            [node(operator, ["x"], ["y"], domain=domain)], opsets=(("", 21), (domain, 1))
        )
        yield fail(
            f"operator_{slug}.onnx",
            model.SerializeToString(),
            "Needs an operator that runs code of the host.",
            _RUNTIME,
        )


def _broken(seed: int) -> Iterator[Case]:
    helper = need("onnx.helper")
    node = helper.make_node
    loop = helper.make_function(
        "local",
        "F",
        ["a"],
        ["b"],
        [node("F", ["a"], ["b"], domain="local")],
        [helper.make_opsetid("local", 1)],
    )
    call = node("F", ["x"], ["y"], domain="local")
    yield fail(
        "function_recursive.onnx",
        _model([call], opsets=(("", 21), ("local", 1)), functions=[loop]).SerializeToString(),
        "A function calls itself.",
        "none",
    )
    bombs = []
    for level in range(12):
        inner = "Relu" if level == 0 else f"F{level - 1}"
        domain = "" if level == 0 else "local"
        names = ["a", *(f"t{i}" for i in range(9)), "b"]
        nodes = [node(inner, [names[i]], [names[i + 1]], domain=domain) for i in range(10)]
        bombs.append(
            helper.make_function(
                "local",
                f"F{level}",
                ["a"],
                ["b"],
                nodes,
                [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)],
            )
        )
    yield fail(
        "function_bomb.onnx",
        _model(
            [node("F11", ["x"], ["y"], domain="local")],
            opsets=(("", 21), ("local", 1)),
            functions=bombs,
        ).SerializeToString(),
        "Twelve functions unfold into a million million nodes.",
        "none",
    )
    shadow = helper.make_function(
        "", "Relu", ["a"], ["b"], [node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 21)]
    )
    yield fail(
        "function_shadow.onnx",
        _model(functions=[shadow]).SerializeToString(),
        "A function takes the name of a standard operator.",
        "none",
    )
    huge = need("onnx").TensorProto(name="w", data_type=1, dims=[1 << 40, 1 << 20])
    yield fail(
        "tensor_huge.onnx", _added(huge), "A tensor claims more than there is memory.", "none"
    )
    fill = node("ConstantOfShape", ["s"], ["t"])
    shape = need("onnx.numpy_helper").from_array(need("numpy").array([1 << 34], "int64"), "s")
    yield fail(
        "constant_fill_bomb.onnx",
        _model([fill, node("Relu", ["t"], ["y"])], [shape]).SerializeToString(),
        "A small graph fills sixty gigabytes when it is opened.",
        "none",
    )
    plain = _model().SerializeToString()
    yield fail(
        "graph_twice.onnx",
        plain + field(7, _model([node("Neg", ["x"], ["y"])]).graph.SerializeToString()),
        "Holds two graphs: readers merge them, or take the last.",
        "none",
    )
    yield fail(
        "zipped.zip",
        zipped([("model.onnx", _added(_external("/etc/passwd")))]),
        "Takes a tensor's bytes from outside, in an archive.",
        "none",
    )
    yield fail(
        "named.bin",
        _added(_external("/etc/passwd")),
        "Takes a tensor's bytes from outside; the name says nothing.",
        "none",
    )


PARTS = (_honest, _folder, _bad, _broken)
