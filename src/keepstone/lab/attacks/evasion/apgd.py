"""Auto-PGD: projected gradient ascent with momentum that shortens its own steps.

Promise: no step size to choose. A row starts with steps of twice epsilon; at checkpoints that grow
denser its step is halved, and it goes back to its best point, if it climbed too seldom or not at
all. Works with cross-entropy, or towards each of the likeliest wrong classes with the difference
of logits ratio, which no rescaling of the scores changes. With l1 steps are sparse, and a climb
comes to its ball through those of three and of two times epsilon.

Source: Croce and Hein 2020, arXiv 2003.01690 (APGD-CE, targeted APGD-DLR); for l1, Croce and Hein
2021, arXiv 2103.01208.

Cost: one query with its gradient for each iteration, restart and class; a sample that falls is
dropped at once. Blind spots: gradients that vanish, are random or are masked mislead it, as they
do all of its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.region import Region
from keepstone.lab.attacks.port import Source
from keepstone.lab.losses import cross_entropy, targeted_dlr
from keepstone.lab.meter import Meter
from keepstone.lab.norms import L1, Norm
from keepstone.lab.targets.port import Capability

PAPER = Source("arXiv:2003.01690", "AML.T0043.000")
# Of scores, labels and wanted classes: the loss and its gradient by the scores.
Climbing = Callable[[Array, Array, Array], tuple[Array, Array]]

_RHO = 0.75
_MOMENTUM = 0.75
# Checkpoints as shares of all iterations: the first gap, by how much gaps shrink, the least gap.
_FIRST, _SHRINK, _LEAST = 0.22, 0.03, 0.06
# With l1: the share of features that the first steps move, and by how much steps shrink.
_SPARSE, _L1_SHRINK, _L1_LEAST = 0.2, 1.5, 0.1
# With l1: the larger balls that come first, in epsilons, and their shares of the iterations.
_INWARDS = ((3.0, 0.3), (2.0, 0.3))


def untargeted_ce(scores: Array, labels: Array, wanted: Array) -> tuple[Array, Array]:
    return cross_entropy(scores, labels)


@dataclass(frozen=True, slots=True)
class Ball:
    """Where a climb goes: within `size` times epsilon. With l1, a `warm` one goes on from where
    another ended: as many features move at first as differ there."""

    size: float = 1.0
    warm: bool = False


_PLAIN = Ball()

# Of a row's place in what was started, and its scores: called after each answer.
Watch = Callable[[Array, Array], None]


def climb(
    meter: Meter,
    places: Array,
    wanted: Array,
    start: Array,
    loss: Climbing,
    iterations: int,
    watch: Watch | None = None,
    ball: Ball = _PLAIN,
) -> Array:
    """Climb `loss` from `start` `(m, d)` for the samples of `places` `(m,)`, each of which may come
    several times with different `wanted` `(m,)` classes.

    Returns the point of the greatest loss that each row came to. Rows of samples that are broken,
    or have no queries left for all their rows, are dropped on the way. Costs a query for each
    iteration; `watch` sees the scores. `ball` is another one than epsilon's.
    """
    state = _Climb.of(meter, places, wanted, start, ball)
    reached = start.copy()
    checkpoints = _checkpoints(iterations, meter.goal.norm)
    for at in range(iterations):
        state.keep(_going(meter, state.places), reached)
        if not len(state.places):
            break
        answers = meter.linearize(state.places, state.now)
        if watch is not None:
            watch(state.ids, answers.scores)
        value, weights = loss(answers.scores, meter.y[state.places], state.wanted)
        if at == iterations - 1:
            state.note(value)
            break
        state.note(value, answers.vjp(weights))
        if at in checkpoints:
            state.adapt(checkpoints[at])
        state.advance()
    state.keep(np.zeros(len(state.places), bool), reached)
    return reached


def climb_inwards(
    meter: Meter, places: Array, wanted: Array, start: Array, loss: Climbing, iterations: int
) -> Array:
    """The same; with l1 first in balls of three and of two times epsilon, from whose ends the
    climb in the last one starts: few features differ there already.

    Source: Croce and Hein 2021, Mind the Box.
    """
    if meter.goal.norm is not L1 or not len(places):
        return climb(meter, places, wanted, start, loss, iterations)
    # What the budget does not last for would be missing where it counts, at the end.
    rows = np.bincount(places, minlength=len(meter.y))[places]
    left = iterations = min(iterations, int((meter.left[places] // rows).max()))
    for size, part in _INWARDS:
        some = int(part * iterations)
        start = climb(meter, places, wanted, start, loss, some, ball=Ball(size, warm=True))
        left -= some
    return climb(meter, places, wanted, start, loss, left, ball=Ball(warm=True))


def first_points(meter: Meter, places: Array, rng: np.random.Generator) -> Array:
    """A random point for each row, in the ball that `climb_inwards` begins in."""
    size = _INWARDS[0][0] if meter.goal.norm is L1 else 1.0
    return Region.within(meter, places, size).draw(rng)


def _going(meter: Meter, places: Array) -> Array:
    """Which rows' samples stand, and can be asked once for each of their rows."""
    rows = np.bincount(places, minlength=len(meter.y))
    return np.asarray((~meter.broken & (meter.left >= rows))[places])


