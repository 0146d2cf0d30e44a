"""A small attack by gradient: enough to break what a model with honest gradients lets break."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.domain import Domain
from keepstone.lab.losses import Loss, cross_entropy, margin
from keepstone.lab.masking.port import Meters
from keepstone.lab.masking.subject import Subject
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import Capability

# Parts of epsilon, at the first step and at the last.
_STEPS = (1.0, 0.05)
_NUDGE = 1e-3


def finite(values: Array) -> Array:
    """What cannot be computed with is no direction."""
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def descend(
    meter: Meter, rng: np.random.Generator, loss: Loss, steps: int, wanted: Array | None = None
) -> None:
    """Projected gradient descent from a random start, its steps shrinking, by `steps` queries.

    With `wanted` (n,) it climbs to those classes, whatever the loss.
    """
    eps, norm, domain = meter.goal.eps, meter.goal.norm, meter.domain
    assert eps is not None
    drawn = norm.noise(rng, *meter.x.shape) * eps
    rows = domain.fit(meter.x + drawn.astype(meter.x.dtype), meter.x)
    for size in eps * np.geomspace(*_STEPS, max(1, steps - 1)):
        at = meter.standing(2)
        if not at.size:
            break
        found = meter.linearize(at, rows[at])
        with np.errstate(all="ignore"):
            if wanted is None:
                _, weights = loss(found.scores, meter.y[at])
            else:
                weights = _towards(found.scores, meter.y[at], wanted[at])
        gradient = finite(found.vjp(finite(weights)))
        gradient = within(domain, rows[at], meter.x[at], gradient)
        moved = rows[at] - meter.x[at] + (size * norm.steepest(gradient)).astype(rows.dtype)
        rows[at] = domain.fit(meter.x[at] + norm.project(moved, eps), meter.x[at])
    at = meter.standing()
    if at.size:
        meter.ask(at, rows[at])


def _towards(scores: Array, labels: Array, wanted: Array) -> Array:
    """The weights of a wanted class's score less the right one's."""
    weights = np.zeros_like(scores)
    rows = np.arange(len(scores))
    weights[rows, wanted] = 1
    weights[rows, labels] = -1
    return weights


def within(domain: Domain, rows: Array, origin: Array, gradient: Array) -> Array:
    """The gradient without the features that cannot follow it: at an end of their range, or held.

    Else a step that is measured over all of them is spent on those.
    """
    span = (domain.high - domain.low).astype(rows.dtype)
    push = np.maximum(1.0, span) if domain.dtype.kind in "iu" else span * _NUDGE
    moved = domain.fit(rows + np.sign(gradient) * push.astype(rows.dtype), origin)
    return np.where(moved == rows, 0, gradient)


@dataclass(frozen=True, slots=True)
class Descent:
    """`steps` of cross-entropy, as many of the margin, and `steps_to` towards each of the `goals`
    classes that come next. Gives which samples it broke.

    Source: Madry et al. 2018; the margin because cross-entropy saturates (Carlini and Wagner
    2017), and goals because the class that is next at the sample need not be the nearest (Gowal
    et al. 2019).
    """

    steps: int = 25
    goals: int = 3
    steps_to: int = 15
    name: ClassVar[str] = "descent"
    needs: ClassVar[Capability] = Capability.GRADIENT

    @property
    def cost(self) -> int:
        return 2 * self.steps + self.goals * self.steps_to

    def take(self, subject: Subject, meters: Meters, rng: np.random.Generator) -> Array:
        meter = meters(subject.eps, self.cost)
        for loss in (cross_entropy, margin):
            descend(meter, rng, loss, self.steps)
        for wanted in self.goals_of(subject):
            descend(meter, rng, margin, self.steps_to, wanted)
        return meter.broken

    def goals_of(self, subject: Subject) -> list[Array]:
        """For each sample the class that comes second by its scores, the third, and so on."""
        if subject.scores is None:
            return []
        others = finite(subject.scores).copy()
        others[np.arange(len(others)), subject.y] = -np.inf
        order = np.argsort(-others, axis=1, kind="stable")
        return [order[:, place] for place in range(min(self.goals, order.shape[1] - 1))]


@dataclass(frozen=True, slots=True)
class Ladder:
    """The same with the margin alone, within half of epsilon, epsilon, and up to the whole range.

    Gives the radii, and for each of them which samples were broken `(radii, n)`.
    """

    rungs: int = 4
    steps: int = 15
    name: ClassVar[str] = "ladder"
    needs: ClassVar[Capability] = Capability.GRADIENT

    @property
    def cost(self) -> int:
        return (self.rungs + 1) * self.steps

    def take(
        self, subject: Subject, meters: Meters, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        whole = subject.radius()
        first = min(subject.eps, whole)
        radii = np.array([first / 2, *np.geomspace(first, whole, self.rungs)])
        broken = []
        for radius in radii:
            meter = meters(float(radius), self.steps)
            descend(meter, rng, margin, self.steps)
            broken.append(meter.broken)
        return radii, np.stack(broken)


def standing(subject: Subject) -> Array:
    """Which samples stand after an attack by gradient: the one told of, or our own."""
    if subject.handed is not None:
        return subject.handed
    return np.asarray(~subject.of(DIRECT))


DIRECT = Descent()
