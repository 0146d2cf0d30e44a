"""The ONNX structure reader: what it sees, and that nothing hides from it."""

from __future__ import annotations

import json
import tracemalloc

import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from keepstone.contract.onnx import (
    CONTRACT_KEY,
    OnnxLimits,
    OnnxModel,
    derive_contract,
    read_onnx,
    resembles_onnx,
)
from keepstone.contract.schema import DType, ModelContract, TensorSpec
from keepstone.errors import InputError

FLOAT = TensorProto.FLOAT


def value(name: str = "x", shape: object = (None, 4), element: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)  # type: ignore[arg-type]


def model(*nodes: onnx.NodeProto, **graph_parts: object) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Relu", ["x"], ["y"])], "g", [value("x")], [value("y")]
    )
    for part, items in graph_parts.items():
        getattr(graph, part).extend(items)
    return helper.make_model(graph, producer_name="test")


def outside(name: str = "w") -> TensorProto:
    """A tensor whose data lies in another file."""
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[4], data_location=1)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def sparse(values: bool = True) -> onnx.SparseTensorProto:
    found = onnx.SparseTensorProto(dims=[4])
    (found.values if values else found.indices).CopyFrom(outside())
    return found


def constant(**parts: object) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, **parts)
    return node


def subgraph(*nodes: onnx.NodeProto, **parts: object) -> onnx.GraphProto:
    graph = helper.make_graph(list(nodes), "sub", [], [])
    for part, items in parts.items():
        getattr(graph, part).extend(items)
    return graph


def in_function(node: onnx.NodeProto | None = None, default: bool = False) -> onnx.ModelProto:
    found = model()
    function = found.functions.add(name="f", domain="local")
    if node is not None:
        function.node.append(node)
    if default:
        function.attribute_proto.add(name="a", type=onnx.AttributeProto.TENSOR, t=outside())
    return found


def in_training(algorithm: bool) -> onnx.ModelProto:
    found = model()
    info = found.training_info.add()
    graph = info.algorithm if algorithm else info.initialization
    graph.CopyFrom(subgraph(constant(t=outside())))
    return found


def attempt(data: bytes) -> OnnxModel | str:
    """The model, or the code of the error that refused it."""
    try:
        return read_onnx(data)
    except InputError as error:
        return error.code


EVERY_PLACE = {
    "initializer": lambda: model(initializer=[outside()]),
    "sparse values": lambda: model(sparse_initializer=[sparse()]),
    "sparse indices": lambda: model(sparse_initializer=[sparse(values=False)]),
    "attribute t": lambda: model(constant(t=outside())),
    "attribute tensors": lambda: model(constant(tensors=[outside()])),
    "attribute sparse_tensor": lambda: model(constant(sparse_tensor=sparse())),
    "attribute sparse_tensors": lambda: model(constant(sparse_tensors=[sparse(False)])),
    "subgraph initializer": lambda: model(constant(g=subgraph(initializer=[outside()]))),
    "subgraph node": lambda: model(constant(graphs=[subgraph(constant(t=outside()))])),
    "subgraph sparse": lambda: model(constant(g=subgraph(sparse_initializer=[sparse()]))),
    "subgraph in subgraph": lambda: model(
        constant(g=subgraph(constant(g=subgraph(initializer=[outside()]))))
    ),
    "function node": lambda: in_function(constant(t=outside())),
    "function default": lambda: in_function(default=True),
    "function subgraph": lambda: in_function(constant(g=subgraph(initializer=[outside()]))),
    "training initialization": lambda: in_training(algorithm=False),
    "training algorithm": lambda: in_training(algorithm=True),
}


@pytest.mark.parametrize("place", EVERY_PLACE)
def test_external_data_is_seen_in_every_place(place: str) -> None:
    found = read_onnx(EVERY_PLACE[place]().SerializeToString())
    assert found.external_count == 1
    assert found.external_tensors[0].location == "../../etc/passwd"


def test_a_tensor_behind_long_lists_is_seen() -> None:
    # Runs of numbers and texts are skipped by a quick path, which must stop where they end.
    node = constant(
        floats=[1.5] * 50,
        ints=[1, 300, -1, 5] * 50,
        strings=[b"", b"short", b"l" * 300, b"again"] * 20,
        t=outside(),
    )
    assert read_onnx(model(node).SerializeToString()).external_count == 1
    tensor = outside()
    tensor.string_data.extend([b"a", b"b" * 200] * 9)
    assert read_onnx(model(initializer=[tensor]).SerializeToString()).external_count == 1


