"""Whether labels have anything to do with the rows that they are given to.

Two labellings that have nothing to do with each other agree by chance, the more the commoner their
commonest classes are: of a model that always says the commonest class, accuracy alone cannot be
told from knowledge. What is compared is agreement with what chance gives, and with how far that
varies.

Source: Cohen 1960 (kappa); its spread under chance, Fleiss, Cohen, Everitt 1969. The interval of
the mean recall adds Wilson's of each class, as Zou, Donner 2008 add intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.metrics.wilson import share


@dataclass(frozen=True, slots=True)
class Agreement:
    """The share `value` of `n` that agrees, what chance gives, and one deviation of that."""

    value: float
    chance: float
    spread: float
    n: int

    def above(self, confidence: float = 0.95) -> bool:
        """Whether they agree more often than chance would have it."""
        return self.value - self.chance > self._noise(confidence)

    def below(self, confidence: float = 0.95) -> bool:
        """Whether they agree less often: labels of another coding do."""
        return self.chance - self.value > self._noise(confidence)

    def _noise(self, confidence: float) -> float:
        return NormalDist().inv_cdf((1 + confidence) / 2) * self.spread


def agreement(labels: Array, y: Array) -> Agreement:
    """Of two labellings (n,), places of classes from 0 on."""
    n = len(y)
    if not n:
        return Agreement(0.0, 0.0, 0.0, 0)
    classes = int(max(labels.max(), y.max())) + 1
    first, second = (np.bincount(one, minlength=classes) / n for one in (labels, y))
    chance = float(first @ second)
    varies = chance + chance**2 - float((first * second) @ (first + second))
    return Agreement(float((labels == y).mean()), chance, sqrt(max(0.0, varies) / n), n)


@dataclass(frozen=True, slots=True)
class Recall:
    """The mean over the classes of the share of their rows that is right, and its interval.

    `guessed` is what anything gets that hangs on no row, however common the classes are.
    """

    value: float
    low: float
    high: float
    guessed: float


def mean_recall(right: Array, y: Array) -> Recall:
    """`right` (n,) is how often each row was right, 0 to 1; `y` (n,) are the classes' places."""
    counts = np.bincount(y)
    present = np.flatnonzero(counts)
    if not len(present):
        return Recall(0.0, 0.0, 1.0, 1.0)
    hits = np.bincount(y, weights=right)
    found = [share(round(float(hits[one])), int(counts[one])) for one in present]
    k = len(found)
    value = sum(one.value for one in found) / k
    below = sqrt(sum((one.value - one.low) ** 2 for one in found)) / k
    above = sqrt(sum((one.high - one.value) ** 2 for one in found)) / k
    return Recall(value, max(0.0, value - below), min(1.0, value + above), 1 / k)
