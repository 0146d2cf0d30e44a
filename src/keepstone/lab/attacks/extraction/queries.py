"""Between an extraction attack and its target: counts every row, and keeps all that was served.

Promise: the target is never asked more rows than the budget, whoever attacks; each row lies in its
domain. An attack asks the same rows in the same order whatever its budget is, so the answers to
the first of them are what a smaller budget would have bought.

The meter of evasion counts for each sample and judges by epsilon; here there is neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.domain import Domain
from keepstone.lab.meter import BudgetSpent
from keepstone.lab.targets.port import UNANSWERED, Answers, Capability, Target

# What is served in place of the logarithm of zero, in 32 bits and in 64: `as_scores`.
_LEAST = tuple(float(np.log(np.finfo(kind).tiny)) for kind in (np.float32, np.float64))
# What is served as zero is no greater.
_NOTHING = 1e-30
# Probabilities of so many digits or more count as whole ones.
_MOST_DIGITS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Transcript:
    """Every row `(n, d)` asked, in order, with its label `(n,)` and scores `(n, k)` or None."""

    rows: Array
    labels: Array
    scores: Array | None
    classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Transcript:
        """What a budget of `count` queries would have bought."""
        return self._at(slice(0, count))

    @property
    def usable(self) -> Transcript:
        """The rows that were answered with a label of the model, and with finite scores if any."""
        good = (self.labels >= 0) & (self.labels < self.classes)
        if self.scores is not None:
            good &= np.isfinite(self.scores).all(axis=1)
        return self._at(good)

    @property
    def unsaturated(self) -> Transcript:
        """The rows of which no probability was so small that it was served as zero."""
        if self.scores is None:
            return self
        scores = self.scores.astype(np.float64)
        least = np.zeros(len(self), bool)
        for value in _LEAST:
            least |= (np.abs(scores - value) <= 1e-8 * -value).any(axis=1)
        return self._at(~least)

    @property
    def unanswered(self) -> int:
        return int((self.labels == UNANSWERED).sum())

    @property
    def broken(self) -> int:
        """How many answers were no label of the model, or no finite numbers."""
        return len(self) - self.unanswered - len(self.usable)

    def probabilities(self) -> Array:
        """What each answer says of each class `(n, k)`, in 64 bits.

        One for the label where no scores are served, or where they contradict it.
        """
        hard = np.zeros((len(self), self.classes))
        hard[np.arange(len(self)), self.labels] = 1
        if self.scores is None:
            return hard
        served = self.served_probabilities()
        if served is None:
            scores = self.scores.astype(np.float64)
            served = np.exp(scores - scores.max(axis=1, keepdims=True))
        total = served.sum(axis=1, keepdims=True)
        # Of many classes each may round to zero: then any is as likely.
        even = np.full_like(served, 1 / self.classes)
        soft = np.divide(served, total, out=even, where=total > 0)
        told = soft[np.arange(len(self)), self.labels] >= soft.max(axis=1) - 1e-6
        return np.where(told[:, None], soft, hard)

    def served_probabilities(self) -> Array | None:
        """The probabilities that the scores are the logarithms of, or are themselves; else None.

        Rounded ones add up to one only as nearly as they were rounded, so that a target may have
        taken them for scores.
        """
        if self.scores is None or not len(self):
            return None
        scores = self.scores.astype(np.float64)
        if scores.max() <= 1e-6:
            found = np.exp(np.minimum(scores, 0.0))
        elif scores.min() >= 0 and scores.max() <= 1:
            found = scores
        else:
            return None
        digits = _digits(found)
        rounding = 1e-3 if digits is None else 0.51 * self.classes * 10.0**-digits
        return found if np.abs(found.sum(axis=1) - 1).max() <= rounding else None

    def digits(self) -> int | None:
        """To how many digits the probabilities are rounded; None where they are not."""
        served = self.served_probabilities()
        return None if served is None else _digits(served)

    def _at(self, where: Array | slice) -> Transcript:
        scores = None if self.scores is None else self.scores[where]
        return Transcript(self.rows[where], self.labels[where], scores, self.classes)


def _digits(values: Array) -> int | None:
    for digits in range(_MOST_DIGITS):
        steps = values * 10**digits
        whole = np.rint(steps)
        # A small probability that was not rounded is no zero.
        zeros = values[whole == 0]
        if (zeros <= _NOTHING).all() and np.abs(steps - whole).max() <= 1e-7 * 10**digits:
            return digits
    return None


class QueryMeter:
    """One attack's view of a target. A row that is asked is one query of `budget`.

    Raises InputError `attack.bad_budget`.
    """

    def __init__(self, target: Target, budget: int) -> None:
        if budget < 1:
            raise InputError("attack.bad_budget", "A budget below one query asks nothing.")
        self._target = target
        self.budget = budget
        self._asked = 0
        self._rows: list[Array] = []
        self._labels: list[Array] = []
        self._scores: list[Array] = []

    @property
    def domain(self) -> Domain:
        return self._target.domain

    @property
    def classes(self) -> int:
        return self._target.classes

    @property
    def has_scores(self) -> bool:
        return Capability.SCORES in self._target.capabilities

    @property
    def asked(self) -> int:
        return self._asked

    @property
    def left(self) -> int:
        return self.budget - self._asked

    def ask(self, rows: Array) -> Answers:
        """What is served for the first of `rows`: as many as the budget has left.

        Raises BudgetSpent where it has none; whatever the target raises, which then counts as
        asked and unanswered.
        """
        if not self.left:
            raise BudgetSpent
        chosen = rows[: self.left]
        middle = (self.domain.low + self.domain.high) / 2
        # An attack's own NaN is its fault, and no input that the domain holds.
        chosen = np.where(np.isfinite(chosen), chosen, middle)
        fitted = self.domain.fit(chosen, chosen)
        self._asked += len(fitted)
        silent = np.full(len(fitted), UNANSWERED, np.int64)
        try:
            found = self._target.predict(fitted)
        except Exception:
            self._keep(fitted, Answers(silent))
            raise
        if found.labels.shape != (len(fitted),):
            found = Answers(silent)
        self._keep(fitted, found)
        return found

    def transcript(self) -> Transcript:
        """All that was asked so far, and what was served."""
        width = self.domain.width
        rows = np.concatenate([np.zeros((0, width)), *self._rows])
        labels = np.concatenate([np.zeros(0, np.int64), *self._labels])
        scores = np.concatenate([np.zeros((0, self.classes)), *self._scores])
        return Transcript(rows, labels, scores if self.has_scores else None, self.classes)

    def _keep(self, rows: Array, found: Answers) -> None:
        self._rows.append(rows.astype(np.float64))
        self._labels.append(np.asarray(found.labels, np.int64))
        wanted = (len(rows), self.classes)
        given = found.scores is not None and found.scores.shape == wanted
        self._scores.append(found.scores if given else np.full(wanted, np.nan))  # type: ignore[arg-type]
