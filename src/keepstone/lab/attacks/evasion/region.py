"""Where the rows of an attack may go: within epsilon of their samples, and within the domain.

One region serves many rows at once, a sample may have several of them, and `take` keeps those
that go on. The features' costs are heeded, and immutable features and directions are bounds like
any other; integers and one-hot groups are not: the meter fits those, and judges what it fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepstone.contract.validate import Array
from keepstone.errors import InputError
from keepstone.lab.meter import Meter, reach
from keepstone.lab.norms import LINF, Norm


@dataclass(frozen=True, slots=True)
class Region:
    """For `m` rows the points `(m, d)` that are within `eps` `(m,)` of `origin`, between `low`
    and `high`. `cost` `(d,)` weighs each feature's change, None: all the same."""

    norm: Norm
    origin: Array
    low: Array
    high: Array
    eps: Array
    cost: Array | None = None

    @classmethod
    def around(cls, meter: Meter, places: Array, size: float = 1.0) -> Region:
        """Of the samples of `places`, within `size` times epsilon. Where the goal has none, the
        domain alone bounds it."""
        origin = meter.x[places]
        domain, norm = meter.domain, meter.goal.norm
        low = np.broadcast_to(domain.low.astype(origin.dtype), origin.shape)
        high = np.broadcast_to(domain.high.astype(origin.dtype), origin.shape)
        cost = None
        if (held := domain.constraints) is not None:
            low = np.where(held.immutable | (held.direction > 0), origin, low)
            high = np.where(held.immutable | (held.direction < 0), origin, high)
            cost = None if held.cost is None else held.cost.astype(origin.dtype)
        most = np.inf if meter.goal.eps is None else size * _safe(meter, meter.goal.eps)
        if norm is LINF and most < np.inf:
            # A box within a box is a box: projecting is one step then.
            side = np.asarray(most if cost is None else most / cost, origin.dtype)
            low = np.maximum(low, origin - side)
            high = np.minimum(high, origin + side)
        limits = np.full(len(places), most, origin.dtype)
        return cls(norm, origin, low.astype(origin.dtype), high.astype(origin.dtype), limits, cost)

    @classmethod
    def within(cls, meter: Meter, places: Array, size: float = 1.0) -> Region:
        """The same for an attack that needs an epsilon. Raises InputError `attack.bad_eps`."""
        if meter.goal.eps is None:
            raise InputError(
                "attack.bad_eps",
                "The attack looks within an epsilon, and none was given.",
                "Give --eps, or choose an attack that minimises.",
            )
        return cls.around(meter, places, size)

    def take(self, rows: Array) -> Region:
        """The same for some of the rows: their places here, or a mask."""
        kept = (self.origin[rows], self.low[rows], self.high[rows], self.eps[rows])
        return Region(self.norm, *kept, self.cost)

    def project(self, rows: Array) -> Array:
        """The nearest points in the region; for l2, near ones."""
        if self.norm is not LINF and len(rows) and self.eps[0] < np.inf:
            delta = self.weighed(rows - self.origin)
            if self.norm.name == "l1":
                delta = self._project_l1(delta)
            else:
                delta = self.norm.project(delta, self.eps)
            rows = self.origin + self.unweighed(delta)
        return np.clip(rows, self.low, self.high)

    def steepest(self, gradient: Array) -> Array:
        """The step of length 1 that climbs most."""
        found = self.norm.steepest(self.unweighed(gradient))
        return self.unweighed(found).astype(gradient.dtype, copy=False)

    def draw(self, rng: np.random.Generator) -> Array:
        """One random point for each row."""
        noise = self.norm.noise(rng, *self.origin.shape).astype(self.origin.dtype)
        return self.project(self.origin + self.unweighed(noise * self.eps[:, None]))

    def edge(self, rng: np.random.Generator) -> Array:
        """One random point for each row, as far from its sample as it may be; with linf a corner,
        where networks that are linear in pieces are mostly at their worst."""
        if self.norm is LINF:
            return np.where(rng.random(self.origin.shape) < 0.5, self.low, self.high)
        drawn = rng.standard_normal(self.origin.shape).astype(self.origin.dtype)
        return self.project(
            self.origin + drawn * (2 * self.eps / self.norm.distance(drawn))[:, None]
        )

    def weighed(self, delta: Array) -> Array:
        return delta if self.cost is None else delta * self.cost

    def unweighed(self, delta: Array) -> Array:
        return delta if self.cost is None else delta / self.cost

    def _project_l1(self, delta: Array) -> Array:
        """Onto the ball and the box at once, for few features are far from their bounds.

        What is left of each feature shrinks by one number a row, and is cut at its bound. The sum
        is linear in that number between the places where a feature vanishes or leaves its bound.
        Source: Croce and Hein 2021, Mind the Box, proposition 2.1.
        """
        size = np.abs(delta)
        room = np.where(delta > 0, self.high - self.origin, self.origin - self.low)
        room = self.weighed(room)
        ends = np.concatenate([size, size - room], axis=1)
        sign = np.ones(ends.shape, np.int64)
        sign[:, size.shape[1] :] = -1
        order = np.argsort(-ends, axis=1)
        ends, sign = np.take_along_axis(ends, order, 1), np.take_along_axis(sign, order, 1)
        count, total = sign.cumsum(axis=1), (sign * ends).cumsum(axis=1, dtype=np.float64)
        most = self.eps[:, None]
        last = np.maximum((total - ends * count <= most).sum(axis=1) - 1, 0)[:, None]
        slope = np.take_along_axis(count, last, 1)
        cut = (np.take_along_axis(total, last, 1) - most) / np.maximum(slope, 1)
        cut = np.where(np.minimum(size, room).sum(axis=1, keepdims=True) <= most, 0.0, cut)
        kept = np.clip(size - np.maximum(cut, 0.0), 0.0, room)
        return np.asarray((np.sign(delta) * kept).astype(delta.dtype))


def _safe(meter: Meter, eps: float) -> float:
    """Epsilon, less what rounding may add to it where that is more than the meter's slack."""
    domain = meter.domain
    largest = float(np.abs([domain.low, domain.high]).max())
    seen = domain.dtype if domain.dtype.kind == "f" else domain.work_dtype
    # Adding to a feature rounds by half of what its neighbours are apart.
    error = float(np.spacing(np.asarray(largest, seen))) / 2
    error *= {"l2": domain.width**0.5, "l1": domain.width}.get(meter.goal.norm.name, 1.0)
    return eps if error <= reach(eps) - eps else max(eps - error, 0.0)
