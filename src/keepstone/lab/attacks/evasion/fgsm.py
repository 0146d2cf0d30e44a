"""The fast gradient sign method: one step of length epsilon, in the direction that climbs most.

Cost: two queries a sample, one of them with its gradient: the sample itself, then the far end
of the step. With l2 and l1 the step is the steepest of that norm.

Source: Goodfellow et al. 2015, arXiv 1412.6572. Blind spots: one step is right for a linear model
and weak against any other; what stands against it is no robust accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.lab.attacks.evasion.region import Region
from keepstone.lab.attacks.port import Source
from keepstone.lab.losses import cross_entropy
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import Capability


@dataclass(frozen=True, slots=True)
class Fgsm:
    """It has no parameters: epsilon is the goal's."""

    name: ClassVar[str] = "fgsm"
    source: ClassVar[Source] = Source("arXiv:1412.6572", "AML.T0043.000")
    needs: ClassVar[Capability] = Capability.GRADIENT
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2", "l1"})
    minimizes: ClassVar[bool] = False

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        places = meter.standing(2)
        region = Region.within(meter, places)
        answers = meter.linearize(places, meter.x[places])
        _, weights = cross_entropy(answers.scores, meter.y[places])
        step = region.eps[:, None] * region.steepest(answers.vjp(weights))
        stands = ~meter.broken[places]
        rows = region.project(region.origin + step)[stands]
        meter.ask(places[stands], rows)