@pytest.mark.parametrize(
    "tensor",
    [
        TensorProto(name="w", data_location=1),
        TensorProto(name="w", external_data=[onnx.StringStringEntryProto(key="location")]),
    ],
    ids=["location only", "entries only"],
)
def test_half_of_external_data_counts(tensor: TensorProto) -> None:
    assert read_onnx(model(initializer=[tensor]).SerializeToString()).external_count == 1


def test_data_location_beyond_32_bits_counts() -> None:
    # Protobuf's C++ reader cuts an enum to 32 bits, so 2**32 + 1 is EXTERNAL to onnxruntime.
    tensor = TensorProto(name="w").SerializeToString() + b"\x70\x81\x80\x80\x80\x10"
    graph = bytes([0x2A, len(tensor)]) + tensor
    assert read_onnx(b"\x08\x0a" + bytes([0x3A, len(graph)]) + graph).external_count == 1


def every_tensor(message: object) -> int:
    """Count external tensors by protobuf reflection: it knows every place by construction."""
    count = 0
    if isinstance(message, TensorProto):
        count += bool(message.data_location) or bool(message.external_data)
    for descriptor, content in message.ListFields():  # type: ignore[attr-defined]
        if descriptor.message_type is not None:
            items = content if descriptor.is_repeated else [content]
            count += sum(every_tensor(item) for item in items)
    return count


_BASES = [build().SerializeToString() for build in EVERY_PLACE.values()]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(_BASES),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3),
    st.integers(0, 60),
)
def test_what_is_accepted_has_the_meaning_that_protobuf_gives_it(
    base: bytes, edits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(base[: len(base) - cut] if cut < 10 else base)
    for position, byte in edits:
        data[position % len(data)] = byte
    found = attempt(bytes(data))
    if isinstance(found, str):
        assert found.startswith("onnx.")
        return
    try:
        theirs = onnx.ModelProto.FromString(bytes(data))
    except DecodeError:
        return  # broken inside a message that holds no tensor: no runtime opens it
    if not found.unknown_fields:
        assert found.external_count == every_tensor(theirs)
        assert found.ir_version == theirs.ir_version
        assert len(found.functions) == len(theirs.functions)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_value_or_a_coded_error(data: bytes) -> None:
    resembles_onnx(data)
    found = attempt(b"\x08\x0a" + data)
    assert isinstance(found, OnnxModel) or found.startswith("onnx.")


@pytest.mark.parametrize("field", ["graph", "ir_version", "producer_name"])
def test_a_single_field_that_comes_twice_is_refused(field: str) -> None:
    # Protobuf merges two graphs into one: a scanner that looks at the last sees half.
    second = onnx.ModelProto()
    if field == "graph":
        second.graph.CopyFrom(subgraph(initializer=[outside()]))
    else:
        setattr(second, field, 3 if field == "ir_version" else "b")
    with pytest.raises(InputError) as caught:
        read_onnx(model().SerializeToString() + second.SerializeToString())
    assert caught.value.code == "onnx.ambiguous"


def test_a_flatbuffer_in_disguise_is_refused() -> None:
    # onnxruntime takes bytes with ORTM at 4 for its own format, whatever else they are.
    data = b"\x08\x0a\x12\x08ORTMabcd" + b"\x3a\x00"
    onnx.ModelProto.FromString(data)
    with pytest.raises(InputError) as caught:
        read_onnx(data)
    assert caught.value.code == "onnx.ambiguous"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "onnx.malformed"),
        (b"\x08\x0a", "onnx.malformed"),  # no graph
        (b"\x3a\x05\x0a", "onnx.malformed"),  # runs past the end
        (b"\x3b\x3c\x3a\x00", "onnx.malformed"),  # a group
        (b"\x00\x00\x3a\x00", "onnx.malformed"),  # field number 0
        (b"\x38\x01", "onnx.malformed"),  # graph as a number
        (b"\x08" + b"\xff" * 10 + b"\x01", "onnx.malformed"),  # more than 64 bits
        (b"\x3a\x80\x80\x80\x80\x80\x00", "onnx.malformed"),  # a length of six bytes
        (b"\x12\x01\xff\x3a\x00", "onnx.malformed"),  # not UTF-8
    ],
)
def test_broken_files_have_a_code(data: bytes, code: str) -> None:
    with pytest.raises(InputError) as caught:
        read_onnx(data)
    assert caught.value.code == code