def _checkpoints(iterations: int, norm: Norm) -> dict[int, int]:
    """After which iterations steps adapt, and how many those are since the last time."""
    if norm is L1:
        gap = max(1, int(0.04 * iterations))
        return dict.fromkeys(range(gap, iterations, gap), gap)
    gap, found, at = max(1, int(_FIRST * iterations)), {}, 0
    while (at := at + gap) < iterations:
        found[at] = gap
        gap = max(gap - max(1, int(_SHRINK * iterations)), max(1, int(_LEAST * iterations)))
    return found


@dataclass(slots=True)
class _Climb:
    """Rows on their way up: every array has one element for each that still goes."""

    region: Region
    ids: Array
    places: Array
    wanted: Array
    now: Array
    before: Array
    slope: Array
    step: Array
    best: Array
    best_slope: Array
    best_loss: Array
    last_loss: Array
    # Since the last checkpoint: how often the loss rose, and what the best was then.
    rises: Array
    checked_loss: Array
    halved: Array
    # With l1: the share of features that a step moves, and how many differ at the best point.
    share: Array
    support: Array
    started: bool = False

    @classmethod
    def of(
        cls, meter: Meter, places: Array, wanted: Array, start: Array, ball: Ball = _PLAIN
    ) -> _Climb:
        region = Region.within(meter, places, ball.size)
        count, width = start.shape
        l1 = region.norm is L1
        step = region.eps[:, None] * (1 if l1 else 2)
        low = np.full(count, -np.inf, start.dtype)
        share, support = np.full(count, _SPARSE), np.full(count, width)
        if ball.warm:
            start = region.project(start)
            support = (start != region.origin).sum(axis=1)
            share = support / width / _L1_SHRINK
        return cls(
            region, np.arange(count), places, wanted,
            start, start, start, step, start.copy(), start.copy(),
            low, low, np.zeros(count, np.int64), low, np.zeros(count, bool),
            share, support,
        )  # fmt: skip

    def keep(self, going: Array, reached: Array) -> None:
        """Go on with some of the rows; where the others came to is written to `reached`."""
        if going.all():
            return
        reached[self.ids[~going]] = self.best[~going]
        self.region = self.region.take(going)
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, np.ndarray):
                setattr(self, one.name, value[going])

    def note(self, loss: Array, slope: Array | None = None) -> None:
        """The loss at each row's point, and its gradient there."""
        self.rises = self.rises + (loss > self.last_loss)
        self.last_loss = loss
        better = loss > self.best_loss
        self.best_loss = np.where(better, loss, self.best_loss)
        self.best[better] = self.now[better]
        if slope is not None:
            self.slope = slope
            self.best_slope[better] = slope[better]

    def adapt(self, gap: int) -> None:
        """At a checkpoint: shorter steps, from the best point, for rows that do not climb."""
        if self.region.norm is L1:
            self._adapt_l1()
            return
        stuck = (self.rises <= _RHO * gap) | (~self.halved & (self.checked_loss >= self.best_loss))
        self.step = np.where(stuck[:, None], self.step / 2, self.step)
        self._go_back(stuck)
        self.halved, self.checked_loss = stuck, self.best_loss
        self.rises = np.zeros_like(self.rises)

    def advance(self) -> None:
        """One step up, with some of the last step added."""
        direction = self._sparse() if self.region.norm is L1 else self.region.steepest(self.slope)
        new = self.region.project(self.now + self.step * direction)
        if self.started and self.region.norm is not L1:
            ahead = self.now + _MOMENTUM * (new - self.now)
            new = self.region.project(ahead + (1 - _MOMENTUM) * (self.now - self.before))
        self.before, self.now, self.started = self.now, new, True

    def _go_back(self, rows: Array) -> None:
        self.now = np.where(rows[:, None], self.best, self.now)
        self.slope = np.where(rows[:, None], self.best_slope, self.slope)

    def _adapt_l1(self) -> None:
        """Fewer features move as fewer differ; while that goes on, steps stay long."""
        eps = self.region.eps[:, None]
        support = (self.best != self.region.origin).sum(axis=1)
        sparser = support < 0.95 * self.support
        self.share = support / self.best.shape[1] / _L1_SHRINK
        shorter = np.maximum(self.step / _L1_SHRINK, eps * eps.dtype.type(_L1_LEAST))
        self.step = np.where(sparser[:, None], eps, shorter)
        self.support = support
        self._go_back(sparser)

    def _sparse(self) -> Array:
        """The signs of the gradient's largest elements, of length 1."""
        size = np.abs(self.region.unweighed(self.slope))
        width = size.shape[1]
        moving = np.rint(self.share * width).astype(np.int64)
        least = width - np.clip(moving, 1, width)
        cut = np.take_along_axis(np.sort(size, axis=1), least[:, None], axis=1)
        moved = np.sign(self.slope) * (size >= cut)
        moved /= np.maximum(np.abs(moved).sum(axis=1, keepdims=True), 1)
        return self.region.unweighed(moved).astype(self.slope.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class ApgdCe:
    """Auto-PGD on the cross-entropy, from `restarts` random points."""

    iterations: int = 100
    restarts: int = 1
    name: ClassVar[str] = "apgd-ce"
    source: ClassVar[Source] = PAPER
    needs: ClassVar[Capability] = Capability.GRADIENT
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2", "l1"})
    minimizes: ClassVar[bool] = False

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        for _ in range(self.restarts):
            places = meter.standing()
            start = first_points(meter, places, rng)
            climb_inwards(meter, places, meter.y[places], start, untargeted_ce, self.iterations)


@dataclass(frozen=True, slots=True)
class ApgdTargeted:
    """Auto-PGD on the targeted difference of logits ratio, towards each of the `targets` classes
    that are likeliest at the sample, one after the other."""

    iterations: int = 100
    targets: int = 9
    name: ClassVar[str] = "apgd-t"
    source: ClassVar[Source] = PAPER
    needs: ClassVar[Capability] = Capability.GRADIENT
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2", "l1"})
    minimizes: ClassVar[bool] = False

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        places = meter.standing()
        answers = meter.linearize(places, meter.x[places])
        scores = answers.scores.copy()
        scores[np.arange(len(places)), meter.y[places]] = -np.inf
        order = np.zeros((len(meter.y), scores.shape[1]), np.int64)
        order[places] = np.argsort(-scores, axis=1, kind="stable")
        for rank in range(min(self.targets, meter.classes - 1)):
            places = meter.standing()
            start = first_points(meter, places, rng)
            climb_inwards(meter, places, order[places, rank], start, targeted_dlr, self.iterations)
