"""Domains, constraints and norms: what attacks may rely on."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keepstone.contract.schema import DType, TensorSpec
from keepstone.errors import InputError
from keepstone.lab.constraints import read_constraints
from keepstone.lab.domain import Constraints, Domain
from keepstone.lab.norms import L1, L2, LINF, NORMS, norm_called

ROWS = arrays(np.float64, (4, 6), elements=st.floats(-3, 3, width=32))
CONSTRAINTS = Constraints.of(
    6, immutable=[0], integer=[1, 4], grows=[1], shrinks=[5], one_hot=[[2, 3]]
)


@given(ROWS, ROWS)
def test_what_an_attacker_can_reach(rows: np.ndarray, drawn: np.ndarray) -> None:
    domain = Domain.of((6,), -2.0, 2.0, "float64", CONSTRAINTS)
    origin = np.clip(drawn, -2, 2)
    origin[:, [1, 4]] = np.rint(origin[:, [1, 4]])
    origin[:, 2], origin[:, 3] = 1, 0
    found = domain.fit(rows, origin)
    assert domain.holds(found).all()
    assert (found[:, 0] == origin[:, 0]).all()
    assert (found[:, [1, 4]] == np.rint(found[:, [1, 4]])).all()
    assert (found[:, 1] >= origin[:, 1]).all()
    assert (found[:, 5] <= origin[:, 5]).all()
    assert (np.sort(found[:, 2:4], axis=1) == [0, 1]).all()
    # What is reached is reached: fitting again changes nothing.
    assert (domain.fit(found, origin) == found).all()


def test_a_one_hot_group_with_a_member_that_stays_stays_whole() -> None:
    constraints = Constraints.of(3, immutable=[0], one_hot=[[0, 1, 2]])
    origin = np.array([[0.0, 1.0, 0.0]])
    assert constraints.fit(np.array([[0.0, 0.0, 9.0]]), origin).tolist() == origin.tolist()


@pytest.mark.parametrize(
    "given",
    [
        {"immutable": [6]},
        {"grows": [1], "shrinks": [1]},
        {"one_hot": [[1]]},
        {"one_hot": [[1, 2], [2, 3]]},
        {"cost": [1.0]},
        {"cost": [0, 1, 1, 1, 1, 1]},
    ],
)
def test_constraints_that_cannot_be(given: dict[str, list[int]]) -> None:
    with pytest.raises(InputError) as caught:
        Constraints.of(6, **given)  # type: ignore[arg-type]
    assert caught.value.code == "attack.bad_constraint"


@pytest.mark.parametrize(("low", "high"), [(1, 0), (0, 0), (0, np.inf), (np.nan, 1)])
def test_a_domain_without_room(low: float, high: float) -> None:
    with pytest.raises(InputError) as caught:
        Domain.of((2,), low, high)
    assert caught.value.code == "attack.bad_domain"


def test_ranges_of_single_features() -> None:
    domain = Domain.of((2, 3), np.array([0, -1, 0]), np.array([1, 1, 5]))
    assert domain.width == 6
    assert domain.high.tolist() == [1, 1, 5, 1, 1, 5]
    assert domain.as_inputs(np.zeros((4, 6))).shape == (4, 2, 3)


@pytest.mark.parametrize("name", NORMS)
@given(delta=ROWS, eps=st.floats(0, 5))
def test_a_projection_ends_within_epsilon_and_leaves_what_is_there(
    name: str, delta: np.ndarray, eps: float
) -> None:
    norm = norm_called(name)
    found = norm.project(delta, eps)
    assert (norm.distance(found) <= eps + 1e-9 * (1 + eps)).all()
    inside = norm.distance(delta) <= eps
    assert (found[inside] == delta[inside]).all()


@given(delta=ROWS, other=ROWS, eps=st.floats(0.1, 5))
def test_a_projection_is_the_nearest(delta: np.ndarray, other: np.ndarray, eps: float) -> None:
    """For a convex ball: no other point of it lies nearer, by the Euclidean distance."""
    for norm in (LINF, L2, L1):
        near = L2.distance(norm.project(delta, eps) - delta)
        assert (near <= L2.distance(norm.project(other, eps) - delta) + 1e-9).all()


@pytest.mark.parametrize("norm", [LINF, L2, L1])
@given(gradient=ROWS, other=ROWS)
def test_the_steepest_direction_grows_most(
    norm: object, gradient: np.ndarray, other: np.ndarray
) -> None:
    best = norm.steepest(gradient)  # type: ignore[attr-defined]
    assert (norm.distance(best) <= 1 + 1e-9).all()  # type: ignore[attr-defined]
    rival = norm.project(other, 1.0)  # type: ignore[attr-defined]
    assert ((gradient * best).sum(axis=1) >= (gradient * rival).sum(axis=1) - 1e-9).all()


@pytest.mark.parametrize("name", ["linf", "l2", "l1", "l0"])
def test_noise_lies_in_the_unit_ball(name: str) -> None:
    norm = norm_called(name)
    drawn = norm.noise(np.random.default_rng(1), 200, 6)
    assert (norm.distance(drawn) <= 1 + 1e-12).all()
    assert len(np.unique(drawn, axis=0)) == 200


def test_a_tiny_gradient_still_points_somewhere() -> None:
    tiny = np.array([[3e-200, 4e-200]])
    assert L2.steepest(tiny)[0] == pytest.approx([0.6, 0.8])
    assert L2.steepest(np.zeros((1, 2))).tolist() == [[0.0, 0.0]]


def test_an_unknown_norm() -> None:
    with pytest.raises(InputError) as caught:
        norm_called("l7")
    assert caught.value.code == "attack.bad_norm"


# A file of constraints

SAID = {
    "schema": "keepstone.constraints/v1",
    "immutable": ["age"],
    "integer": [1],
    "grows": ["visits"],
    "one_hot": [["red", "green"]],
    "cost": {"income": 2.5, "0": 3},
}
NAMES = ("age", "visits", "red", "green", "income")


def test_a_file_says_what_an_attacker_may_do() -> None:
    found = read_constraints(json.dumps(SAID).encode(), 5, NAMES)
    assert found.immutable.tolist() == [True, False, False, False, False]
    assert found.integer.tolist() == [False, True, False, False, False]
    assert found.direction.tolist() == [0, 1, 0, 0, 0]
    assert found.one_hot == ((2, 3),)
    assert found.cost is not None
    assert found.cost.tolist() == [3, 1, 1, 1, 2.5]
    with pytest.raises(InputError) as caught:
        Domain.of((4,), 0, 1, constraints=found)
    assert caught.value.code == "attack.bad_constraint"


@pytest.mark.parametrize(
    "changed",
    [
        {"schema": "keepstone.constraints/v2"},
        {"immutable": ["nobody"]},
        {"immutable": [5]},
        {"immutable": [True]},
        {"immutable": "age"},
        {"one_hot": ["red"]},
        {"one_hot": 3},
        {"cost": [1]},
        {"cost": {"age": 0}},
        {"cost": {"age": True}},
        {"cost": {"nobody": 1}},
        {"shrinks": ["visits"]},
        {"more": 1},
    ],
)
def test_a_file_of_constraints_that_says_nothing(changed: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        read_constraints(json.dumps(SAID | changed).encode(), 5, NAMES)
    assert caught.value.code == "attack.bad_constraint"


# What is reached lies in the domain

TYPES = ("float16", "float32", "float64", "uint8", "int8", "int32", "int64", "uint64")
ENDS = st.tuples(st.floats(-400, 400), st.floats(0.01, 400))


@given(
    dtype=st.sampled_from(TYPES),
    ends=st.lists(ENDS, min_size=6, max_size=6),
    rows=arrays(np.float64, (4, 6), elements=st.floats(-500, 500)),
    drawn=arrays(np.float64, (4, 6), elements=st.floats(-500, 500)),
    constrained=st.booleans(),
)
def test_what_is_fitted_is_held(
    dtype: str,
    ends: list[tuple[float, float]],
    rows: np.ndarray,
    drawn: np.ndarray,
    constrained: bool,
) -> None:
    low = np.array([first for first, _ in ends])
    high = low + np.array([size for _, size in ends])
    low[2:4], high[2:4] = -0.25, 1.75
    constraints = CONSTRAINTS if constrained else None
    least, most = np.ceil(low), np.floor(high)
    if np.dtype(dtype).kind in "iu":
        ends_of = np.iinfo(dtype)
        least, most = np.maximum(least, ends_of.min), np.minimum(most, ends_of.max)
        empty = bool((least > most).any())
    else:
        empty = constrained and bool((least > most)[[1, 4]].any())
    if empty:
        # There is no whole number in between, or none that the type has.
        with pytest.raises(InputError) as caught:
            Domain.of((6,), low, high, dtype, constraints)
        assert caught.value.code in {"attack.bad_domain", "attack.bad_constraint"}
        return
    domain = Domain.of((6,), low, high, dtype, constraints)
    found = domain.fit(rows, drawn)
    assert domain.holds(found).all()
    assert (found.astype(dtype).astype(found.dtype) == found).all()
    if constrained:
        assert (found[:, [1, 4]] == np.rint(found[:, [1, 4]])).all()
        assert (np.sort(found[:, 2:4], axis=1) == [0, 1]).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_ends_that_the_type_does_not_have_are_rounded_inwards(dtype: str) -> None:
    domain = Domain.of((2,), -1e30, 1e30, dtype)
    rows = np.array([[-1e30, 1e30]])
    assert domain.holds(domain.fit(rows, rows)).all()
    small = Domain.of((2,), [0.6, 0.1], [2.4, 1.1], dtype)  # type: ignore[arg-type]
    assert small.holds(small.fit(rows, rows)).all()
    assert small.holds(small.draw(50)).all()


def test_a_range_of_one_number_is_the_nearest_that_the_type_has() -> None:
    domain = Domain.of((2,), np.array([0.1, 0]), np.array([0.1, 1]), "float32")
    found = domain.draw(3)
    assert domain.holds(found).all()
    assert (found[:, 0] == np.float32(0.1)).all()


def test_a_domain_that_nothing_can_reach() -> None:
    whole = Constraints.of(2, integer=[0])
    bits = Constraints.of(2, one_hot=[[0, 1]])
    for rest, wanted in (
        (("uint8", None), "attack.bad_domain"),
        (("float32", whole), "attack.bad_constraint"),
        (("float32", bits), "attack.bad_constraint"),
    ):
        with pytest.raises(InputError) as caught:
            Domain.of((2,), 0.2, 0.8, *rest)
        assert caught.value.code == wanted
    with pytest.raises(InputError) as caught:
        Domain.of((2,), 300, 400, "uint8")
    assert caught.value.code == "attack.bad_domain"


@pytest.mark.parametrize("shape", [(-1, 2**31 - 1), (-1, 4096, 4097)])
def test_a_width_that_fills_the_memory_is_refused_before(shape: tuple[int, ...]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            Domain.of_spec(TensorSpec("x", DType.FP32, shape), 0, 1)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.code == "target.unsupported"
