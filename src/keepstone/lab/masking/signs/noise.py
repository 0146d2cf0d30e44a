"""Random noise does as well as the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keepstone.lab.masking.measures.gradients import GRADIENTS
from keepstone.lab.masking.measures.steps import STEPS, Stepped
from keepstone.lab.masking.port import Measure, Reading, Weight, exceeds
from keepstone.lab.masking.subject import Subject


@dataclass(frozen=True, slots=True)
class Noise:
    """A quarter of epsilon along the gradient helps no more than the best of 8 random steps of
    that length, on too many samples.

    Proves: no attack by that gradient does better than chance. Cost: 36 queries. Blind to a
    gradient that is good near the sample and bad further on.
    """

    limit: float = 0.25
    name: ClassVar[str] = "noise_as_good"
    source: ClassVar[str] = "Athalye et al. 2018, section 3.1; Carlini et al. 2019 (random noise)"
    weight: ClassVar[Weight] = Weight.PROVES

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (GRADIENTS, STEPS)

    def read(self, subject: Subject) -> Reading:
        found: Stepped = subject.of(STEPS)
        at = STEPS.parts.index(0.25)
        as_good = found.elsewhere[:, :, at].max(axis=1) >= found.along[:, at]
        hits, count = int(as_good.sum()), len(as_good)
        return Reading(
            exceeds(hits, count, self.limit),
            hits / count,
            f"a random step helps as much as the gradient's on {hits} of {count} samples",
        )
