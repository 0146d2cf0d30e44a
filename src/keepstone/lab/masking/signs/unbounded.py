"""An attack without a bound does not reach everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.contract.validate import Array
from keepstone.lab.masking.measures.descent import Ladder
from keepstone.lab.masking.measures.swaps import SWAPS
from keepstone.lab.masking.port import Measure, NotEvaluated, Reading, Weight, exceeds
from keepstone.lab.masking.subject import Subject

LADDER = Ladder()


@dataclass(frozen=True, slots=True)
class Unbounded:
    """Some samples stay unbroken when any input may be given for them, and another sample of
    another class would do.

    Proves: the search fails where success is certain. Cost: 75 queries for the ladder of radii,
    and 3 to know that success is possible. Blind to a gradient that is only good far away.
    """

    limit: float = 0.05
    name: ClassVar[str] = "unbounded_fails"
    source: ClassVar[str] = (
        "Athalye et al. 2018, section 3.1; Carlini et al. 2019; Pintor et al. 2022"
        " (unconstrained attack failure)"
    )
    weight: ClassVar[Weight] = Weight.PROVES

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (SWAPS, LADDER)

    def read(self, subject: Subject) -> Reading:
        possible: Array = subject.of(SWAPS)
        if not possible.any():
            raise NotEvaluated("no sample can be turned into one of another class at all")
        broken: Array = subject.of(LADDER)[1][-1]
        hits, count = int((~broken & possible).sum()), int(possible.sum())
        value = float(np.mean(~broken[possible]))
        return Reading(
            exceeds(hits, count, self.limit),
            value,
            f"{hits} of {count} samples stood an attack that may change anything",
        )
