from __future__ import annotations

import contextlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keepstone.contract import protocol
from keepstone.contract.protocol import InferCodec, InferRequest, OutputChoice
from keepstone.contract.schema import ANY, DType, ModelContract, TensorSpec
from keepstone.contract.validate import NUMPY
from keepstone.errors import InputError, OperationalError

X = TensorSpec("x", DType.FP32, (ANY, 3), 0.0, 16.0, ("a", "b", "c"))
LABEL = TensorSpec("label", DType.INT64, (ANY,))
SCORES = TensorSpec("scores", DType.FP32, (ANY, 2))
CODEC = InferCodec("digits", ModelContract((X,), (LABEL, SCORES)))
OUTPUTS = {"label": np.array([7]), "scores": np.array([[0.25, 0.75]], np.float32)}
GOOD = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2.5, 16]}


def body(*inputs, **members):
    return json.dumps({"inputs": list(inputs), **members}).encode()


def refused(call, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert caught.value.cause.isprintable()
    return caught.value.code


def one(datatype: DType, *, low=None, high=None, shape=(ANY,)) -> InferCodec:
    spec = TensorSpec("v", datatype, shape, low, high)
    return InferCodec("m", ModelContract((spec,), (spec,)))


# Reading JSON


@pytest.mark.parametrize("data", [[1, 2.5, 16], [[1, 2.5, 16]]])
def test_a_row_is_read_flat_or_nested(data):
    request = CODEC.decode_infer(body(GOOD | {"data": data}))
    assert request.inputs["x"].dtype == np.float32
    assert request.inputs["x"].tolist() == [[1, 2.5, 16]]
    assert request.id is None
    assert request.outputs is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "y"}, "unknown_input"),
        ({"datatype": "FP64"}, "bad_dtype"),
        ({"datatype": 5}, "malformed"),
        ({"data": ["1", "2", "3"]}, "bad_dtype"),
        ({"data": [True, False, True]}, "bad_dtype"),
        ({"data": [None, 1, 2]}, "bad_dtype"),
        ({"data": {}}, "bad_dtype"),
        ({"data": 1}, "bad_dtype"),
        ({"data": None}, "bad_dtype"),
        ({"data": [1, [2, 3]]}, "bad_dtype"),
        ({"data": [[1, 2], [3]]}, "bad_shape"),
        ({"data": [[1], [2], [3]]}, "bad_shape"),
        ({"data": []}, "bad_shape"),
        ({"data": [1, 2]}, "bad_shape"),
        ({"data": [1, 2, 3, 4]}, "bad_shape"),
        ({"shape": [1, 4]}, "bad_shape"),
        ({"shape": [3]}, "bad_shape"),
        ({"shape": [3, 1]}, "bad_shape"),
        ({"shape": [-1, -3]}, "bad_shape"),
        ({"shape": [0, 3], "data": []}, "bad_shape"),
        ({"shape": []}, "bad_shape"),
        ({"shape": [1] * 9}, "bad_shape"),
        ({"shape": [10**30, 3]}, "bad_shape"),
        ({"shape": [1.5, 3]}, "malformed"),
        ({"shape": ["1", 3]}, "malformed"),
        ({"data": [1, 2, 1e39]}, "not_finite"),
        ({"data": [1, 2, 16.1]}, "out_of_range"),
        ({"data": [1, 2, -0.1]}, "out_of_range"),
        ({"surprise": 1}, "malformed"),
        ({"parameters": {"shared_memory_region": "x"}}, "unsupported"),
        ({"parameters": {"binary_data_size": 12}}, "malformed"),
        ({"parameters": []}, "malformed"),
    ],
)
def test_a_wrong_input_is_refused(change, code):
    assert refused(CODEC.decode_infer, body(GOOD | change)) == f"request.{code}"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "not_json"),
        (b"nope", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"[]", "malformed"),
        (b"{}", "malformed"),
        (b'{"inputs":[]}', "missing_input"),
        (b'{"inputs":{}}', "malformed"),
        (b'{"inputs":[],"instances":[]}', "malformed"),
        (body(GOOD) + b"x", "not_json"),
        (body(GOOD, GOOD), "malformed"),
        (body(GOOD, id="x" * 129), "malformed"),
        (body(GOOD, id="a\nb"), "malformed"),
        (body(GOOD, outputs=[{"name": "nothing"}]), "unknown_output"),
        (body(GOOD, outputs=[{"name": "label"}] * 2), "malformed"),
        (
            body(GOOD, outputs=[{"name": "label", "parameters": {"classification": 3}}]),
            "unsupported",
        ),
        (body(GOOD, parameters={"binary_data_output": 1}), "malformed"),
        (body(*[GOOD | {"name": f"x{n}"} for n in range(65)]), "malformed"),
    ],
)
def test_a_wrong_request_is_refused(text, code):
    assert refused(CODEC.decode_infer, text) == f"request.{code}"


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
def test_json_has_no_nan_and_no_infinity(literal):
    text = body(GOOD).replace(b"2.5", literal)
    assert refused(CODEC.decode_infer, text) == "request.not_finite"
    assert refused(CODEC.decode_predict, b'{"inputs":[[1,2,%b]]}' % literal) == "request.not_finite"


