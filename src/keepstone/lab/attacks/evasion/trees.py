"""Attacks on decision trees by their splits: the next cell that is served another label.

Promise: on one tree the nearest row of another label, exactly, with a query or two: each leaf is a
box, and the nearest point of each box of another label is found. On a sum of trees a strong
heuristic. Both look at the splits, which costs no query, and ask the target only about what they
found: its served label decides.

How, on a sum of trees: from the sample, or from a random corner, one split after another is
crossed, that which helps the margin most of those within epsilon. Splits of one feature on one side
are taken together, up to each. Without an epsilon, the smallest one at which this succeeds is
sought by halving.

Cost: a query or two; time of about (rows * trees * depth^2) for each split that is crossed. Blind
spots: where only two splits together help. On one tree: one-hot groups are kept, not searched, so
that the result need not be the nearest; l0 is not offered.

Source: the exact attack is that of Chen, Zhang, Boning and Hsieh 2019 (and Papernot et al. 2016);
for the greedy one see Zhang, Zhang and Hsieh 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.crossing import above, at_most, climb
from keepstone.lab.attacks.evasion.outside import able, is_wrong
from keepstone.lab.attacks.evasion.region import costs, into, lengths
from keepstone.lab.attacks.port import Source
from keepstone.lab.meter import Meter, reach
from keepstone.lab.targets.port import Capability
from keepstone.lab.targets.trees import Trees

_HALVINGS = 8
_PIECE = 4_000_000


@dataclass(frozen=True, slots=True)
class TreeAttack:
    """`restarts` is how often a sum of trees is climbed; `crossings` the most splits each time.

    `leaves` is how many boxes of one tree are asked about at most, the nearest first.
    """

    restarts: int = 3
    crossings: int = 40
    leaves: int = 10

    name: ClassVar[str] = "trees"
    source: ClassVar[Source] = Source("Chen et al. 2019, arXiv:1902.10660", "AML.T0043.000")
    needs: ClassVar[Capability] = Capability.TREES
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2", "l1"})
    minimizes: ClassVar[bool] = True

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        trees = meter.trees
        if len(trees.roots) == 1:
            _one(meter, trees, self.leaves)
            return
        for turn in range(self.restarts):
            at = meter.standing()
            if not at.size:
                return
            rows, found = self._within(meter, rng, trees, at, turn)
            if found.any():
                meter.ask(at[found], rows[found])

    def _within(
        self, meter: Meter, rng: np.random.Generator, trees: Trees, at: Array, turn: int
    ) -> tuple[Array, Array]:
        """The rows that the climb ends at, and which of them are worth a query."""
        if meter.goal.eps is not None:
            eps = np.full(len(at), meter.goal.eps)
            start = _start(meter, rng, at, eps, turn)
            rows, margin = climb(meter, trees, at, start, eps, self.crossings)
            # What does not cross here may still tie there.
            return rows, margin >= -1e-6
        high = _half(meter, at)
        low, best = np.zeros(len(at)), meter.x[at].copy()
        found = np.zeros(len(at), bool)
        eps = high
        for _ in range(_HALVINGS):
            start = _start(meter, rng, at, eps, turn)
            rows, margin = climb(meter, trees, at, start, eps, self.crossings)
            won = margin > 0
            best[won], found = rows[won], found | won
            high = np.where(won, meter.measure(at, rows), high)
            low = np.where(won, low, eps)
            eps = (low + high) / 2
        return best, found & (meter.measure(at, best) < meter.distance[at])


def _half(meter: Meter, at: Array) -> Array:
    """No perturbation that is sought is longer: half of each feature's range."""
    half = (lengths(meter) * costs(meter))[None, :] / 2
    return np.full(len(at), float(meter.goal.norm.distance(half)[0]))


def _start(meter: Meter, rng: np.random.Generator, at: Array, eps: Array, turn: int) -> Array:
    """The samples, and after the first turn a random place in their balls."""
    if turn == 0:
        return meter.x[at]
    noise = meter.goal.norm.noise(rng, len(at), meter.domain.width) * eps[:, None]
    return into(meter, at, (meter.x[at] + noise / costs(meter)).astype(meter.x.dtype), eps)


def _one(meter: Meter, trees: Trees, most: int) -> None:
    """Ask about the nearest point of each box of another label, the nearest box first."""
    leaves, low, high = trees.boxes(0, meter.domain.width)
    low, high = just_inside(meter, low, high)
    labels = (trees.value[leaves] + trees.base).argmax(axis=1)
    piece = max(1, _PIECE // low.size)
    for first in range(0, len(meter.x), piece):
        at = np.arange(first, min(first + piece, len(meter.x)))
        rows, distance = _nearest(meter, at, low, high)
        distance[labels[None, :] == meter.y[at][:, None]] = np.inf
        if meter.goal.eps is not None:
            distance[distance > reach(meter.goal.eps)] = np.inf
        order = np.argsort(distance, axis=1, kind="stable")[:, :most]
        waits = np.ones(len(at), bool)
        for turn in range(order.shape[1]):
            best = order[:, turn]
            waits &= np.isfinite(distance[np.arange(len(at)), best])
            going = np.flatnonzero(waits & np.isin(at, able(meter, at)))
            if not going.size:
                break
            # Boxes come by distance: the first that is served wrong is the nearest.
            waits[going] = ~is_wrong(meter, at[going], rows[going, best[going]])


def _nearest(meter: Meter, at: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """The nearest point of each box to each sample, and how far it is; inf where the domain or
    its constraints hold none."""
    rows = np.clip(meter.x[at][:, None, :], low, high)
    flat = rows.reshape(-1, rows.shape[2]).astype(meter.x.dtype)
    places = np.repeat(at, len(low))
    flat = meter.domain.fit(flat, meter.x[places])
    inside = ((flat >= np.tile(low, (len(at), 1))) & (flat <= np.tile(high, (len(at), 1)))).all(1)
    distance = np.where(inside, meter.measure(places, flat), np.inf)
    return flat.reshape(rows.shape), distance.reshape(len(at), -1)


def just_inside(meter: Meter, low: Array, high: Array) -> tuple[Array, Array]:
    """The least and the greatest values of boxes `(low, high]`, of those that inputs can have."""
    domain = meter.domain
    kind = domain.dtype if domain.dtype.kind == "f" else np.dtype(np.float64)
    first, last = np.asarray(above(low, kind)), np.asarray(at_most(high, kind))
    whole = np.full(domain.width, domain.dtype.kind in "iu")
    if domain.constraints is not None:
        whole |= domain.constraints.integer
    return np.where(whole, np.floor(low) + 1, first), np.where(whole, np.floor(high), last)
