"""Random noise does as well as the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.lab.masking.measures.gradients import GRADIENTS
from keepstone.lab.masking.measures.steps import STEPS, Stepped
from keepstone.lab.masking.port import Measure, Reading, Weight, exceeds
from keepstone.lab.masking.subject import Subject

# Rounding is no help.
_TIE = 1e-5


@dataclass(frozen=True, slots=True)
class Noise:
    """A quarter of epsilon along the gradient helps less than the best of 8 random steps of that
    length, on too many samples.

    A tie counts for the gradient: of two features there are only four corners to step to.

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
        best = found.elsewhere[:, :, at].max(axis=1)
        better = best > found.along[:, at] + _TIE * np.abs(best)
        hits, count = int(better.sum()), len(better)
        return Reading(
            exceeds(hits, count, self.limit),
            hits / count,
            f"a random step helps more than the gradient's on {hits} of {count} samples",
        )
