"""How many members an attack finds while it accuses almost nobody wrongly.

An attack scores rows; a rule accuses those that score at least a threshold. All of one score are
accused together or not at all, so ties cannot be cut in the attack's favour. The headline is the
true-positive rate at a false-positive rate of 1 % or .1 %, never accuracy: an attack that is sure
of few rows is a breach for those, whatever it says of the others.

Source: Carlini et al. 2022, "Membership Inference Attacks From First Principles", section III.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, floor, lgamma, log, log1p
from typing import Any

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.metrics.wilson import share

# What of a curve is told in JSON.
_CORNERS = 200
_BINS = 30
_FARTHEST = 1e299


@dataclass(frozen=True, slots=True)
class Roc:
    """One place for each distinct score, from the strictest rule on; the first accuses nobody.

    `true` and `false` count the members and the non-members that score at least `threshold`.
    """

    true: Array
    false: Array
    threshold: Array

    @property
    def n_members(self) -> int:
        return int(self.true[-1])

    @property
    def n_nonmembers(self) -> int:
        return int(self.false[-1])

    @property
    def tpr(self) -> Array:
        return np.asarray(self.true / self.n_members)

    @property
    def fpr(self) -> Array:
        return np.asarray(self.false / self.n_nonmembers)

    @property
    def auc(self) -> float:
        """The chance that a member scores above a non-member; ties count half. A side note."""
        # Of rates that floats add up to more than all it is all.
        return min(1.0, float(np.trapezoid(self.tpr, self.fpr)))

    def corners(self) -> list[list[float]]:
        """At most some 200 of its rules, (false, true) rates: the best at each number of false
        positives, of many the more the lower it is."""
        kept, last = np.unique(self.false[::-1], return_index=True)
        places = len(self.false) - 1 - last
        if len(kept) > _CORNERS:
            steps = np.geomspace(1, len(kept), _CORNERS).astype(int) - 1
            places = places[np.unique(steps)]
        fpr, tpr = self.fpr, self.tpr
        return [[float(fpr[at]), float(tpr[at])] for at in places]

    def histogram(self) -> dict[str, list[float] | list[int]]:
        """How many members and non-members scored in each bin between `edges`; what scored beyond
        every number is in the last ones."""
        scores = np.clip(self.threshold[1:], -_FARTHEST, _FARTHEST)
        finite = scores[np.abs(scores) < _FARTHEST]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
        held = np.clip(scores, edges[0], edges[-1])
        counts = {
            name: np.histogram(held, edges, weights=np.diff(of))[0]
            for name, of in (("members", self.true), ("nonmembers", self.false))
        }
        told: dict[str, list[float] | list[int]] = {"edges": [float(edge) for edge in edges]}
        return told | {name: [round(one) for one in of] for name, of in counts.items()}


@dataclass(frozen=True, slots=True)
class TprAt:
    """The true-positive rate where at most `fpr` of the non-members are accused.

    `low` and `high` bound what it is for the population, whose threshold is as uncertain as its
    shares are. `sufficient` says whether there were non-members enough to speak of this `fpr`.
    """

    fpr: float
    value: float
    low: float
    high: float
    n_members: int
    n_nonmembers: int
    sufficient: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "fpr": self.fpr,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "members": self.n_members,
            "nonmembers": self.n_nonmembers,
            "sufficient": self.sufficient,
        }


def roc_of(members: Array, nonmembers: Array) -> Roc:
    """The curve of the scores of members and of non-members.

    Raises InputError `attack.bad_scores` for NaN, or where either is empty.
    """
    first, second = np.asarray(members, np.float64), np.asarray(nonmembers, np.float64)
    if not first.size or not second.size or np.isnan(first).any() or np.isnan(second).any():
        raise InputError(
            "attack.bad_scores",
            "Scores are not numbers, or there are none of members or of non-members.",
            "Measure an attack only on rows that were answered.",
        )
    scores = np.concatenate([first, second])
    kept, place = np.unique(-scores, return_inverse=True)
    true = np.bincount(place[: len(first)], minlength=len(kept))
    false = np.bincount(place[len(first) :], minlength=len(kept))
    return Roc(
        np.concatenate([[0], np.cumsum(true)]),
        np.concatenate([[0], np.cumsum(false)]),
        np.concatenate([[np.inf], -kept]),
    )


def tpr_at(roc: Roc, fpr: float, confidence: float = 0.95) -> TprAt:
    """The true-positive rate at `fpr`, with an interval that holds at least `confidence`.

    (1) Which rules may accuse `fpr` of the population is told by the binomial law of false
    positives; (2) how many members each of those finds, by Wilson's interval. Each end of both
    gets a quarter of the error, so together they keep the promise (Bonferroni).

    The lower bound takes the strictest rule that may be the one, the upper bound the loosest.
    There an attacker may also toss a coin between two rules, where ties leave none in between.

    Raises InputError `attack.bad_fpr`.
    """
    if not 0 < fpr < 1 or not 0 < confidence < 1:
        raise InputError("attack.bad_fpr", f"{fpr} is no false-positive rate to measure at.")
    n, error = roc.n_nonmembers, (1 - confidence) / 4
    value = roc.tpr[_last_rule(roc, floor(fpr * n + 1e-9))]
    fewest, most = _plausible(n, fpr, error)
    inner = 1 - 2 * error
    strict = 0 if fewest < 0 else int(roc.true[_last_rule(roc, fewest)])
    loose = min(roc.n_members, ceil(_tossed(roc, most) - 1e-9))
    return TprAt(
        fpr=fpr,
        value=float(value),
        low=min(float(value), share(strict, roc.n_members, inner).low),
        high=max(float(value), share(loose, roc.n_members, inner).high),
        n_members=roc.n_members,
        n_nonmembers=n,
        sufficient=n >= enough_nonmembers(fpr, confidence),
    )


def unknown_at(fpr: float, n_members: int, n_nonmembers: int) -> TprAt:
    """What is known where nothing was measured: the rate lies between 0 and 1."""
    return TprAt(fpr, 0.0, 0.0, 1.0, n_members, n_nonmembers, False)


def enough_nonmembers(fpr: float, confidence: float = 0.95) -> int:
    """The fewest non-members with which the threshold of `fpr` is bounded on both sides.

    With fewer, that none of them is accused says nothing: about 4.4 / fpr at 95 %.
    """
    return ceil(log((1 - confidence) / 4) / log1p(-fpr))


def _last_rule(roc: Roc, most: int) -> int:
    """The loosest rule with at most so many false positives."""
    return int(np.searchsorted(roc.false, most, side="right")) - 1


def _tossed(roc: Roc, most: int) -> float:
    """Members found with `most` false positives, tossing a coin between two rules."""
    at = _last_rule(roc, most)
    if at + 1 == len(roc.false):
        return float(roc.true[at])
    step = (most - roc.false[at]) / (roc.false[at + 1] - roc.false[at])
    return float(roc.true[at] + step * (roc.true[at + 1] - roc.true[at]))


def _plausible(n: int, rate: float, error: float) -> tuple[int, int]:
    """The fewest and the most of `n` that a share of `rate` leaves plausible; -1 is below none."""
    total, fewest, most = 0.0, -1, n
    for k in range(n + 1):
        total += _exactly(k, n, rate)
        if total <= error:
            fewest = k
        if total >= 1 - error:
            most = k
            break
    return fewest, most


def _exactly(k: int, n: int, rate: float) -> float:
    ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
    return exp(ways + k * log(rate) + (n - k) * log1p(-rate))