def test_every_truncation_is_refused_or_holds_less() -> None:
    data = model(initializer=[outside()]).SerializeToString()
    whole = read_onnx(data)
    for length in range(len(data)):
        try:
            part = read_onnx(data[:length])
        except InputError:
            continue
        assert part != whole


def nested(levels: int) -> onnx.ModelProto:
    graph = subgraph()
    for _ in range(levels):
        graph = subgraph(constant(g=graph))
    found = onnx.ModelProto(ir_version=8)
    found.graph.CopyFrom(graph)
    return found


def test_nesting_is_bounded() -> None:
    assert read_onnx(nested(15).SerializeToString()).depth == 16
    with pytest.raises(InputError) as caught:
        read_onnx(nested(16).SerializeToString())
    assert caught.value.code == "onnx.too_deep"


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        (OnnxLimits(max_work=50), model()),
        (OnnxLimits(max_nodes=1), model(constant(), constant())),
        (OnnxLimits(max_tensors=1), model(initializer=[outside("a"), outside("b")])),
        (OnnxLimits(max_functions=0), in_function()),
        (OnnxLimits(max_operators=1), model(constant(), helper.make_node("Relu", [], []))),
        (OnnxLimits(max_values=1), model(input=[value("z")])),
        (OnnxLimits(max_rank=1), model()),
        (OnnxLimits(max_rank=0), model(sparse_initializer=[onnx.SparseTensorProto(dims=[4])])),
        (OnnxLimits(max_name=3), model()),
    ],
)
def test_each_limit_bites(limits: OnnxLimits, found: onnx.ModelProto) -> None:
    with pytest.raises(InputError) as caught:
        read_onnx(found.SerializeToString(), limits)
    assert caught.value.code == "onnx.too_large"


def test_metadata_is_bounded_and_unambiguous() -> None:
    found = model()
    found.metadata_props.add(key="a", value="1" * 100)
    with pytest.raises(InputError) as caught:
        read_onnx(found.SerializeToString(), OnnxLimits(max_metadata=50))
    assert caught.value.code == "onnx.too_large"
    found.metadata_props.add(key="a", value="2")
    with pytest.raises(InputError) as caught:
        read_onnx(found.SerializeToString())
    assert caught.value.code == "onnx.ambiguous"


