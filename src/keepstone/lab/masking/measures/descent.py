"""A small attack by gradient: enough to break what a model with honest gradients lets break."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.losses import Loss, cross_entropy, margin
from keepstone.lab.masking.port import Meters
from keepstone.lab.masking.subject import Subject
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import Capability

# Parts of epsilon, at the first step and at the last.
_STEPS = (1.0, 0.05)


def finite(values: Array) -> Array:
    """What cannot be computed with is no direction."""
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def descend(meter: Meter, rng: np.random.Generator, loss: Loss, steps: int) -> None:
    """Projected gradient descent from a random start, its steps shrinking, by `steps` queries."""
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
            _, weights = loss(found.scores, meter.y[at])
        gradient = finite(found.vjp(finite(weights)))
        moved = rows[at] - meter.x[at] + (size * norm.steepest(gradient)).astype(rows.dtype)
        rows[at] = domain.fit(meter.x[at] + norm.project(moved, eps), meter.x[at])
    at = meter.standing()
    if at.size:
        meter.ask(at, rows[at])


@dataclass(frozen=True, slots=True)
class Descent:
    """`steps` of cross-entropy, then as many of the margin. Gives which samples it broke.

    Source: Madry et al. 2018; the two losses because cross-entropy alone saturates (Carlini and
    Wagner 2017).
    """

    steps: int = 25
    name: ClassVar[str] = "descent"
    needs: ClassVar[Capability] = Capability.GRADIENT

    @property
    def cost(self) -> int:
        return 2 * self.steps

    def take(self, subject: Subject, meters: Meters, rng: np.random.Generator) -> Array:
        meter = meters(subject.eps, 2 * self.steps)
        for loss in (cross_entropy, margin):
            descend(meter, rng, loss, self.steps)
        return meter.broken


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
