"""What a model, a file and a server call the same class, and which tensors hold it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.contract.schema import DType, ModelContract, TensorSpec
from keepstone.errors import InputError
from keepstone.lab.targets.classes import Classes
from keepstone.lab.targets.outputs import Tensors
from keepstone.lab.targets.port import are_probabilities, as_scores

X = TensorSpec("x", DType.FP32, (-1, 2), low=0.0, high=1.0)
LABEL = TensorSpec("label", DType.INT64, (-1,))
SCORES = TensorSpec("p", DType.FP32, (-1, 3))


def code(action: object, *given: object) -> str:
    with pytest.raises(InputError) as caught:
        action(*given)  # type: ignore[operator]
    return caught.value.code


def test_numbers_below_the_number_of_scores_are_their_places() -> None:
    found = Classes.of(np.array([2, 0, 2]), 4)
    assert found.names == ("0", "1", "2", "3")
    assert found.encode(np.array([3, 0])).tolist() == [3, 0]


def test_other_labels_are_taken_in_order_and_have_to_be_all() -> None:
    assert Classes.of(np.array(["b", "a", "b"]), 2).names == ("a", "b")
    assert Classes.of(np.array([10, 9, 11]), 3).names == ("9", "10", "11")
    assert Classes.of(np.array([7, 9]), None).names == ("7", "9")
    assert code(Classes.of, np.array(["b", "a"]), 3) == "target.bad_labels"
    assert code(Classes.of, np.array([5, 9]), 3) == "target.bad_labels"
    assert Classes.of(np.array(["b", "a"]), 3, ("c", "a", "b")).names == ("c", "a", "b")


@pytest.mark.parametrize("names", [(), ("a",), ("a", "a")])
def test_names_that_are_no_classes(names: tuple[str, ...]) -> None:
    assert code(Classes, names) == "target.bad_labels"


@given(st.lists(st.sampled_from(["0", "1", "10", "x"]), max_size=20))
def test_text_bytes_and_numbers_are_the_same_class(labels: list[str]) -> None:
    classes = Classes(("10", "x", "0", "1"))
    wanted = [classes.names.index(label) for label in labels]
    assert classes.encode(np.array(labels, object)).tolist() == wanted
    assert classes.encode(np.array([one.encode() for one in labels], object)).tolist() == wanted
    mixed = [int(one) if one.isdigit() else one for one in labels]
    assert classes.encode(np.array(mixed, object)).tolist() == wanted


def test_whole_numbers_are_the_same_in_every_type() -> None:
    classes = Classes(("1", "0"))
    for labels in ([0, 1], [0.0, 1.0], [False, True]):
        assert classes.encode(np.array(labels)).tolist() == [1, 0]
    assert code(classes.encode, np.array([0.5])) == "target.bad_labels"


def test_an_unknown_label_is_refused() -> None:
    assert code(Classes(("a", "b")).encode, np.array(["a", "c"])) == "target.bad_labels"


def contract(*outputs: TensorSpec, x: TensorSpec = X) -> ModelContract:
    return ModelContract((x,), outputs)


def test_the_tensors_of_a_model() -> None:
    found = Tensors.of(contract(SCORES, LABEL))
    assert (found.label, found.scores) == (LABEL, SCORES)
    assert found.names == ["label", "p"]
    assert found.score_count == 3
    assert Tensors.of(contract(LABEL)).score_count is None
    assert Tensors.of(contract(TensorSpec("p", DType.FP32, (-1, 1)))).score_count == 2
    assert Tensors.of(contract(TensorSpec("p", DType.FP32, (-1, -1)))).score_count is None


@pytest.mark.parametrize(
    ("x", "output"),
    [
        (TensorSpec("x", DType.BYTES, (-1, 2)), LABEL),
        (TensorSpec("x", DType.FP32, (-1,)), LABEL),
        (TensorSpec("x", DType.FP32, (1, 2)), LABEL),
        (X, TensorSpec("p", DType.FP32, (-1, 3, 2))),
        (X, TensorSpec("label", DType.INT64, (-1, 4))),
    ],
)
def test_models_that_are_not_attacked(x: TensorSpec, output: TensorSpec) -> None:
    assert code(Tensors.of, contract(output, x=x)) == "target.unsupported"


def test_probabilities_are_told_from_logits() -> None:
    assert are_probabilities(np.array([[0.2, 0.8], [1.0, 0.0]]))
    assert are_probabilities(np.array([0.1, 0.9]))
    # Rounded to two digits they are what they were.
    assert are_probabilities(np.full((3, 10), 0.1) + np.array([0.0, *[0.004] * 9]))
    assert not are_probabilities(np.array([[0.2, 0.9], [1.0, 0.0]]))
    assert not are_probabilities(np.array([[-0.1, 1.1]]))
    assert not are_probabilities(np.array([[np.nan, 1.0]]))
    assert not are_probabilities(np.zeros((0, 2)))


def test_one_score_is_of_the_second_of_two_classes() -> None:
    assert np.exp(as_scores(np.array([0.25]), probable=True)) == pytest.approx(
        np.array([[0.75, 0.25]])
    )
    assert as_scores(np.array([[-2.0]]), probable=False).tolist() == [[0, -2]]
    # No probability is nothing at all: its logarithm stays finite.
    assert np.isfinite(as_scores(np.array([[0.0, 1.0]]), probable=True)).all()


def test_more_scores_than_classes_can_be_are_refused_before_they_are_named() -> None:
    tracemalloc.start()
    try:
        assert code(Classes.of, np.array([0, 1]), 2**22) == "target.bad_labels"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
