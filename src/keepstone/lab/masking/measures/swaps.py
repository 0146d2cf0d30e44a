"""Whether a sample can be turned into another class at all, within its domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.masking.port import Meters, NotEvaluated
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
        order = np.argsort(meter.y, kind="stable")
        first = np.searchsorted(meter.y[order], meter.y)
        alike = np.searchsorted(meter.y[order], meter.y, side="right") - first
        if (alike == len(order)).all():
            raise NotEvaluated("the target is right about samples of one class only")
        for _ in range(self.tries):
            at = meter.standing()
            if not at.size:
                break
            # One of those in order that are not alike: behind them from where they begin.
            drawn = rng.integers(len(order) - alike[at])
            other = order[np.where(drawn < first[at], drawn, drawn + alike[at])]
            meter.ask(at, meter.x[other])
        return meter.broken


SWAPS = Swaps()
