"""Losses over scores `(n, k)`, each with its gradient there: what an attack climbs.

All are higher where the target is further from the label that is right. Only weights for scores
come out, so that no attack knows how a target is differentiated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keepstone.contract.validate import Array

# Of scores and labels: the loss `(n,)`, and its gradient by the scores `(n, k)`.
Loss = Callable[[Array, Array], tuple[Array, Array]]


def cross_entropy(scores: Array, labels: Array) -> tuple[Array, Array]:
    """Minus the logarithm of the right class's softmax."""
    rows = np.arange(len(scores))
    shifted = scores - scores.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    total = weights.sum(axis=1, keepdims=True)
    loss = np.log(total[:, 0]) - shifted[rows, labels]
    weights /= total
    weights[rows, labels] -= 1
    return loss, weights


def margin(scores: Array, labels: Array) -> tuple[Array, Array]:
    """The best wrong score minus the right one; positive where the label is wrong."""
    rows = np.arange(len(scores))
    other = best_other(scores, labels)
    weights = np.zeros_like(scores)
    weights[rows, other] = 1
    weights[rows, labels] = -1
    return scores[rows, other] - scores[rows, labels], weights


def dlr(scores: Array, labels: Array) -> tuple[Array, Array]:
    """Difference of logits ratio, which no rescaling of the scores changes.

    Source: Croce and Hein 2020, equation 6. Two classes have no third score: then the margin is
    divided by nothing.
    """
    if scores.shape[1] < 3:
        return margin(scores, labels)
    rows = np.arange(len(scores))
    order = np.argsort(-scores, axis=1)
    first, second, third = order[:, 0], order[:, 1], order[:, 2]
    other = np.where(first == labels, second, first)
    return _ratio(scores, labels, other, ((first, 1.0), (third, -1.0)), rows)


def targeted_margin(scores: Array, labels: Array, wanted: Array) -> tuple[Array, Array]:
    """The score of one class less the right one."""
    rows = np.arange(len(scores))
    weights = np.zeros_like(scores)
    weights[rows, wanted] += 1
    weights[rows, labels] -= 1
    return scores[rows, wanted] - scores[rows, labels], weights


def targeted_dlr(scores: Array, labels: Array, wanted: Array) -> tuple[Array, Array]:
    """The same towards one class. Source: Croce and Hein 2020, equation 7."""
    if scores.shape[1] < 4:
        return targeted_margin(scores, labels, wanted)
    rows = np.arange(len(scores))
    order = np.argpartition(-scores, (0, 1, 2, 3), axis=1)
    first, third, fourth = order[:, 0], order[:, 2], order[:, 3]
    return _ratio(scores, labels, wanted, ((first, 1.0), (third, -0.5), (fourth, -0.5)), rows)


def best_other(scores: Array, labels: Array) -> Array:
    """The best class that is not the right one."""
    masked = scores.copy()
    masked[np.arange(len(scores)), labels] = -np.inf
    return np.asarray(masked.argmax(axis=1))


def _ratio(
    scores: Array,
    labels: Array,
    other: Array,
    below: tuple[tuple[Array, float], ...],
    rows: Array,
) -> tuple[Array, Array]:
    """(score of `other` - right score) / (sum of `below`), and its gradient."""
    above = scores[rows, other] - scores[rows, labels]
    divisor = np.full(len(scores), 1e-12, scores.dtype)
    for place, factor in below:
        divisor += scores[rows, place] * scores.dtype.type(factor)
    weights = np.zeros_like(scores)
    inverse = 1 / divisor
    np.add.at(weights, (rows, other), inverse)
    np.add.at(weights, (rows, labels), -inverse)
    for place, factor in below:
        np.add.at(weights, (rows, place), -above * inverse**2 * scores.dtype.type(factor))
    return above * inverse, weights
