"""One step breaks what many steps do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keepstone.lab.masking.measures.descent import DIRECT, standing
from keepstone.lab.masking.measures.gradients import GRADIENTS
from keepstone.lab.masking.measures.steps import STEPS, Stepped
from keepstone.lab.masking.port import Measure, Reading, Weight, exceeds
from keepstone.lab.masking.subject import Subject


@dataclass(frozen=True, slots=True)
class OneStep:
    """A single step of epsilon, along the gradient or in a random direction, breaks too many of
    the samples that the attack of many steps left.

    Proves: iterating made the attack worse. Cost: shared with `noise_as_good`. Blind to a first
    step that fails as well.
    """

    limit: float = 0.02
    name: ClassVar[str] = "one_step_better"
    source: ClassVar[str] = "Athalye et al. 2018, section 3.1; Carlini et al. 2019"
    weight: ClassVar[Weight] = Weight.PROVES

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (DIRECT, GRADIENTS, STEPS)

    def read(self, subject: Subject) -> Reading:
        found: Stepped = subject.of(STEPS)
        broken = (found.stepped | found.scattered) & standing(subject)
        hits, count = int(broken.sum()), len(broken)
        return Reading(
            exceeds(hits, count, self.limit),
            hits / count,
            f"one step broke {hits} of {count} samples that stood the attack of many",
        )
