"""Projected gradient descent: small steps along the steepest direction, back within epsilon each.

Cost: `iterations` queries with gradients for a sample and restart, and one for where they end.
The first restart begins at a random point (or at the sample, see `random`), the others always do; a
sample that falls is dropped at once. `momentum` above zero adds up normalised gradients instead
(MI-FGSM).

Source: Madry et al. 2018, arXiv 1706.06083; Dong et al. 2018, arXiv 1710.06081 for momentum. Blind
spots: one step size for all rows. Too long or too short, it overstates robustness, and says
nothing of it; APGD finds more for the same queries. Masked gradients mislead it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.attacks.evasion.region import Region
from keepstone.lab.attacks.port import Source
from keepstone.lab.losses import Loss, cross_entropy
from keepstone.lab.meter import Meter
from keepstone.lab.targets.port import Capability


@dataclass(frozen=True, slots=True)
class Pgd:
    """`step` is the share of epsilon that one iteration goes, None: 2.5 / iterations."""

    iterations: int = 40
    restarts: int = 1
    step: float | None = None
    momentum: float = 0.0
    random: bool = True
    loss: Loss = cross_entropy
    name: ClassVar[str] = "pgd"
    source: ClassVar[Source] = Source("arXiv:1706.06083", "AML.T0043.000")
    needs: ClassVar[Capability] = Capability.GRADIENT
    norms: ClassVar[frozenset[str]] = frozenset({"linf", "l2", "l1"})
    minimizes: ClassVar[bool] = False

    def run(self, meter: Meter, rng: np.random.Generator) -> None:
        for turn in range(self.restarts):
            places = meter.standing()
            if not len(places):
                return
            self._descend(meter, places, rng, random=self.random or turn > 0)

    def _descend(
        self, meter: Meter, places: Array, rng: np.random.Generator, *, random: bool
    ) -> None:
        region = Region.within(meter, places)
        rows = region.draw(rng) if random else region.origin
        length = 2.5 / self.iterations if self.step is None else self.step
        heading = np.zeros_like(rows)
        for _ in range(self.iterations):
            answers = meter.linearize(places, rows)
            _, weights = self.loss(answers.scores, meter.y[places])
            gradient = answers.vjp(weights)
            if self.momentum:
                size = np.abs(gradient).sum(axis=1, keepdims=True)
                heading = self.momentum * heading + gradient / np.where(size > 0, size, 1)
                gradient = heading
            rows = region.project(rows + length * region.eps[:, None] * region.steepest(gradient))
            going = ~meter.broken[places] & (meter.left[places] > 0)
            places, rows, heading = places[going], rows[going], heading[going]
            region = region.take(going)
            if not len(places):
                return
        meter.ask(places, rows)