@pytest.mark.parametrize("depth", [10, 1_000, 1_000_000])
@pytest.mark.parametrize("shell", [b"%b", b'{"inputs":%b}', b'{"inputs":[{"data":%b}]}'])
def test_deep_nesting_is_refused(depth, shell):
    nest = b"[" * depth + b"]" * depth
    for text in (shell % nest, shell % (b"[" * depth)):
        assert refused(CODEC.decode_infer, text).startswith("request.")
        assert refused(CODEC.decode_predict, text).startswith("request.")
    deep = json.dumps({"inputs": [GOOD]}).replace("[1, 2.5, 16]", "[" * depth + "]" * depth)
    assert refused(CODEC.decode_infer, deep.encode()) in ("request.bad_shape", "request.not_json")


@pytest.mark.parametrize(
    ("datatype", "good", "bad"),
    [
        (DType.BOOL, [True, False], [[1], ["true"], [None]]),
        (DType.UINT8, [0, 255], [[-1], [256], [1.0], [True], ["1"]]),
        (DType.INT8, [-128, 127], [[-129], [128], [0.5]]),
        (DType.INT64, [-(2**63), 2**63 - 1], [[2**63], [10**30], [1e3]]),
        (DType.UINT64, [2**64 - 1], [[-1], [2**64]]),
        (DType.FP16, [1.5, 65504], [["1"], [False]]),
        (DType.FP64, [1e300, -1], [["1"]]),
        (DType.BYTES, ["héllo", ""], [[1], [None]]),
    ],
)
def test_each_type_takes_its_own_and_nothing_else(datatype, good, bad):
    codec = one(datatype)

    def sent(values):
        return body({"name": "v", "shape": [len(values)], "datatype": datatype, "data": values})

    assert codec.decode_infer(sent(good)).inputs["v"].tolist() == good
    for values in bad:
        assert refused(codec.decode_infer, sent(values)) == "request.bad_dtype"


def test_what_overflows_a_half_is_not_finite():
    text = body({"name": "v", "shape": [1], "datatype": "FP16", "data": [1e6]})
    assert refused(one(DType.FP16).decode_infer, text) == "request.not_finite"


def test_a_scalar_and_many_rows():
    scalar = one(DType.FP32, shape=())
    text = body({"name": "v", "shape": [], "datatype": "FP32", "data": [4]})
    assert scalar.decode_infer(text).inputs["v"].shape == ()
    rows = [[1.0, 2.0, 3.0]] * 200
    many = CODEC.decode_infer(body(GOOD | {"shape": [200, 3], "data": rows}))
    flat = CODEC.decode_infer(body(GOOD | {"shape": [200, 3], "data": [1.0, 2.0, 3.0] * 200}))
    assert many.inputs["x"].tolist() == flat.inputs["x"].tolist() == rows
    too_high = [1.0, 2.0, 3.0] * 199 + [1.0, 2.0, 30.0]
    text = body(GOOD | {"shape": [200, 3], "data": too_high})
    assert refused(CODEC.decode_infer, text) == "request.out_of_range"


TEXT = st.text('xabc"{}[]é', max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 2**70) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=8,
)
INPUT = st.fixed_dictionaries(
    {
        "name": st.just("x") | JSON,
        "shape": st.just([1, 3]) | JSON,
        "datatype": st.just("FP32") | JSON,
    },
    optional={
        "data": JSON | st.lists(st.floats(0, 16), min_size=3, max_size=3),
        "parameters": JSON,
    },
)
REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(INPUT, max_size=2) | JSON},
    optional={"id": JSON, "outputs": JSON, "parameters": JSON, "other": JSON},
)


