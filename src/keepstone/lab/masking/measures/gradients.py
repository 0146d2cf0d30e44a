"""The gradients at the samples themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.losses import cross_entropy, margin
from keepstone.lab.masking.port import Meters
from keepstone.lab.masking.subject import Subject
from keepstone.lab.targets.port import Capability


@dataclass(frozen=True, slots=True)
class Found:
    """At `n` samples: scores `(n, k)`, the margin's weights for them, and gradients `(n, d)`.

    `again` is the margin's gradient asked a second time, in another order.
    """

    scores: Array
    weights: Array
    margin: Array
    again: Array
    cross_entropy: Array


@dataclass(frozen=True, slots=True)
class Gradients:
    """Of the margin, twice, and of cross-entropy."""

    name: ClassVar[str] = "gradients"
    needs: ClassVar[Capability] = Capability.GRADIENT

    @property
    def cost(self) -> int:
        return 3

    def take(self, subject: Subject, meters: Meters, rng: np.random.Generator) -> Found:
        meter = meters(subject.eps, self.cost)
        count = len(meter.x)
        gradients = []
        scores = weights = np.zeros((count, meter.classes))
        for loss, order in (
            (cross_entropy, np.arange(count)),
            (margin, rng.permutation(count)),
            (margin, np.arange(count)),
        ):
            found = meter.linearize(order, meter.x[order])
            scores = found.scores
            with np.errstate(all="ignore"):
                _, weights = loss(found.scores, meter.y[order])
            back = np.argsort(order)
            gradients.append(found.vjp(weights)[back])
        return Found(scores, weights, gradients[2], gradients[1], gradients[0])


GRADIENTS = Gradients()
