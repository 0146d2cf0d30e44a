"""Linear models from equations: each row's scores are linear in the weights, so d + 1 rows do.

Source: Tramèr, Zhang, Juels, Reiter and Ristenpart, Stealing Machine Learning Models via
Prediction APIs, USENIX Security 2016, sections 4.1 and 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.extraction.queries import QueryMeter, Transcript
from keepstone.lab.attacks.extraction.surrogate import (
    Network,
    StolenModel,
    Training,
    fresh,
    softmax,
    solve,
    towards_probabilities,
    towards_scores,
    train,
)
from keepstone.lab.attacks.port import Source
from keepstone.lab.domain import Domain
from keepstone.lab.targets.port import Capability

# How often rows are moved to where scores are equal, and back into the domain.
_PROJECTIONS = 10
# The share of the differences between scores that is left there, and the most of it, as logarithms.
_SPREAD, _MOST = 0.5, 2.0
# Scores further below a row's greatest are taken to be so far below: zero has no logarithm.
_DEEPEST = 100.0
# How often a copy of rounded probabilities is fitted again.
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class EquationSolving:
    """Promise: a linear, logistic or softmax model is copied exactly from the scores of d + 1 rows.

    Those rows are the corners of a regular simplex, so that solving magnifies no rounding. Where
    probabilities are rounded or not served, the nearest softmax regression is fitted, and further
    rows are asked: half of them at the domain's corners, which show classes that the copy lacks,
    half where it holds all classes for nearly as likely: there nothing rounds to zero, and a
    label tells most. (The paper's adaptive retraining asks on the border
    of two classes.) A rounded probability is an interval, and the copy's need only lie in it.
    With `hidden` layers the copy is a network of them, fitted to rows drawn evenly.

    Cost: d + 1 queries with scores, whatever the number of classes; three to twenty times as many
    with rounded ones; some tens of (d + 1) with labels alone. Blind spots: a model that is not of
    this form is copied as its nearest one; the widths of a network must be known;
    one-against-rest probabilities are no softmax of linear scores.

    `decay` weighs the squares of the weights where they are fitted, `label_decay` where there are
    labels alone; each fit takes at most `steps` steps.
    """

    hidden: tuple[int, ...] = ()
    decay: float = 1e-6
    label_decay: float = 1e-4
    steps: int = 300

    name: ClassVar[str] = "equation-solving"
    source: ClassVar[Source] = Source("Tramèr et al. 2016, arXiv:1609.02943", "AML.T0024.002")
    needs: ClassVar[Capability] = Capability.LABEL

    def ask(self, meter: QueryMeter, rng: np.random.Generator) -> None:
        domain = meter.domain
        meter.ask(simplex(domain, rng))
        copy: Network | None = None
        while True:
            usable = meter.transcript().usable
            count = max(domain.width // 2 + 1, len(usable) // 4)
            rows = rng.uniform(domain.low, domain.high, (count, domain.width))
            if len(usable) and not self.hidden and _exact(usable) is None:
                copy = self._fitted(usable, domain, rng, copy)
                # The domain's corners show classes that no copy knows yet.
                corners = np.where(rng.random(rows.shape) < 0.5, domain.low, domain.high)
                half = count // 2
                corners[:half] = _telling(copy, rows[:half], domain, rng)
                rows = corners
            meter.ask(rows)

    def copy(self, seen: Transcript, domain: Domain, rng: np.random.Generator) -> StolenModel:
        network = None if self.hidden else _exact(seen)
        if network is None:
            network = self._in_intervals(self._fitted(seen, domain, rng), seen)
        return StolenModel(network, domain, seen.classes)

    def _fitted(
        self,
        seen: Transcript,
        domain: Domain,
        rng: np.random.Generator,
        start: Network | None = None,
    ) -> Network:
        if self.hidden:
            return self._network(seen, domain, rng)
        if start is None:
            # What the answers do not determine stays zero.
            start = fresh(seen.rows, domain, (), seen.classes, rng, "f8")
            zeros = tuple((weights * 0, bias) for weights, bias in start.layers)
            start = replace(start, layers=zeros)
        return self._solved(start, seen, seen.probabilities())

    def _network(self, seen: Transcript, domain: Domain, rng: np.random.Generator) -> Network:
        start = fresh(seen.rows, domain, self.hidden, seen.classes, rng, "f8", gain=2.0)
        wanted = seen.probabilities()
        if seen.scores is None or seen.digits() is not None:
            start = train(start, seen.rows, wanted, Training(self.hidden), rng)
            return self._solved(start, seen, wanted)
        # Of scores that are not rounded the small differences count as much as the large.
        scores = seen.scores.astype(np.float64)
        scores = np.maximum(scores - scores.max(axis=1, keepdims=True), -_DEEPEST)
        unit = max(float(scores.std()), 1e-12)
        tuned = solve(
            start,
            seen.rows,
            towards_scores(scores / unit),
            steps=self.steps,
            decay=0.0,
            tolerance=1e-9,
        )
        weights, bias = tuned.layers[-1]
        return replace(tuned, layers=(*tuned.layers[:-1], (weights * unit, bias * unit)))

    def _in_intervals(self, found: Network, seen: Transcript) -> Network:
        """The copy whose probabilities round to what was served, as nearly as may be."""
        digits = seen.digits()
        if digits is None:
            return found
        served, half = seen.probabilities(), 0.5 * 10.0**-digits
        for _ in range(_ROUNDS):
            told = softmax(found.scores(seen.rows))
            wanted = np.clip(told, np.maximum(served - half, 0), served + half)
            found = self._solved(found, seen, wanted / wanted.sum(axis=1, keepdims=True))
        return found

    def _solved(self, start: Network, seen: Transcript, wanted: Array) -> Network:
        decay = self.label_decay if seen.scores is None else self.decay
        goal = towards_probabilities(wanted)
        return solve(start, seen.rows, goal, steps=self.steps, decay=decay, tolerance=1e-6)


def simplex(domain: Domain, rng: np.random.Generator) -> Array:
    """The d + 1 corners `(d + 1, d)` of a regular simplex around the domain's middle, turned at
    random and as large as the domain allows."""
    count = domain.width + 1
    square = rng.normal(size=(count, count))
    square[:, 0] = 1
    corners = np.linalg.qr(square)[0][:, 1:]
    corners /= np.abs(corners).max()
    return np.asarray((domain.low + domain.high) / 2 + (domain.high - domain.low) / 2 * corners)


def _exact(seen: Transcript) -> Network | None:
    """The linear model whose scores these are; None if there are none, or they are no such."""
    whole = seen.unsaturated
    enough = len(whole) >= min(len(seen), seen.rows.shape[1] + 1)
    if whole.scores is None or not enough or seen.digits() is not None:
        return None
    scores = whole.scores.astype(np.float64)
    # What a softmax does not change, and probabilities do not tell: the same for every class.
    scores -= scores.mean(axis=1, keepdims=True)
    rows = whole.rows
    shift, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-12)
    inputs = np.column_stack([(rows - shift) / scale, np.ones(len(rows))])
    weights, *_ = np.linalg.lstsq(inputs, scores, rcond=None)
    if np.abs(inputs @ weights - scores).max() > 1e-3 * max(1.0, float(np.abs(scores).max())):
        return None
    return Network(shift, scale, ((weights[:-1], weights[-1]),))


def _telling(network: Network, rows: Array, domain: Domain, rng: np.random.Generator) -> Array:
    """`rows` moved to where the linear copy's scores are nearly equal for all classes.

    There each answer tells of every class: no probability rounds to zero, and a label could be
    any. A share of each row's differences between scores is left, drawn between none and half;
    of probabilities at most a factor of e squared.
    """
    weights = network.layers[-1][0]
    weights = weights - weights.mean(axis=1, keepdims=True)
    back = np.linalg.pinv(weights, rcond=1e-6) * network.scale
    moved = rows
    wanted: Array | None = None
    for _ in range(_PROJECTIONS):
        scores = network.scores(moved)
        scores = scores - scores.mean(axis=1, keepdims=True)
        if wanted is None:
            left = rng.uniform(0, _SPREAD, (len(rows), 1))
            most = np.abs(scores).max(axis=1, keepdims=True)
            wanted = scores * np.minimum(left, _MOST / np.maximum(most, 1e-12))
        moved = np.clip(moved - (scores - wanted) @ back, domain.low, domain.high)
    return moved
