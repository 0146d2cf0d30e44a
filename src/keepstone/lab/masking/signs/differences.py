"""The gradient is not that of the scores that are served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.lab.masking.measures.differences import DIFFERENCES, Compared
from keepstone.lab.masking.measures.gradients import GRADIENTS
from keepstone.lab.masking.port import Measure, NotEvaluated, Reading, Weight, exceeds
from keepstone.lab.masking.subject import Subject


@dataclass(frozen=True, slots=True)
class Disagreement:
    """In random directions the margin moves otherwise than the gradient says, on too many of the
    samples at which anything moves. `agreement` is the cosine that is enough.

    Proves: straight-through, detached and shattered gradients, and noise in them. Cost: 16
    queries. Blind to a gradient that is right here and leads nowhere.
    """

    limit: float = 0.2
    agreement: float = 0.5
    name: ClassVar[str] = "finite_differences"
    source: ClassVar[str] = (
        "Athalye et al. 2018 (shattered gradients); Carlini et al. 2019 (gradients"
        " verified by finite differences); Pintor et al. 2022 (unavailable gradients)"
    )
    weight: ClassVar[Weight] = Weight.PROVES

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (GRADIENTS, DIFFERENCES)

    def read(self, subject: Subject) -> Reading:
        compared: Compared = subject.of(DIFFERENCES)
        cosine = compared.agreement()
        told = ~np.isnan(cosine)
        hits, count = int((cosine[told] < self.agreement).sum()), int(told.sum())
        if not count:
            raise NotEvaluated("the scores change near no sample")
        return Reading(
            exceeds(hits, count, self.limit),
            hits / count,
            f"the served scores move otherwise than the gradient says on {hits} of {count} samples",
        )
