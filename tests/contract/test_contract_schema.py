from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.contract.schema import (
    ANY,
    SCHEMA,
    DType,
    ModelContract,
    TensorSpec,
    parse_contract,
)
from keepstone.errors import InputError

NAMES = st.text("abcxyz019_.:/ \u00e9\u4e2d", min_size=1, max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def specs(draw: st.DrawFn) -> TensorSpec:
    width = draw(st.integers(1, 6))
    shape = (*draw(st.lists(st.sampled_from([ANY, 1, 3]), max_size=3)), width)
    datatype = draw(st.sampled_from(list(DType)))
    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None
    if datatype.is_number:
        bounds = st.none() | FINITE | st.tuples(*[FINITE] * width)
        low, high = draw(bounds), draw(bounds)
        if low is not None and high is not None:
            floor = max(low) if isinstance(low, tuple) else low
            high = (
                tuple(max(floor, h) for h in high) if isinstance(high, tuple) else max(floor, high)
            )
    features = draw(st.just([]) | st.lists(NAMES, min_size=width, max_size=width, unique=True))
    return TensorSpec(draw(NAMES), datatype, shape, low, high, tuple(features))


SIDE = st.lists(specs(), min_size=1, max_size=3, unique_by=lambda spec: spec.name).map(tuple)


@settings(deadline=None, max_examples=60)
@given(SIDE, SIDE, st.sampled_from(["declared", "derived"]))
def test_what_is_written_is_read_back_equal(inputs, outputs, source):
    contract = ModelContract(inputs, outputs, source)
    again = parse_contract(contract.to_json())
    assert again == contract
    assert again.to_json() == contract.to_json()
    assert again.digest == contract.digest


TEXT = st.text('abx0\u20ac"', max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)
MEMBERS = st.fixed_dictionaries(
    {"schema": st.just(SCHEMA)},
    optional={"inputs": JSON, "outputs": JSON, "source": JSON, "other": JSON},
)
TENSORS = st.fixed_dictionaries(
    {"name": JSON | NAMES, "datatype": JSON | st.just("FP32"), "shape": JSON | st.just([-1, 2])},
    optional={"low": JSON, "high": JSON, "features": JSON},
)


@settings(deadline=None)
@given(st.binary(max_size=64) | MEMBERS.map(lambda v: json.dumps(v).encode()))
def test_any_document_is_read_or_refused(data):
    with contextlib.suppress(InputError):
        parse_contract(data)


@settings(deadline=None)
@given(TENSORS)
def test_any_tensor_is_read_or_refused(tensor):
    document = {"schema": SCHEMA, "inputs": [tensor], "outputs": [tensor]}
    try:
        contract = parse_contract(json.dumps(document))
    except InputError:
        return
    assert parse_contract(contract.to_json()) == contract


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"name": "a" * 257},
        {"datatype": "FLOAT"},
        {"datatype": None},
        {"shape": [0]},
        {"shape": [-2]},
        {"shape": [True]},
        {"shape": [1.0]},
        {"shape": [1] * 9},
        {"shape": "64"},
        {"low": "nan"},
        {"low": "0x10"},
        {"low": "1_0"},
        {"low": True},
        {"low": 10**400},
        {"low": [0, 0]},
        {"low": []},
        {"low": 2, "high": 1},
        {"low": [0, 0, 5], "high": 4},
        {"datatype": "BOOL", "low": 0},
        {"features": ["a"]},
        {"features": ["a", "a", "b"]},
        {"features": [1, 2, 3]},
        {"unknown": 1},
    ],
)
def test_a_wrong_tensor_is_refused(change):
    good = {"name": "x", "datatype": "FP32", "shape": [-1, 3], "low": 0, "high": "16"}
    document = {"schema": SCHEMA, "inputs": [good], "outputs": [good]}
    parse_contract(json.dumps(document))
    document["inputs"] = [good | change]
    with pytest.raises(InputError) as caught:
        parse_contract(json.dumps(document))
    assert caught.value.code == "contract.malformed"


def test_a_newer_format_is_refused_by_name():
    with pytest.raises(InputError) as caught:
        parse_contract('{"schema":"keepstone.contract/v2"}')
    assert caught.value.code == "contract.newer_version"


@pytest.mark.parametrize("schema", ["null", '"other"', "1"])
def test_another_document_is_refused(schema):
    with pytest.raises(InputError) as caught:
        parse_contract(f'{{"schema":{schema}}}')
    assert caught.value.code == "contract.malformed"


def test_sides_must_hold_tensors_once_each():
    spec = TensorSpec("x", DType.FP32, (1,))
    for inputs, outputs in (((), (spec,)), ((spec,), ()), ((spec, spec), (spec,))):
        with pytest.raises(InputError):
            ModelContract(inputs, outputs)
    with pytest.raises(InputError):
        ModelContract((spec,), (spec,), "guessed")  # type: ignore[arg-type]


def test_ranges_count_numeric_inputs_only():
    number = TensorSpec("x", DType.FP32, (-1, 2), 0.0, (1.0, 2.0))
    text = TensorSpec("t", DType.BYTES, (-1,))
    assert ModelContract((number, text), (text,)).ranges_declared
    assert not ModelContract((TensorSpec("x", DType.FP32, (2,), low=0.0),), (text,)).ranges_declared


def test_equal_bounds_have_equal_bytes():
    specs = [TensorSpec("x", DType.FP32, (1,), bound) for bound in (0.0, -0.0, 0)]
    assert len({ModelContract((s,), (s,)).to_json() for s in specs}) == 1


def test_sizes_of_elements():
    assert [t.size for t in DType] == [1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, None]


@pytest.mark.parametrize("bound", [float("inf"), float("nan"), (0.0, float("-inf"))])
def test_bounds_are_finite(bound):
    with pytest.raises(InputError):
        TensorSpec("x", DType.FP32, (2,), low=bound)
