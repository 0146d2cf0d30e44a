"""Carlini and Wagner's l2 attack: the shortest perturbation, by descent with a price on failing.

Promise: a small perturbation, an upper bound of the l2 distance to the boundary. Each sample's
price is searched between `searches` runs: it falls after a success and grows after a failure. The
points are tanh of what is descended, so the box always holds.

Source: Carlini and Wagner 2017, arXiv 1608.04644, section VI-A; Adam as in theirs.

Cost: searches x iterations queries with gradients, less where a run has come to rest. It is the
slowest attack here. Blind spots: gradients that are masked; pixels exactly at a bound move slowly
at first, for tanh is flat there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.region import Region
from keepstone.lab.attacks.port import Source
from keepstone.lab.losses import margin
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import Capability, Linearization

# How near to its bounds a pixel may begin, where tanh has a slope yet.
_INSIDE = 0.999
_ADAM = (0.9, 0.999, 1e-8)
# A run rests if its cost has not sunk by this share since a tenth of the iterations ago.
_REST = 0.9999


@dataclass(frozen=True, slots=True)
class CarliniWagner:
    """`price` is the first weight of the margin beside the squared distance, `rate` Adam's.

    `confidence` is the margin, in scores, that a point is to be wrong by.
    """

    iterations: int = 200
    searches: int = 6
    rate: float = 0.02
    price: float = 1.0
    confidence: float = 0.0
    name: ClassVar[str] = "carlini-wagner"
    source: ClassVar[Source] = Source("arXiv:1608.04644", "AML.T0043.000")
    needs: ClassVar[Capability] = Capability.GRADIENT
    norms: ClassVar[frozenset[str]] = frozenset({"l2"})
    minimizes: ClassVar[bool] = True

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        price = np.full(len(meter.y), self.price)
        low, high = np.zeros_like(price), np.full_like(price, np.inf)
        for _ in range(self.searches):
            places = meter.standing()
            # A sample that is served wrong as it is has nothing to search.
            places = places[meter.distance[places] > 0]
            if not len(places):
                return
            fell = self._descend(meter, places, price[places])
            high[places] = np.where(fell, price[places], high[places])
            low[places] = np.where(fell, low[places], price[places])
            bounded = np.isfinite(high)
            price = np.where(bounded, (low + np.where(bounded, high, 0)) / 2, price * 10)

    def _descend(self, meter: Meter, places: Array, price: Array) -> Array:
        """One run for each of the samples: which of them were served another label in it."""
        box = _Box.of(Region.around(meter, places))
        hidden = box.hide(meter.x[places])
        state = _Adam(hidden, np.zeros_like(hidden), np.zeros_like(hidden))
        fell = np.zeros(len(places), bool)
        ids, last = np.arange(len(places)), np.full(len(places), np.inf)
        every = max(1, self.iterations // 10)
        for at in range(1, self.iterations + 1):
            going = ~meter.broken[places[ids]] & (meter.left[places[ids]] > 0)
            if not going.all():
                ids, last, state, box = ids[going], last[going], state.take(going), box.take(going)
            if not len(ids):
                break
            rows = box.show(state.value)
            answers = meter.linearize(places[ids], rows)
            fell[ids] |= answers.labels != meter.y[places[ids]]
            cost, gradient = self._cost(meter, places[ids], price[ids], rows, answers)
            state.descend(gradient * box.slope(state.value), self.rate, at)
            if at % every == 0:
                going = cost < last * _REST
                ids, last = ids[going], cost[going]
                state, box = state.take(going), box.take(going)
        return fell

    def _cost(
        self, meter: Meter, places: Array, price: Array, rows: Array, answers: Linearization
    ) -> tuple[Array, Array]:
        """What is descended, and its gradient by the rows."""
        domain = meter.domain
        # In units of the domain's mean range: one rate and price then serve pixels of any scale.
        scale = 1 / float((domain.high - domain.low).mean())
        weight = np.full(domain.width, scale)
        if domain.constraints is not None and domain.constraints.cost is not None:
            weight = scale * domain.constraints.cost
        delta = (rows - meter.x[places]) * weight
        won, weights = margin(answers.scores, meter.y[places])
        lacking = self.confidence - won
        # Minus the margin's gradient, where it is not wrong enough yet.
        pull = answers.vjp(-weights * ((lacking > 0) * price)[:, None].astype(weights.dtype))
        cost = np.einsum("ij,ij->i", delta, delta) + price * np.maximum(lacking, 0)
        return cost, pull + 2 * delta * weight


@dataclass(frozen=True, slots=True)
class _Box:
    """The domain as the image of tanh, for rows of samples."""

    middle: Array
    half: Array

    @classmethod
    def of(cls, region: Region) -> _Box:
        return cls((region.high + region.low) / 2, (region.high - region.low) / 2)

    def take(self, rows: Array) -> _Box:
        return _Box(self.middle[rows], self.half[rows])

    def hide(self, rows: Array) -> Array:
        share = (rows - self.middle) / np.where(self.half > 0, self.half, 1)
        return np.asarray(np.arctanh(np.clip(share, -_INSIDE, _INSIDE)), np.float64)

    def show(self, hidden: Array) -> Array:
        return np.asarray(self.middle + self.half * np.tanh(hidden), self.middle.dtype)

    def slope(self, hidden: Array) -> Array:
        return np.asarray(self.half * (1 - np.tanh(hidden) ** 2))


@dataclass(slots=True)
class _Adam:
    value: Array
    mean: Array
    square: Array

    def take(self, rows: Array) -> _Adam:
        return _Adam(self.value[rows], self.mean[rows], self.square[rows])

    def descend(self, gradient: Array, rate: float, at: int) -> None:
        first, second, small = _ADAM
        self.mean = first * self.mean + (1 - first) * gradient
        self.square = second * self.square + (1 - second) * gradient**2
        length = np.sqrt(self.square / (1 - second**at)) + small
        self.value = self.value - rate * self.mean / (1 - first**at) / length
