"""A linear guess at a target, made of everything that it has said so far.

One ridge regression for all samples of a run: what one sample's queries show of a feature guides
the queries of the others. It only proposes; the target's own answers judge. Needs no gradients,
and no scores: labels do.
"""

from __future__ import annotations

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.bounds import lengths
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import UNANSWERED, Answers

# Wider than this, features count as if they were unrelated: no d x d system is solved.
_MOST = 1024
# Scores further than this below the best say no more than that they are far below.
_FLOOR = 8.0
_RIDGE, _LEAST = 0.1, 0.01
# Solved again when so much more was seen.
_GROWTH = 1.1


class PooledRidge:
    """Starts from the samples and their right labels; `add` what was asked and answered.

    `weights` (k, d) is how each class's score grows with each feature.
    """

    def __init__(self, meter: Meter) -> None:
        self._classes = meter.classes
        self._scale = lengths(meter).astype(np.float64)
        rows = meter.x / self._scale
        self._centre = rows.mean(axis=0)
        rows = rows - self._centre
        self._full = meter.domain.width <= _MOST
        self._ridge = _RIDGE * float((rows**2).sum()) / rows.shape[1]
        truth = np.eye(self._classes)[meter.y]
        self._gram = self._square(rows)
        self._moment = rows.T @ (truth - truth.mean(axis=0))
        self._mean: Array | None = None
        self._count = self._solved = 0
        self.weights = self._solve()

    def scores(self, rows: Array) -> Array:
        """The guess at `rows` `(n, k)`, up to a constant for each class."""
        return np.asarray((rows / self._scale - self._centre) @ (self.weights * self._scale).T)

    def add(self, rows: Array, answers: Answers) -> None:
        """Learn from what the target said to `rows`."""
        known = answers.labels != UNANSWERED
        if answers.scores is None:
            wanted = np.eye(self._classes)[np.where(known, answers.labels, 0)]
        else:
            best = answers.scores.max(axis=1, keepdims=True)
            wanted = np.clip(answers.scores - best, -_FLOOR, 0).astype(np.float64)
            known = known & np.isfinite(wanted).all(axis=1)
        if not known.any():
            return
        seen, wanted = rows[known] / self._scale - self._centre, wanted[known]
        if self._mean is None:
            # The labels that are right were a start; answers replace them.
            self._mean = wanted.mean(axis=0)
            self._gram = np.zeros_like(self._gram)
            self._moment = np.zeros_like(self._moment)
        self._gram += self._square(seen)
        self._moment += seen.T @ (wanted - self._mean)
        self._count += len(seen)
        if self._count >= _GROWTH * self._solved:
            self._solved = self._count
            self.weights = self._solve()

    def _square(self, rows: Array) -> Array:
        return np.asarray(rows.T @ rows if self._full else (rows**2).sum(axis=0))

    def _solve(self) -> Array:
        squares = np.diagonal(self._gram) if self._full else self._gram
        # One sample alone spreads nowhere: then what was asked says how much to trust.
        ridge = max(self._ridge, _LEAST * float(squares.mean()), 1e-12)
        if self._full:
            found = np.linalg.solve(self._gram + ridge * np.eye(len(squares)), self._moment)
        else:
            found = self._moment / (squares + ridge)[:, None]
        return np.asarray(found.T / self._scale)
