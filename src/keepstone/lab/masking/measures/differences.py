"""Finite differences of the served scores, beside what the gradient says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.masking.measures.descent import finite
from keepstone.lab.masking.measures.gradients import GRADIENTS, Found
from keepstone.lab.masking.port import Meters, NotEvaluated
from keepstone.lab.masking.subject import Subject
from keepstone.lab.targets.port import Capability

# Rounding of scores, in units of their type's precision, that is no difference.
_ROUNDING = 32


@dataclass(frozen=True, slots=True)
class Compared:
    """For `n` samples and `m` directions, how much the margin grew `(n, m)` and how much the
    gradient said it would; `noise` (n, 1) is what rounding alone may show."""

    grew: Array
    said: Array
    noise: Array

    def agreement(self) -> Array:
        """The cosine between the two, for each sample; NaN where nothing changed at all."""
        grew, said = self.grew, self.said
        moved = (np.abs(grew) > self.noise).any(axis=1) | (np.abs(said) > self.noise).any(axis=1)
        size = np.sqrt((grew**2).sum(axis=1) * (said**2).sum(axis=1))
        with np.errstate(divide="ignore", invalid="ignore"):
            cosine = np.where(size > 0, (grew * said).sum(axis=1) / size, 0.0)
        return np.where(moved, cosine, np.nan)


@dataclass(frozen=True, slots=True)
class Differences:
    """`directions` random ones of `part` of epsilon, both ways.

    Near enough for a model that is smooth within epsilon, far enough to meet the jumps of one
    that is not. The margin is that between the two classes that lead at the sample, so that no
    other class bends it.
    """

    part: float = 0.1
    directions: int = 8
    name: ClassVar[str] = "differences"
    needs: ClassVar[Capability] = Capability.GRADIENT

    @property
    def cost(self) -> int:
        return 2 * self.directions

    def take(self, subject: Subject, meters: Meters, rng: np.random.Generator) -> Compared:
        found: Found = subject.of(GRADIENTS)
        meter = meters(subject.eps, self.cost)
        every = np.arange(len(meter.x))
        grew, said = [], []
        for _ in range(self.directions):
            way = subject.norm.steepest(rng.standard_normal(meter.x.shape))
            push = self.part * subject.eps * way
            if subject.domain.dtype.kind in "iu":
                push = np.sign(push) * np.maximum(np.rint(np.abs(push)), 1.0)
            push = push.astype(meter.x.dtype)
            ends = [meter.domain.fit(meter.x + side * push, meter.x) for side in (1, -1)]
            ahead, behind = (meter.ask(every, rows).scores for rows in ends)
            if ahead is None or behind is None:
                raise NotEvaluated("the target served no scores")
            with np.errstate(invalid="ignore"):
                change = (ahead.astype(np.float64) - behind) * found.weights
            grew.append(finite(change).sum(axis=1))
            path = (ends[0] - ends[1]).astype(np.float64)
            said.append((path * finite(found.margin)).sum(axis=1))
        most = np.abs(finite(found.scores)).max(axis=1, keepdims=True)
        noise = _ROUNDING * np.finfo(found.scores.dtype).eps * most
        return Compared(np.stack(grew, axis=1), np.stack(said, axis=1), noise)


DIFFERENCES = Differences()