def test_weights_are_never_copied() -> None:
    weights = TensorProto(name="w", data_type=FLOAT, dims=[1 << 22], raw_data=bytes(1 << 24))
    ints = TensorProto(name="i", data_type=7, dims=[1 << 20], int64_data=[300] * (1 << 20))
    data = model(initializer=[weights, ints]).SerializeToString()
    tracemalloc.start()
    try:
        found = read_onnx(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.tensor_bytes > 1 << 24
    assert peak < 1 << 20


def test_structure_is_reported() -> None:
    data = in_function(helper.make_node("Gemm", [], [], domain="ai.onnx"))
    data.graph.node.append(helper.make_node("f", ["x"], ["z"], domain="local"))
    found = read_onnx(data.SerializeToString())
    assert found.producer == "test"
    assert found.node_domains == {"", "local"}
    assert found.operators == {("", "Relu"): 1, ("", "Gemm"): 1, ("local", "f"): 1}
    assert found.main_calls == {("", "Relu"): 1, ("local", "f"): 1}
    assert (found.functions[0].domain, found.functions[0].name) == ("local", "f")
    assert found.functions[0].calls == {("", "Gemm"): 1}


def test_a_sparse_tensor_says_how_large_it_unfolds() -> None:
    data = model(sparse_initializer=[onnx.SparseTensorProto(dims=[1 << 20, 1 << 20])])
    assert read_onnx(data.SerializeToString()).sparse_elements == 1 << 40
    packed = b"\x1a\x03\x80\x10\x02"  # the same field, packed: 2048, 2
    graph = b"\x7a" + bytes([len(packed)]) + packed
    found = read_onnx(b"\x08\x0a\x3a" + bytes([len(graph)]) + graph)
    assert found.sparse_elements == 4096
    data = model(sparse_initializer=[onnx.SparseTensorProto(dims=[-1])])
    with pytest.raises(InputError):
        read_onnx(data.SerializeToString())


def test_fields_of_no_known_version_are_named() -> None:
    assert read_onnx(model().SerializeToString() + b"\xfa\x3e\x00").unknown_fields == (
        "ModelProto.1007",
    )


def test_resembles_onnx() -> None:
    data = model().SerializeToString()
    assert all(resembles_onnx(data[:length]) for length in range(10, len(data)))
    assert not resembles_onnx(b"\x80\x04\x95abc")
    assert not resembles_onnx(b"\x08\x0a\xff\xff\xff\xff")
    assert not resembles_onnx(b"\x08")


# What the model accepts ---------------------------------------------------------------------


def declared(**changes: object) -> ModelContract:
    spec = {"name": "x", "datatype": DType.FP32, "shape": (-1, 4), "low": 0.0, "high": 16.0}
    return ModelContract(
        (TensorSpec(**{**spec, **changes}),),  # type: ignore[arg-type]
        (TensorSpec("y", DType.FP32, (-1, 4)),),
    )


def with_contract(text: str) -> bytes:
    found = model()
    found.metadata_props.add(key=CONTRACT_KEY, value=text)
    return found.SerializeToString()


def test_a_contract_is_derived() -> None:
    contract = derive_contract(read_onnx(model().SerializeToString()))
    assert contract.source == "derived"
    assert contract.inputs == (TensorSpec("x", DType.FP32, (-1, 4)),)
    assert not contract.ranges_declared


def test_inputs_with_a_value_of_their_own_are_left_out() -> None:
    weights = TensorProto(name="w", data_type=FLOAT, dims=[1], raw_data=bytes(4))
    found = model(input=[value("w", (1,))], initializer=[weights])
    assert [i.name for i in read_onnx(found.SerializeToString()).inputs] == ["x"]


def test_outputs_that_no_protocol_carries_are_left_out() -> None:
    found = model()
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, None)
    found.graph.output.extend([sequence, value("open", None), value("zero", (0, 2))])
    contract = derive_contract(read_onnx(found.SerializeToString()))
    assert [(o.name, o.shape) for o in contract.outputs] == [
        ("y", (-1, 4)),
        ("open", (-1,)),
        ("zero", (-1, 2)),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        helper.make_tensor_sequence_value_info("s", FLOAT, None),
        value("c", (1,), TensorProto.COMPLEX64),
        value("r", None),
        onnx.ValueInfoProto(name="untyped"),
    ],
    ids=["sequence", "complex", "no rank", "untyped"],
)
def test_inputs_that_cannot_be_served_are_refused(bad: onnx.ValueInfoProto) -> None:
    found = model()
    found.graph.input.append(bad)
    with pytest.raises(InputError) as caught:
        derive_contract(read_onnx(found.SerializeToString()))
    assert caught.value.code == "contract.unsupported_type"


def test_a_declared_contract_that_fits_is_taken() -> None:
    contract = derive_contract(read_onnx(with_contract(declared().to_json().decode())))
    assert contract == declared()
    narrower = declared(shape=(1, 4)).to_json().decode()
    assert derive_contract(read_onnx(with_contract(narrower))).inputs[0].shape == (1, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"datatype": DType.FP64},
        {"shape": (-1, 5)},
        {"shape": (-1, -1)},
        {"shape": (4,)},
    ],
    ids=str,
)
def test_a_declared_contract_that_does_not_fit_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        derive_contract(read_onnx(with_contract(declared(**changes).to_json().decode())))
    assert caught.value.code == "contract.mismatch"


def test_a_declared_output_must_exist() -> None:
    text = json.loads(declared().to_json())
    text["outputs"][0]["name"] = "nowhere"
    with pytest.raises(InputError) as caught:
        derive_contract(read_onnx(with_contract(json.dumps(text))))
    assert caught.value.code == "contract.mismatch"
    with pytest.raises(InputError) as caught:
        derive_contract(read_onnx(with_contract("{}")))
    assert caught.value.code == "contract.malformed"


def test_an_output_without_rank_may_be_declared() -> None:
    found = onnx.ModelProto.FromString(with_contract(declared().to_json().decode()))
    found.graph.output[0].CopyFrom(value("y", None))
    assert derive_contract(read_onnx(found.SerializeToString())) == declared()
