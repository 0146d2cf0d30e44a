"""The softmax is saturated: cross-entropy sees no error, though the scores have a slope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keepstone.lab.masking.measures.gradients import GRADIENTS, Found
from keepstone.lab.masking.port import Measure, Reading, Weight, exceeds
from keepstone.lab.masking.signs.vanishing import useless
from keepstone.lab.masking.subject import Subject


@dataclass(frozen=True, slots=True)
class Saturation:
    """Cross-entropy has no gradient where the margin has one, on too many samples.

    Hints: attacks on cross-entropy overstate this model, those on margins or DLR need not. Cost:
    shared. Blind to a margin that is lost as well, which `vanishing_gradient` sees.
    """

    limit: float = 0.05
    name: ClassVar[str] = "saturated_softmax"
    source: ClassVar[str] = "Carlini and Wagner 2017 (defensive distillation); Croce and Hein 2020"
    weight: ClassVar[Weight] = Weight.HINTS

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (GRADIENTS,)

    def read(self, subject: Subject) -> Reading:
        found: Found = subject.of(GRADIENTS)
        blind = useless(found.cross_entropy) & ~useless(found.margin)
        hits, count = int(blind.sum()), len(blind)
        return Reading(
            exceeds(hits, count, self.limit),
            hits / count,
            f"cross-entropy has no gradient on {hits} of {count} samples that have one",
        )
