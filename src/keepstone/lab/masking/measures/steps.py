"""Single steps: one along the gradient, some in random directions of the same length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.masking.measures.descent import finite, within
from keepstone.lab.masking.measures.gradients import GRADIENTS, Found
from keepstone.lab.masking.port import Meters, NotEvaluated
from keepstone.lab.masking.subject import Subject
from keepstone.lab.targets.port import Capability


@dataclass(frozen=True, slots=True)
class Stepped:
    """The margin's change for each sample and part of epsilon, along the gradient `(n, p)` and
    in each random direction `(n, r, p)`; which samples a whole step broke, the gradient's `(n,)`
    and any random one `(n,)`."""

    along: Array
    elsewhere: Array
    stepped: Array
    scattered: Array


@dataclass(frozen=True, slots=True)
class Steps:
    """`directions` random ones besides the gradient's, each at every part of epsilon."""

    directions: int = 8
    parts: tuple[float, ...] = (-1.0, -0.25, 0.25, 1.0)
    name: ClassVar[str] = "steps"
    needs: ClassVar[Capability] = Capability.GRADIENT

    @property
    def cost(self) -> int:
        return (1 + self.directions) * len(self.parts)

    def take(self, subject: Subject, meters: Meters, rng: np.random.Generator) -> Stepped:
        found: Found = subject.of(GRADIENTS)
        gradient = finite(found.margin)
        changes, broken = [], []
        for turn in range(1 + self.directions):
            meter = meters(subject.eps, len(self.parts))
            every = np.arange(len(meter.x))
            drawn = rng.standard_normal(gradient.shape) if turn else gradient
            line = []
            for part in self.parts:
                side = within(meter.domain, meter.x, meter.x, np.sign(part) * drawn)
                way = abs(part) * subject.eps * subject.norm.steepest(side)
                moved = meter.x + way.astype(meter.x.dtype)
                scores = meter.ask(every, moved).scores
                if scores is None:
                    raise NotEvaluated("the target served no scores")
                change = (scores.astype(np.float64) - found.scores) * found.weights
                line.append(finite(change).sum(axis=1))
            changes.append(np.stack(line, axis=1))
            broken.append(meter.broken)
        scattered = np.asarray(np.stack(broken[1:]).any(axis=0))
        return Stepped(changes[0], np.stack(changes[1:], axis=1), broken[0], scattered)


STEPS = Steps()
