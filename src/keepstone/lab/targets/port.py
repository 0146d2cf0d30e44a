"""What an attack may ask of a model, by declaration: its label, its scores, their gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Protocol, runtime_checkable

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.domain import Domain

# The label of a row that the target did not answer.
UNANSWERED = -1


class Capability(StrEnum):
    LABEL = "label"
    SCORES = "scores"
    GRADIENT = "gradient"
    # Its decision trees lie open (`trees.TreesTarget`).
    TREES = "trees"


@dataclass(frozen=True, slots=True)
class Answers:
    """What was served for `n` rows: the class of each, and the scores of `k` classes or None.

    Scores are logits, or the logarithms of probabilities where those are served: greater is
    likelier, and differences between classes mean the same in both. Those of a row that was not
    answered are NaN.
    """

    labels: Array
    scores: Array | None = None


@dataclass(frozen=True, slots=True)
class Linearization:
    """The answers at `n` rows, and how they change there.

    `vjp` takes a weight for each score `(n, k)` and gives the gradient `(n, d)` of the weighted
    sum of scores. It can be called once.
    """

    labels: Array
    scores: Array
    vjp: Callable[[Array], Array]


class Target(Protocol):
    """A classifier. Rows are flat `(n, d)`, and lie in its domain."""

    @property
    def domain(self) -> Domain: ...

    @property
    def classes(self) -> int: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    def predict(self, rows: Array) -> Answers:
        """Raises OperationalError `target.*`, `runtime.*`."""
        ...


@runtime_checkable
class GradientTarget(Target, Protocol):
    """A classifier whose scores can be differentiated."""

    def linearize(self, rows: Array) -> Linearization: ...


@runtime_checkable
class Explains(Protocol):
    """A target that says why it declares no gradient, where one might have been had, and whether
    that is because of the file."""

    @property
    def without_gradient(self) -> str: ...

    @property
    def hides_gradient(self) -> bool: ...


def gradients_of(target: Target) -> GradientTarget:
    """Raises InputError `attack.unable` for a target that declares no gradient."""
    if Capability.GRADIENT not in target.capabilities or not isinstance(target, GradientTarget):
        raise InputError(
            "attack.unable",
            "The attack needs gradients, and the target gives none.",
            "Choose attacks by what the target declares.",
        )
    return target


def are_probabilities(outputs: Array) -> bool:
    """Whether these outputs are probabilities of classes, to be told once from many rows.

    One column in [0, 1] is the probability of the second of two classes. Sums may be off as far
    as rounding to two digits makes them.
    """
    found = _rows(np.asarray(outputs, np.float64))
    if not found.size or not np.isfinite(found).all() or found.min() < 0 or found.max() > 1:
        return False
    return found.shape[1] == 1 or bool(
        np.abs(found.sum(axis=1) - 1).max() <= 0.005 * found.shape[1]
    )


def as_scores(outputs: Array, *, probable: bool) -> Array:
    """`outputs` of `n` rows as the scores `(n, k)` of `k` >= 2 classes.

    Probabilities become their logarithms; zero, which has none, becomes that of the least
    positive number.
    """
    found = _rows(np.asarray(outputs))
    if found.dtype.kind != "f" or found.dtype.itemsize < 4:
        found = found.astype(np.float32)
    if found.shape[1] == 1:
        first = 1 - found if probable else np.zeros_like(found)
        found = np.concatenate([first, found], axis=1)
    return np.log(np.maximum(found, np.finfo(found.dtype).tiny)) if probable else found


def best_class(scores: Array) -> Array:
    """The class of the highest score; `UNANSWERED` where a score is no number."""
    known: Array = np.asarray(np.isfinite(scores).all(axis=1))
    return np.where(known, np.where(known[:, None], scores, 0).argmax(axis=1), UNANSWERED)


def in_pieces(rows: Array, size: int, ask: Callable[[Array], Answers]) -> Answers:
    """What `ask` answers to `rows` when it is given at most `size` of them at once."""
    pieces = [ask(rows[at : at + size]) for at in range(0, len(rows), size)]
    labels = [np.zeros(0, np.int64), *(piece.labels for piece in pieces)]
    scores = [piece.scores for piece in pieces if piece.scores is not None]
    return Answers(np.concatenate(labels), np.concatenate(scores) if scores else None)


def _rows(outputs: Array) -> Array:
    return outputs.reshape(len(outputs), prod(outputs.shape[1:]))
