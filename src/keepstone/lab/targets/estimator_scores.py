"""scikit-learn's classifiers as scores of their classes, with their slope.

Scores are those from before any softmax or sigmoid: one that is sure of itself has no slope left,
and who has the file does not go through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.targets import support_vectors
from keepstone.lab.targets.estimator_steps import Unknown, floats, step_of
from keepstone.lab.targets.slopes import (
    Pull,
    Slope,
    bent,
    chained,
    multiplied,
    two_scores,
)


@dataclass(frozen=True, slots=True)
class Scored:
    """`scores` gives rows `(n, k)` of the classes. `method` of the estimator says `said` of the
    same rows, which is how the two are compared; with `logarithms` it says logarithms of chances.
    `labels` gives the places of the estimator's labels, where they are not those of the highest
    scores.
    """

    scores: Slope
    method: str
    said: Callable[[Array], Array]
    logarithms: bool = False
    labels: Callable[[Array], Array] | None = None


def scored(model: Any) -> Scored:
    """Of a fitted classifier, or a pipeline that ends in one. Raises Unknown.

    An object whose attributes lie raises whatever that makes it stumble over.
    """
    name = type(model).__name__
    if name == "Pipeline":
        *steps, (_, last) = model.steps
        before = chained([step_of(step) for _, step in steps])
        found = scored(last)
        labels = found.labels
        return Scored(
            chained([before, found.scores]),
            found.method,
            lambda rows: found.said(before(rows)[0]),
            found.logarithms,
            None if labels is None else lambda rows: labels(before(rows)[0]),
        )
    if name not in _CLASSIFIERS:
        raise Unknown(f"the estimator {name[:64]}")
    return _CLASSIFIERS[name](model)


def _linear(model: Any) -> Scored:
    margins = multiplied(np.atleast_2d(floats(model.coef_)).T, floats(model.intercept_))
    return _decided(margins, len(model.classes_))


def _decided(margins: Slope, classes: int) -> Scored:
    """By margins of each class, or the one of the second of two."""

    def said(rows: Array) -> Array:
        return margins(rows)[0]

    last = [two_scores] if classes == 2 else []
    return Scored(chained([margins, *last]), "decision_function", said)


def _network(model: Any) -> Scored:
    name = model.activation
    if name not in _BENDS:
        raise Unknown("the network's activation")
    layers = [
        multiplied(floats(matrix), floats(offset))
        for matrix, offset in zip(model.coefs_, model.intercepts_, strict=True)
    ]
    parts: list[Slope] = [layers[0]]
    for layer in layers[1:]:
        parts += [_BENDS[name], layer]
    match model.out_activation_, model.n_outputs_:
        case "softmax", _:
            return _likely(chained(parts), "predict_log_proba", logarithms=True)
        case "logistic", 1:
            return _likely(chained([*parts, two_scores]), "predict_log_proba", logarithms=True)
    raise Unknown("a network with several labels")


def _likely(scores: Slope, method: str, *, logarithms: bool = False) -> Scored:
    def said(rows: Array) -> Array:
        found = scores(rows)[0]
        return log_chances(found) if logarithms else found

    return Scored(scores, method, said, logarithms)


def log_chances(scores: Array) -> Array:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _support(model: Any) -> Scored:
    pairs = support_vectors.pairs_of(model)

    def said(rows: Array) -> Array:
        return support_vectors.decision_of(model, pairs(rows)[0])

    def labels(rows: Array) -> Array:
        return support_vectors.labels_of(model, pairs(rows)[0])

    scores = support_vectors.scores_of(model)
    return Scored(scores, "decision_function", said, labels=labels)


def _gaussian(model: Any) -> Scored:
    means, spread = floats(model.theta_), floats(model.var_)
    head = np.log(floats(model.class_prior_)) - 0.5 * np.log(2 * np.pi * spread).sum(axis=1)

    def scores(rows: Array) -> tuple[Array, Pull]:
        apart = (rows[:, None] - means) / spread
        found = head - 0.5 * (apart**2 * spread).sum(axis=2)
        return found, lambda weights: -(weights[:, :, None] * apart).sum(axis=1)

    return _likely(scores, "predict_joint_log_proba")


def _multinomial(model: Any) -> Scored:
    scores = multiplied(floats(model.feature_log_prob_).T, floats(model.class_log_prior_))
    return _likely(scores, "predict_joint_log_proba")


def _quadratic(model: Any) -> Scored:
    means, priors = floats(model.means_), np.log(floats(model.priors_))
    turns = [
        floats(turn) / np.sqrt(floats(scale))
        for turn, scale in zip(model.rotations_, model.scalings_, strict=True)
    ]
    head = priors - 0.5 * np.array([np.log(floats(scale)).sum() for scale in model.scalings_])

    def scores(rows: Array) -> tuple[Array, Pull]:
        apart = [(rows - mean) @ turn for mean, turn in zip(means, turns, strict=True)]
        far = np.stack([(one**2).sum(axis=1) for one in apart], axis=1)

        def back(weights: Array) -> Array:
            found = np.zeros_like(rows)
            for weight, one, turn in zip(weights.T, apart, turns, strict=True):
                found -= (weight[:, None] * one) @ turn.T
            return found

        return head - 0.5 * far, back

    def said(rows: Array) -> Array:
        found = scores(rows)[0]
        return found[:, 1] - found[:, 0] if found.shape[1] == 2 else found

    return Scored(scores, "decision_function", said)


def _logistic(rows: Array) -> Array:
    # exp of what is negative alone never grows too large.
    small = np.exp(-np.abs(rows))
    return np.asarray(np.where(rows >= 0, 1.0, small) / (1 + small))


_BENDS: Mapping[str, Slope] = {
    "identity": chained(()),
    "relu": bent(lambda rows: np.maximum(rows, 0), lambda rows, _: rows > 0),
    "tanh": bent(np.tanh, lambda _, found: 1 - found**2),
    "logistic": bent(_logistic, lambda _, found: found * (1 - found)),
}
_CLASSIFIERS: Mapping[str, Callable[[Any], Scored]] = {
    **dict.fromkeys(
        (
            *("LogisticRegression", "LogisticRegressionCV", "LinearSVC", "SGDClassifier"),
            *("RidgeClassifier", "RidgeClassifierCV", "Perceptron", "PassiveAggressiveClassifier"),
            "LinearDiscriminantAnalysis",
        ),
        _linear,
    ),
    "MLPClassifier": _network,
    "SVC": _support,
    "NuSVC": _support,
    "GaussianNB": _gaussian,
    "MultinomialNB": _multinomial,
    "QuadraticDiscriminantAnalysis": _quadratic,
}
