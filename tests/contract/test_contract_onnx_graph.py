"""What an ONNX file computes, read by us: held against the `onnx` package, and against garbage."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from keepstone.contract.onnx_graph import Computed, read_computed
from keepstone.errors import InputError

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])


def model(nodes: list[Any], tensors: list[Any] = (), **given: Any) -> Any:  # type: ignore[assignment]
    graph = helper.make_graph(nodes, "g", [X], [Y], list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], **given)


def read(found: Any, output: str = "y") -> Computed:
    return read_computed(memoryview(found.SerializeToString()), output)


def code(found: Any) -> str:
    with pytest.raises(InputError) as refused:
        read(found)
    return refused.value.code


def plain() -> Any:
    weights = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Softmax", ["h"], ["y"], axis=1),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1),
    ]
    return model(nodes, [weights])


def test_only_what_an_output_hangs_on_is_read() -> None:
    found = read(plain())
    assert [node.operator for node in found.nodes] == ["MatMul", "Softmax"]
    assert (found.output, found.opset) == ("y", 17)
    assert found.nodes[0].inputs == ("x", "w")
    assert found.nodes[1].attributes == {"axis": 1}
    assert found.constants["w"].tolist() == np.arange(12).reshape(4, 3).tolist()
    assert [node.operator for node in read(plain(), "label").nodes][-1] == "ArgMax"
    assert read(plain(), "nothing").nodes == ()


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.int64, np.float16, np.bool_])
def test_tensors_of_every_kind_are_read_alike(kind: type, raw: bool) -> None:
    values = np.array([[0, 1], [1, 0], [1, 1]]).astype(kind) * kind(1)
    if np.issubdtype(kind, np.floating):
        values = values * kind(-1.5)
    elif kind is not np.bool_:
        values = values * kind(-7)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    flat = values.tobytes() if raw else values.ravel().tolist()
    tensor = helper.make_tensor("w", element, values.shape, flat, raw=raw)
    found = read(model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])).constants["w"]
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


def test_attributes_of_every_kind_are_read_alike() -> None:
    value = numpy_helper.from_array(np.array([2.5], np.float32))
    given = {"alpha": 0.25, "axis": -1, "zero": 0, "mode": "linear", "value": value}
    given |= {"many": [1.5, -2.0], "axes": [3, -4], "words": ["a", "b"]}
    node = helper.make_node("Custom", ["x"], ["y"], domain="com.example", **given)
    (found,) = read(model([node])).nodes
    assert found.operator == "com.example.Custom"
    told = dict(found.attributes)
    assert told.pop("value").tolist() == [2.5]
    assert told.pop("many").tolist() == [1.5, -2.0]
    assert told == {
        "alpha": 0.25,
        "axis": -1,
        "zero": 0,
        "mode": b"linear",
        "axes": [3, -4],
        "words": [b"a", b"b"],
    }


def test_what_is_not_read_is_said() -> None:
    add = helper.make_node("Add", ["x", "w"], ["y"])
    outside = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    entry = outside.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    assert code(model([add], [outside])) == "onnx.not_read"
    text = helper.make_tensor("w", TensorProto.STRING, [1], [b"a"])
    assert code(model([add], [text])) == "onnx.not_read"
    function = helper.make_function(
        "f", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], []
    )
    assert code(model([add], functions=[function])) == "onnx.not_read"
    sparse = plain()
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))
    assert code(sparse) == "onnx.not_read"
    assert code(onnx.ModelProto(ir_version=8)) == "onnx.not_read"


def test_a_tensor_of_another_size_than_it_says_is_refused() -> None:
    for shape in ([5], [-1], [2, 2], [1 << 40]):
        tensor = numpy_helper.from_array(np.zeros(3, np.float32), "w")
        del tensor.dims[:]
        tensor.dims.extend(shape)
        assert code(model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])) == (
            "onnx.malformed"
        )
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    tensor.raw_data = tensor.raw_data[:-1]
    found = model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])
    assert code(found) == "onnx.malformed"


@given(st.data())
def test_whatever_is_changed_there_is_a_model_or_a_refusal(data: st.DataObject) -> None:
    whole = bytearray(plain().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_computed(memoryview(bytes(whole)), "y")
    except InputError:
        return
    assert isinstance(found, Computed)
