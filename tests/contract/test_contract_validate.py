from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keepstone.contract.schema import ANY, DType, TensorSpec
from keepstone.contract.validate import NUMPY, TensorCheck, validate_tensor
from keepstone.errors import InputError

F32 = np.float32


def code(spec: TensorSpec, array: np.ndarray) -> str | None:
    try:
        validate_tensor(spec, array)
    except InputError as error:
        return error.code
    return None


BOUND = st.none() | st.floats(-1e3, 1e3, width=32)
ELEMENTS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(hnp.arrays(F32, hnp.array_shapes(max_dims=3, max_side=4), elements=ELEMENTS), BOUND, BOUND)
def test_it_agrees_with_the_slow_and_plain_reading(array, low, high):
    if low is not None and high is not None and low > high:
        low, high = high, low
    spec = TensorSpec("x", DType.FP32, (ANY,) * array.ndim, low, high)
    if not np.isfinite(array).all():
        expected = "request.not_finite"
    elif (low is not None and (array < F32(low)).any()) or (
        high is not None and (array > F32(high)).any()
    ):
        expected = "request.out_of_range"
    else:
        expected = None
    assert code(spec, array) == expected


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=8), BOUND, BOUND)
def test_what_is_promised_to_hold_holds(values, low, high):
    if low is not None and high is not None and low > high:
        low, high = high, low
    check = TensorCheck(TensorSpec("x", DType.FP32, (ANY, len(values)), low, high))
    if check.holds([1, len(values)], values):
        check(np.array([values], F32))


@pytest.mark.parametrize(
    ("shape", "given_shape", "good"),
    [
        ((ANY, 3), (2, 3), True),
        ((ANY, 3), (2, 4), False),
        ((ANY, 3), (3,), False),
        ((ANY, 3), (0, 3), False),
        ((2, ANY), (2, 9), True),
        ((2, ANY), (3, 9), False),
        ((), (), True),
        ((), (1,), False),
        ((ANY,), (), False),
    ],
)
def test_shapes(shape, given_shape, good):
    spec = TensorSpec("x", DType.FP32, shape)
    assert code(spec, np.zeros(given_shape, F32)) == (None if good else "request.bad_shape")


@pytest.mark.parametrize("datatype", list(DType))
def test_the_type_is_exact(datatype):
    spec = TensorSpec("x", datatype, (1,))
    assert code(spec, np.zeros(1, NUMPY[datatype])) is None
    other = np.float64 if datatype is not DType.FP64 else np.float32
    assert code(spec, np.zeros(1, other)) == "request.bad_dtype"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("datatype", [DType.FP16, DType.FP32, DType.FP64])
@pytest.mark.parametrize(
    "bounds",
    [
        (None, None),
        (0.0, 16.0),
        (-1e308, 1e308),
        (None, 1e308),
        (-1e308, None),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ],
)
def test_nothing_infinite_or_undefined_passes(bad, place, datatype, bounds):
    spec = TensorSpec("x", datatype, (3,), *bounds)
    array = np.full(3, 0.5, NUMPY[datatype])
    assert code(spec, array) is None
    array[place] = bad
    assert code(spec, array) == "request.not_finite"


def test_bounds_per_feature():
    spec = TensorSpec("x", DType.FP32, (ANY, 2), (0.0, 10.0), (1.0, 11.0))
    assert code(spec, np.array([[0, 10], [1, 11]], F32)) is None
    for row in ([-0.1, 10], [0, 9.9], [1.1, 10], [0, 11.1]):
        assert code(spec, np.array([[0, 10], row], F32)) == "request.out_of_range"


def test_bounds_of_integers_are_exact():
    spec = TensorSpec("x", DType.INT64, (ANY,), 0.0, 2.0**53)
    assert code(spec, np.array([0, 2**53])) is None
    assert code(spec, np.array([2**53 + 1])) == "request.out_of_range"
    assert code(spec, np.array([-1])) == "request.out_of_range"
    ranged = TensorSpec("x", DType.UINT8, (2,), (1.0, 0.0), (3.0, 255.0))
    assert code(ranged, np.array([1, 255], np.uint8)) is None
    assert code(ranged, np.array([0, 255], np.uint8)) == "request.out_of_range"


def test_a_bound_is_rounded_like_the_tensor():
    spec = TensorSpec("x", DType.FP32, (1,), 0.1, 0.1)
    assert code(spec, np.array([0.1], F32)) is None


def test_a_low_beyond_the_type_lets_nothing_pass():
    spec = TensorSpec("x", DType.FP16, (1,), low=1e6)
    assert code(spec, np.array([65504], np.float16)) == "request.out_of_range"
