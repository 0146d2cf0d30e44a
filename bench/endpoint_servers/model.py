"""The model every server of this bench serves: a digits classifier, 64 inputs, 10 outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SEED = 20261123


def write_model(path: Path) -> None:
    """Write the same ONNX file each time: 64 -> 32 -> 10, label and probabilities."""
    from onnx import TensorProto, checker, helper, numpy_helper

    random = np.random.default_rng(SEED)
    weights = {
        "w1": random.normal(0, 0.3, (64, 32)),
        "b1": random.normal(0, 0.1, 32),
        "w2": random.normal(0, 0.3, (32, 10)),
        "b2": random.normal(0, 0.1, 10),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"]),
            helper.make_node("Relu", ["h1"], ["h2"]),
            helper.make_node("Gemm", ["h2", "w2", "b2"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        ],
        "digits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10]),
        ],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def request_body(size: int = 604) -> bytes:
    """One inference request of exactly `size` bytes: a row of 64 numbers from 0 to 16."""
    random = np.random.default_rng(SEED)
    row = [f"{value:.1f}" for value in random.uniform(0, 16, 64)]
    head = '{"inputs":[{"name":"x","shape":[1,64],"datatype":"FP32","data":['
    tail = "]}]}"
    missing = size - len(head) - len(tail) - len(",".join(row))
    for i in range(missing):
        row[i % 64] += "123456789"[i // 64 % 9]
    return (head + ",".join(row) + tail).encode("ascii")
