"""The gradient is not that of the scores that are served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepstone.lab.masking.measures.differences import Compared, Differences
from keepstone.lab.masking.port import Measure, NotEvaluated, Reading, Weight, exceeds
from keepstone.lab.masking.subject import Subject

# Both nearer than any attack steps, one near enough for a model that is not smooth far out, one
# far enough for a model that changes by jumps.
NEAR, FAR = Differences(0.002), Differences(0.02)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """In random directions, near the sample and a little further, the margin moves otherwise
    than the gradient says, on too many samples. `agreement` is the cosine that is enough.

    Proves: straight-through, detached and shattered gradients, and noise in them. Cost: 16
    queries at each distance. Blind to a gradient that is right here and leads nowhere.
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
        return (NEAR, FAR)

    def read(self, subject: Subject) -> Reading:
        worst: tuple[float, int, int] | None = None
        seen = False
        for measure in (NEAR, FAR):
            compared: Compared = subject.of(measure)
            cosine = compared.agreement()
            told = ~np.isnan(cosine)
            hits, count = int((cosine[told] < self.agreement).sum()), int(told.sum())
            if count:
                seen = seen or exceeds(hits, count, self.limit)
                worst = max(worst or (-1.0, 0, 0), (hits / count, hits, count))
        if worst is None:
            raise NotEvaluated("the scores do not change near any sample")
        value, hits, count = worst
        return Reading(
            seen, value, f"the served scores do not move as the gradient says on {hits} of {count}"
        )
