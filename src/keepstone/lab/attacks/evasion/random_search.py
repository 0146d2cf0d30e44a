"""Batched random search: for trees and tables, and whatever else serves no more than labels.

Promise: all samples are asked in one batch, a row or a few of each; a row is kept when
the target's margin did not shrink, so that on a plateau, where trees tie, the search walks on. A
margin of zero is no success: only the served label is. Constraints and costs are honoured.

How: a share of the features, less with every query, goes to the end of its range within epsilon.
Its side is that which a linear guess pooled from all answers so far takes for worse (`pooled`),
or a random one. With scores, the samples' first tries are not made all at once: later ones are
guided by what earlier ones were answered. Without, there is no margin: each try starts from the
sample again, and the guess learns from the labels.

Cost: `budget` queries at most, and one solve of a `d x d` system now and then. Blind spots: what
lies between the ends of the ranges; features of which only many together do anything, if the
guess does not see them; models whose answers are random.

Source: Croce et al. 2022 (Sparse-RS) and Andriushchenko et al. 2020 for random search; the pooled
guess is our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.bounds import costs, into, lengths, radius
from keepstone.lab.attacks.evasion.pooled import PooledRidge
from keepstone.lab.attacks.port import Source
from keepstone.lab.losses import margin
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import Capability

# Tries at one sample in one call: they do not learn of each other.
_TRIES = 4
# One in so many samples is asked first.
_FIRST = 8


@dataclass(frozen=True, slots=True)
class RandomSearch:
    """`start` and `end` are the shares of features that a try moves, first and last; `random` is
    the share of those whose side is drawn; `rows` is how many a call should ask, where few samples
    stand. Raises InputError `attack.no_eps`."""

    start: float = 0.8
    end: float = 0.016
    random: float = 0.3
    rows: int = 64

    name: ClassVar[str] = "random-search"
    source: ClassVar[Source] = Source("Croce et al. 2022, arXiv:2006.12834", "AML.T0043.001")
    needs: ClassVar[Capability] = Capability.LABEL
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2", "l1", "l0"})
    minimizes: ClassVar[bool] = False

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        radius(meter)
        guess = PooledRidge(meter)
        kept, best = meter.x.copy(), np.full(len(meter.x), -np.inf)
        scores = guess.scores(meter.x).astype(np.float64)
        while (at := self._next(meter)).size:
            rows = into(meter, at, self._moved(meter, rng, guess, at, kept[at], scores[at]))
            answers = meter.ask(at, rows)
            guess.add(rows, answers)
            if answers.scores is None:
                scores[at] = guess.scores(rows)
                continue
            found = margin(answers.scores, meter.y[at])[0]
            scores[at] = np.where(np.isfinite(answers.scores), answers.scores, 0)
            # Of several tries at one sample the best is written last.
            order = np.argsort(found, kind="stable")
            better = order[found[order] >= best[at[order]]]
            best[at[better]], kept[at[better]] = found[better], rows[better]

    def _next(self, meter: Meter) -> Array:
        """The places to ask at, one that is asked several rows as often."""
        at = meter.standing()
        fresh = at[meter.left[at] == meter.goal.budget]
        if fresh.size and Capability.SCORES in meter.capabilities:
            # What the first ones' scores teach, the others need not ask: as many again each time.
            asked = len(meter.x) - len(fresh)
            return np.asarray(fresh[: max(asked, -(-len(meter.x) // _FIRST))])
        if not at.size:
            return at
        # A call costs the target more than a row: of few samples several tries are asked.
        many = np.clip(self.rows // len(at), 1, min(_TRIES, int(meter.left[at].min())))
        return np.repeat(at, many)

    def _moved(
        self,
        meter: Meter,
        rng: np.random.Generator,
        guess: PooledRidge,
        at: Array,
        kept: Array,
        scores: Array,
    ) -> Array:
        """The next try at each sample: `kept` with some features moved to an end."""
        budget, eps = meter.goal.budget, radius(meter)
        spent = 1 - meter.left[at] / budget
        shape = kept.shape
        labelled = Capability.SCORES not in meter.capabilities
        share = self.start * (self.end / self.start) ** spent
        if labelled:
            share = np.full(len(at), 1.0)
        share = np.where(meter.left[at] == budget, 1.0, share)
        chosen = rng.random(shape) < share[:, None]
        chosen[np.arange(len(at)), rng.integers(shape[1], size=len(at))] = True
        if meter.goal.norm.name == "l0":
            # No more than may differ, or what was found before would not matter.
            order = np.where(chosen, rng.random(shape), 1).argsort(axis=1).argsort(axis=1)
            chosen &= order < max(1, int(eps))
        count = chosen.sum(axis=1)
        rival = _rivals(rng, scores, meter.y[at], labelled)
        towards = guess.weights[rival] - guess.weights[meter.y[at]]
        drawn = rng.choice((-1.0, 1.0), shape)
        free = (rng.random(shape) < self.random) | (towards == 0)
        # The first try is the guess alone.
        free &= (meter.left[at] < budget)[:, None] | (towards == 0)
        side = np.where(free, drawn, np.sign(towards))
        cost = costs(meter)
        delta = np.where(chosen, side * _step(meter, count), (kept - meter.x[at]) * cost)
        if meter.goal.norm.name == "l2":
            # A shorter one would only be weaker.
            delta *= eps / np.maximum(meter.goal.norm.distance(delta), 1e-12)[:, None]
        return (meter.x[at] + delta / cost).astype(kept.dtype)


def _step(meter: Meter, count: Array) -> Array:
    """How far each of `count` features moves, by its cost; what is too far is projected."""
    eps, name = radius(meter), meter.goal.norm.name
    if name == "linf":
        return np.full((len(count), 1), eps)
    if name == "l0":
        return np.broadcast_to(2 * lengths(meter) * costs(meter), (len(count), meter.domain.width))
    if name == "l1":
        return np.asarray(eps / count)[:, None]
    # Twice an equal share, so that what was found before keeps most of its length.
    return np.full((len(count), 1), 2 * eps / np.sqrt(meter.domain.width))


def _rivals(rng: np.random.Generator, scores: Array, right: Array, labelled: bool) -> Array:
    """The class to go to: the best wrong one, and without scores often the one after it."""
    masked = np.array(scores, np.float64)
    masked[np.arange(len(masked)), right] = -np.inf
    order = np.argsort(-masked, axis=1)
    rank = np.zeros(len(masked), np.int64)
    if labelled:
        rank = np.minimum(rng.geometric(0.6, len(masked)) - 1, scores.shape[1] - 2)
    return np.asarray(order[np.arange(len(masked)), rank])