@given(REQUEST.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
def test_the_quick_way_and_the_general_way_decide_alike(text):
    def outcome(call):
        try:
            request = call(text)
        except InputError as error:
            return error.code
        return {name: array.tolist() for name, array in request.inputs.items()}, request.outputs

    general = outcome(lambda sent: CODEC._decode(sent, memoryview(b"")))
    assert outcome(CODEC.decode_infer) == general


@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
def test_any_predict_body_is_read_or_refused(text):
    for sent in (text, b'{"inputs":%b}' % text, b'{"instances":%b}' % text):
        with contextlib.suppress(InputError):
            CODEC.decode_predict(sent)


# Binary tensors


def binary(header, *tensors):
    encoded = json.dumps(header).encode()
    return encoded + b"".join(tensors), len(encoded)


def packed(array):
    return {
        "name": "x",
        "shape": list(array.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": array.nbytes},
    }


@pytest.mark.parametrize("spaces", range(9))
def test_a_binary_row_is_read_at_any_alignment(spaces):
    array = np.array([[1, 2, 3], [4, 5, 6]], "<f4")
    header = json.dumps({"inputs": [packed(array)]}).encode() + b" " * spaces
    request = CODEC.decode_infer(header + array.tobytes(), len(header))
    assert request.inputs["x"].tolist() == array.tolist()
    assert request.inputs["x"].flags.aligned


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_binary_nan_and_infinity_are_refused(value):
    array = np.array([[1, value, 3]], "<f4")
    text, length = binary({"inputs": [packed(array)]}, array.tobytes())
    assert refused(CODEC.decode_infer, text, length) == "request.not_finite"


def test_wrong_binary_requests_are_refused():
    array = np.array([[1, 2, 3]], "<f4")
    raw = array.tobytes()
    good = packed(array)

    def code(header, *tensors, length=None):
        text, measured = binary(header, *tensors)
        return refused(CODEC.decode_infer, text, measured if length is None else length)

    assert code({"inputs": [good]}, raw, b"x") == "request.malformed"
    assert code({"inputs": [good]}, raw[:-1]) == "request.malformed"
    assert code({"inputs": [good]}, raw, length=0) == "request.malformed"
    assert code({"inputs": [good]}, raw, length=10_000) == "request.malformed"
    assert code({"inputs": [good]}, raw, length=5) == "request.not_json"
    for size in (-1, 11, 13, 1.5, True, "12", 10**20):
        wrong = good | {"parameters": {"binary_data_size": size}}
        assert code({"inputs": [wrong]}, raw) in ("request.malformed", "request.bad_shape")
    assert code({"inputs": [good | {"data": [1, 2, 3]}]}, raw) == "request.malformed"
    assert code({"inputs": [good | {"shape": [2, 3]}]}, raw) == "request.bad_shape"
    assert code({"inputs": [good | {"shape": [10**9, 3]}]}, raw) == "request.bad_shape"


def test_binary_booleans_are_zero_or_one():
    codec = one(DType.BOOL)
    header = {
        "name": "v",
        "shape": [2],
        "datatype": "BOOL",
        "parameters": {"binary_data_size": 2},
    }
    text, length = binary({"inputs": [header]}, b"\x00\x01")
    assert codec.decode_infer(text, length).inputs["v"].tolist() == [False, True]
    text, length = binary({"inputs": [header]}, b"\x00\x02")
    assert refused(codec.decode_infer, text, length) == "request.bad_dtype"


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4))
def test_binary_strings_come_back(values):
    codec = one(DType.BYTES)
    sent = {"v": np.array(values, object)}
    request = InferRequest({}, None, (OutputChoice("v", True),))
    text, length = codec.encode_infer(request, sent)
    reply = json.loads(text[:length])["outputs"][0]
    assert (
        codec.decode_infer(*binary({"inputs": [reply]}, text[length:])).inputs["v"].tolist()
        == values
    )


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        (b"", 1),
        (b"\x01\x00\x00", 1),
        (b"\x02\x00\x00\x00a", 1),
        (b"\x01\x00\x00\x00ab", 1),
        (b"\x01\x00\x00\x00\xff", 1),
        (b"\xff\xff\xff\xff", 1),
        (b"\x00\x00\x00\x00\x01\x00\x00\x00", 2),
        (b"\x00\x00\x00\x00", 2**31),
    ],
)
def test_broken_binary_strings_are_refused(raw, count):
    header = {
        "name": "v",
        "shape": [count],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(raw)},
    }
    text, length = binary({"inputs": [header]}, raw)
    assert refused(one(DType.BYTES).decode_infer, text, length) == "request.bad_dtype"


