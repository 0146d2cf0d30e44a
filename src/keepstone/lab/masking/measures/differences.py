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
    """`directions` random ones of plus or minus `step` of each feature's range, both ways.

    The margin is that between the two classes that lead at the sample, so that no other class
    bends it.
    """

    step: float
    directions: int = 8
    name: ClassVar[str] = "differences"
    needs: ClassVar[Capability] = Capability.GRADIENT

    @property
    def cost(self) -> int:
        return 2 * self.directions

    def take(self, subject: Subject, meters: Meters, rng: np.random.Generator) -> Compared:
        found: Found = subject.of(GRADIENTS)
        meter = meters(subject.eps, self.cost)
        count, width = meter.x.shape
        every = np.arange(count)
        span = self._span(subject)
        grew, said = [], []
        for _ in range(self.directions):
            push = (rng.choice((-1.0, 1.0), (count, width)) * span).astype(meter.x.dtype)
            ends = [meter.domain.fit(meter.x + way * push, meter.x) for way in (1, -1)]
            answers = [meter.ask(every, rows).scores for rows in ends]
            ahead, behind = answers
            if ahead is None or behind is None:
                raise NotEvaluated("the target served no scores")
            change = (ahead.astype(np.float64) - behind) * found.weights
            grew.append(finite(change).sum(axis=1))
            path = (ends[0] - ends[1]).astype(np.float64)
            said.append((path * finite(found.margin)).sum(axis=1))
        precision = np.finfo(np.result_type(found.scores, np.float32)).eps
        noise = _ROUNDING * precision * np.abs(finite(found.scores)).max(axis=1, keepdims=True)
        return Compared(np.stack(grew, axis=1), np.stack(said, axis=1), noise)

    def _span(self, subject: Subject) -> Array:
        """How far each feature is pushed: whole numbers by one at least."""
        span = self.step * (subject.domain.high - subject.domain.low)
        if subject.domain.dtype.kind in "iu":
            span = np.maximum(np.rint(span), 1.0)
        return np.asarray(span)
