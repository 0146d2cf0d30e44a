"""Small classifiers of random weights, for tests of what tells models apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keepstone.contract.schema import DType, ModelContract, TensorSpec

WIDTH, CLASSES = 6, 4


def save(
    path: Path,
    seed: int,
    *,
    scale: float = 1.0,
    declared: bool = True,
    offset: int = 0,
    scores: str = "scores",
    label: str = "label",
) -> Path:
    """An ONNX classifier of random weights: a model of its own for each seed. Its labels count
    from `offset` on.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(seed)
    arrays = {
        "w1": draw.normal(size=(WIDTH, 16)).astype(np.float32),
        "w2": (draw.normal(size=(16, CLASSES)) * scale).astype(np.float32),
        "offset": np.array(offset, np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "w2"], [scores]),
        helper.make_node("ArgMax", [scores], ["class_index"], axis=1, keepdims=0),
        helper.make_node("Add", ["class_index", "offset"], [label]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])],
        [
            helper.make_tensor_value_info(scores, TensorProto.FLOAT, [None, CLASSES]),
            helper.make_tensor_value_info(label, TensorProto.INT64, [None]),
        ],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    if declared:
        contract = ModelContract(
            (TensorSpec("x", DType.FP32, (-1, WIDTH), low=-3.0, high=3.0),),
            (
                TensorSpec(scores, DType.FP32, (-1, CLASSES)),
                TensorSpec(label, DType.INT64, (-1,)),
            ),
        )
        helper.set_model_props(model, {"keepstone.contract": contract.to_json().decode()})
    onnx.save(model, path)
    return path