@given(
    st.sampled_from([d for d in DType if d is not DType.BYTES]),
    hnp.array_shapes(max_dims=3, max_side=3),
    st.data(),
)
def test_what_is_written_in_binary_is_read_back(datatype, shape, data):
    elements = {"allow_nan": False, "allow_infinity": False} if datatype.is_float else {}
    array = data.draw(
        hnp.arrays(NUMPY[datatype], shape, elements=hnp.from_dtype(NUMPY[datatype], **elements))
    )
    codec = one(datatype, shape=(ANY,) * len(shape))
    text, length = codec.encode_infer(
        InferRequest({}, None, (OutputChoice("v", True),)), {"v": array}
    )
    sent = json.loads(text[:length])["outputs"][0]
    again = codec.decode_infer(*binary({"inputs": [sent]}, text[length:]))
    np.testing.assert_array_equal(again.inputs["v"], array)


@given(st.binary(max_size=60), st.integers(-2, 70))
def test_any_binary_body_is_read_or_refused(text, length):
    with contextlib.suppress(InputError):
        CODEC.decode_infer(text, length)


# Writing


def test_every_output_is_written_as_json():
    text, length = CODEC.encode_infer(InferRequest({}), OUTPUTS)
    assert length is None
    assert json.loads(text) == {
        "model_name": "digits",
        "model_version": "1",
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [1], "data": [7]},
            {"name": "scores", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]},
        ],
    }


