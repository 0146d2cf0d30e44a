"""Whether a sample can be turned into another class at all, within its domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.masking.port import Meters
from keepstone.lab.masking.subject import Subject
from keepstone.lab.targets.port import Capability


@dataclass(frozen=True, slots=True)
class Swaps:
    """`tries` other samples of other classes in place of each, as near as its constraints let
    them be. Gives which samples were answered otherwise `(n,)`."""

    tries: int = 3
    name: ClassVar[str] = "swaps"
    needs: ClassVar[Capability] = Capability.LABEL

    @property
    def cost(self) -> int:
        return self.tries

    def take(self, subject: Subject, meters: Meters, rng: np.random.Generator) -> Array:
        meter = meters(subject.radius(), self.tries)
        count = len(meter.x)
        for _ in range(self.tries):
            at = meter.standing()
            if not at.size:
                break
            order = rng.permutation(count)
            # The nearest behind it in a random order that has another label.
            other = np.array([_next_unlike(meter.y, order, place) for place in range(count)])
            meter.ask(at, meter.x[other[at]])
        return meter.broken


def _next_unlike(labels: Array, order: Array, place: int) -> int:
    unlike = order[labels[order] != labels[place]]
    return int(unlike[place % len(unlike)]) if len(unlike) else place


SWAPS = Swaps()
