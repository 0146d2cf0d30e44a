"""A linear stand-in for the model that will be trained, which the attacker fits by himself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.poisoning.port import TrainingSet

# How strongly it is held back, as a part of the features' mean square.
_RIDGE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Surrogate:
    """Scores are `(rows - mean) @ weights + bias`, one for each class."""

    weights: Array
    mean: Array
    bias: Array

    def scores(self, rows: Array) -> Array:
        return np.asarray((rows - self.mean) @ self.weights + self.bias)

    def margin(self, rows: Array, y: Array) -> tuple[Array, Array]:
        """By how much class `y` (n,) leads the best other one, and how that grows with each
        feature (n, d)."""
        scores = self.scores(rows)
        at = np.arange(len(rows))
        own = scores[at, y]
        scores[at, y] = -np.inf
        rival = scores.argmax(axis=1)
        slope = self.weights[:, y] - self.weights[:, rival]
        return np.asarray(own - scores[at, rival]), slope.T


def fit_surrogate(clean: TrainingSet) -> Surrogate:
    """Ridge regression on the classes."""
    mean = clean.x.mean(axis=0, dtype=np.float64)
    x = clean.x - mean
    wanted = np.eye(clean.classes)[clean.y]
    bias = wanted.mean(axis=0)
    gram = x.T @ x
    held = _RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
    weights = np.linalg.solve(gram + np.eye(len(gram)) * held, x.T @ (wanted - bias))
    return Surrogate(weights, mean, bias)