def test_outputs_are_chosen_in_order_with_the_id():
    sent = body(
        GOOD,
        id='a"b',
        outputs=[
            {"name": "scores", "parameters": {"binary_data": True}},
            {"name": "label", "parameters": {"binary_data": False}},
        ],
    )
    text, length = CODEC.encode_infer(CODEC.decode_infer(sent), OUTPUTS)
    header = json.loads(text[:length])
    assert header["id"] == 'a"b'
    assert [output["name"] for output in header["outputs"]] == ["scores", "label"]
    assert header["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert struct.unpack("<2f", text[length:]) == (0.25, 0.75)


def test_binary_can_be_asked_for_as_a_whole():
    whole = CODEC.decode_infer(body(GOOD, parameters={"binary_data_output": True}))
    assert whole.outputs == (OutputChoice("label", True), OutputChoice("scores", True))
    named = body(GOOD, parameters={"binary_data_output": True}, outputs=[{"name": "label"}])
    assert CODEC.decode_infer(named).outputs == (OutputChoice("label", True),)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_not_finite_is_not_sent(value):
    outputs = OUTPUTS | {"scores": np.array([[0.5, value]], np.float32)}
    for write in (
        lambda: CODEC.encode_infer(InferRequest({}), outputs),
        lambda: CODEC.encode_predict(outputs),
    ):
        with pytest.raises(OperationalError) as caught:
            write()
        assert caught.value.code == "model.not_finite"


@pytest.mark.parametrize(
    "outputs",
    [
        OUTPUTS | {"scores": np.array([[0.5, 0.5]])},
        OUTPUTS | {"other": np.array([1])},
    ],
)
def test_an_answer_that_breaks_the_contract_is_not_sent(outputs):
    with pytest.raises(OperationalError) as caught:
        CODEC.encode_infer(InferRequest({}), outputs)
    assert caught.value.code == "model.bad_output"


def test_a_missing_output_is_not_sent():
    request = InferRequest({}, None, (OutputChoice("scores", False),))
    with pytest.raises(OperationalError):
        CODEC.encode_infer(request, {"label": OUTPUTS["label"]})


def test_strings_may_say_null():
    codec = one(DType.BYTES)
    text, _ = codec.encode_infer(InferRequest({}), {"v": np.array(["null"], object)})
    assert json.loads(text)["outputs"][0]["data"] == ["null"]


# The plain form


@pytest.mark.parametrize("member", ["inputs", "instances"])
@pytest.mark.parametrize(
    "value",
    [
        [[1, 2, 3], [4, 5, 6]],
        [{"a": 1, "b": 2, "c": 3}, {"c": 6, "b": 5, "a": 4}],
        {"x": [[1, 2, 3], [4, 5, 6]]},
    ],
)
def test_the_plain_form_has_three_ways(member, value):
    inputs = CODEC.decode_predict(json.dumps({member: value}).encode())
    assert inputs["x"].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ([], "bad_shape"),
        (5, "bad_shape"),
        (None, "bad_shape"),
        ("x", "bad_shape"),
        ([1, 2, 3], "bad_shape"),
        ([[1, 2]], "bad_shape"),
        ([[1, 2, "3"]], "bad_dtype"),
        ([[1, 2, 17]], "out_of_range"),
        ([{"a": 1, "b": 2}], "missing_input"),
        ([{"a": 1, "b": 2, "c": 3, "d": 4}], "unknown_input"),
        ([{"a": 1, "b": 2, "c": [3]}], "bad_dtype"),
        ([{"a": [1], "b": [2], "c": [3]}], "bad_shape"),
        ([{"a": 1, "b": 2, "c": None}], "bad_dtype"),
        ([{"a": 1}, 5], "malformed"),
        ({"y": [[1, 2, 3]]}, "unknown_input"),
        ({}, "missing_input"),
        ({"x": 5}, "bad_shape"),
    ],
)
def test_a_wrong_plain_value_is_refused(value, code):
    text = json.dumps({"inputs": value}).encode()
    assert refused(CODEC.decode_predict, text) == f"request.{code}"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"[[1,2,3]]", "malformed"),
        (b"{}", "malformed"),
        (b'{"data":[[1,2,3]]}', "malformed"),
        (b'{"inputs":[[1,2,3]],"instances":[[1,2,3]]}', "malformed"),
        (b"nope", "not_json"),
        (b'{"inputs":[[1,2,3]]', "not_json"),
    ],
)
def test_a_wrong_plain_body_is_refused(text, code):
    assert refused(CODEC.decode_predict, text) == f"request.{code}"


def test_rows_by_name_need_names_and_inputs_by_name_need_each():
    plain = one(DType.FP32, shape=(ANY, 2))
    assert refused(plain.decode_predict, b'{"inputs":[{"a":1,"b":2}]}') == "request.malformed"
    two = InferCodec("m", ModelContract((X, TensorSpec("y", DType.INT64, (ANY,))), (LABEL,)))
    assert refused(two.decode_predict, b'{"inputs":[[1,2,3]]}') == "request.missing_input"
    assert refused(two.decode_predict, b'{"inputs":{"x":[[1,2,3]]}}') == "request.missing_input"
    both = two.decode_predict(b'{"inputs":{"x":[[1,2,3]],"y":[4]}}')
    assert both["y"].tolist() == [4]
    sent = body(GOOD, {"name": "y", "shape": [1], "datatype": "INT64", "data": [4]})
    assert two.decode_infer(sent).inputs["y"].tolist() == [4]
    assert refused(two.decode_infer, body(GOOD)) == "request.missing_input"


def test_the_plain_answer_is_nested():
    assert json.loads(CODEC.encode_predict(OUTPUTS)) == {
        "model": "digits",
        "outputs": {"label": [7], "scores": [[0.25, 0.75]]},
    }


def test_few_and_many_are_decided_alike():
    wide = TensorSpec("x", DType.FP32, (ANY, 3), 0.0, 16.0)
    codec = InferCodec("m", ModelContract((wide,), (LABEL,)))
    rows = protocol.FEW // 3
    for count in (rows, rows + 1):
        for last, code in (
            (16.0, None),
            (16.5, "request.out_of_range"),
            (1e39, "request.not_finite"),
        ):
            data = [1.0] * (count * 3 - 1) + [last]
            text = body(GOOD | {"shape": [count, 3], "data": data})
            if code is None:
                assert codec.decode_infer(text).inputs["x"].shape == (count, 3)
            else:
                assert refused(codec.decode_infer, text) == code
