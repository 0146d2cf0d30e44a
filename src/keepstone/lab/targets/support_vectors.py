"""scikit-learn's SVC and NuSVC: kernels over support vectors, and their slope.

Each pair of classes has a margin, and the class that wins the most pairs is served. Counting steps
has no slope; so the score of a class is the least of its own margins: above zero for the one that
wins them all, and what an attack has to raise for another.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.targets.estimator_steps import Unknown, floats
from keepstone.lab.targets.slopes import Pull, Slope, chained, two_scores


def pairs_of(model: Any) -> Slope:
    """The margins of all pairs `(n, pairs)`; the one of two classes is the second's.

    Raises Unknown for a kernel that is not computed here.
    """
    if model._sparse:
        raise Unknown("a sparse SVC")
    return _kernel_sums(_kernel(model), floats(model.support_vectors_), *_weights(model))


def scores_of(model: Any) -> Slope:
    """Raises as `pairs_of`."""
    count = len(model.classes_)
    last = two_scores if count == 2 else least_margins(count)
    return chained([pairs_of(model), last])


def decision_of(model: Any, pairs: Array) -> Array:
    """What the model's `decision_function` says of these margins."""
    count = len(model.classes_)
    if count == 2 or model.decision_function_shape != "ovr":
        return pairs
    votes, sums = _votes(pairs, count)
    # Sums only part those that have as many votes.
    return np.asarray(votes + sums / (3 * (np.abs(sums) + 1)))


def labels_of(model: Any, pairs: Array) -> Array:
    """The places of the classes that are served: of as many votes the first."""
    count = len(model.classes_)
    if count == 2:
        return np.asarray((pairs[:, 0] > 0).astype(np.int64))
    if model.break_ties and model.decision_function_shape == "ovr":
        return np.asarray(decision_of(model, pairs).argmax(axis=1))
    return np.asarray(_votes(pairs, count)[0].argmax(axis=1))


def _votes(pairs: Array, count: int) -> tuple[Array, Array]:
    """How many pairs each class wins, and the sum of its margins."""
    votes, sums = np.zeros((2, len(pairs), count))
    for at, (one, other) in enumerate(combinations(range(count), 2)):
        won = pairs[:, at] >= 0
        votes[:, one] += won
        votes[:, other] += ~won
        sums[:, one] += pairs[:, at]
        sums[:, other] -= pairs[:, at]
    return votes, sums


def least_margins(count: int) -> Slope:
    """Of the margins of all pairs of `count` classes, each class's least."""
    pairs = list(combinations(range(count), 2))
    place, sign = np.zeros((2, count, count - 1))
    for one in range(count):
        own = [at for at, pair in enumerate(pairs) if one in pair]
        place[one], sign[one] = own, [1 if pairs[at][0] == one else -1 for at in own]
    place = place.astype(np.int64)

    def run(margins: Array) -> tuple[Array, Pull]:
        own = margins[:, place] * sign
        least = own.argmin(axis=2)
        rows, classes = np.arange(len(margins))[:, None], np.arange(count)

        def back(weights: Array) -> Array:
            found = np.zeros_like(margins)
            np.add.at(found, (rows, place[classes, least]), weights * sign[classes, least])
            return found

        return own[rows, classes, least], back

    return run


def _weights(model: Any) -> tuple[Array, Array]:
    """What each support vector weighs in each pair's margin `(m, pairs)`, and the intercepts."""
    dual, sizes = floats(model._dual_coef_), np.asarray(model._n_support, np.int64)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    count = len(model.classes_)
    found = np.zeros((dual.shape[1], count * (count - 1) // 2))
    for at, (one, other) in enumerate(combinations(range(count), 2)):
        of_one, of_other = (slice(ends[of], ends[of + 1]) for of in (one, other))
        found[of_one, at] = dual[other - 1, of_one]
        found[of_other, at] = dual[one, of_other]
    offset = floats(model._intercept_)
    return (-found, -offset) if count == 2 else (found, offset)


# Of products or squared distances: the kernel, and its slope by them.
_Kernel = Callable[[Array], tuple[Array, Array]]


def _kernel(model: Any) -> tuple[bool, _Kernel]:
    """Whether it is one of squared distances, and the kernel."""
    gamma, first, degree = float(model._gamma), float(model.coef0), float(model.degree)

    def polynomial(product: Array) -> tuple[Array, Array]:
        base = gamma * product + first
        return base**degree, gamma * degree * base ** (degree - 1)

    def sigmoid(product: Array) -> tuple[Array, Array]:
        found = np.tanh(gamma * product + first)
        return found, gamma * (1 - found**2)

    def radial(distance: Array) -> tuple[Array, Array]:
        found = np.exp(-gamma * distance)
        return found, -gamma * found

    match model.kernel:
        case "linear":
            return False, lambda product: (product, np.ones_like(product))
        case "poly":
            return False, polynomial
        case "sigmoid":
            return False, sigmoid
        case "rbf":
            return True, radial
    raise Unknown("an SVC's own kernel")


def _kernel_sums(
    kernel: tuple[bool, _Kernel], vectors: Array, weights: Array, offset: Array
) -> Slope:
    far, function = kernel
    lengths = (vectors**2).sum(axis=1)

    def run(rows: Array) -> tuple[Array, Pull]:
        given = rows @ vectors.T
        if far:
            own = (rows**2).sum(axis=1, keepdims=True)
            given = np.maximum(own + lengths - 2 * given, 0)
        found, slope = function(given)

        def back(pulled: Array) -> Array:
            each = (pulled @ weights.T) * slope
            if not far:
                return np.asarray(each @ vectors)
            return np.asarray(2 * (rows * each.sum(axis=1, keepdims=True) - each @ vectors))

        return found @ weights + offset, back

    return run
